"""Opening whatever holds a guest's memory: the kind of file is told by its first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.errors import UsageError
from harness.memory.ram import RAM_BASE_PA
from harness.snapshot.core import open_core
from harness.snapshot.flat import checked_registers, open_flat, read_registers
from harness.snapshot.saved import MAGIC, load
from harness.snapshot.snapshot import Snapshot

__all__ = ["open_snapshot"]

_ELF_COMMAND: Final = (
    "make an ELF core instead: `dump-guest-memory guest.core` at QEMU's (qemu) prompt, or over QMP "
    '{"execute": "dump-guest-memory", "arguments": {"paging": false, "protocol": "file:guest.core"}}'
)
_REFUSED: Final = {
    b"KDUMP   ": "a kdump-compressed dump (diskdump), whose pages are compressed one by one",
    b"makedumpfile": "a flattened kdump-compressed dump (makedumpfile -F)",
    b"PAGEDU64": "a Windows crash dump",
}


def open_snapshot(
    path: str | Path,
    *,
    base_pa: int | None = None,
    registers: str | Path | Mapping[str, int] | None = None,
) -> Snapshot:
    """The guest in a saved snapshot, an ELF core of QEMU's `dump-guest-memory`, or a flat dump.

    Arguments: `base_pa`, the physical address of a flat dump's first byte, 0x4000_0000 unless given;
    `registers`, by name, or a JSON file of them, in place of those worked out from VMCOREINFO. The
    snapshot is a context manager that holds a map of the file; `notes` says what was assumed. Raises
    UsageError for a file that is none of these, or is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}") from error
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise UsageError(f"{path} is {what}, which granule does not read: {_ELF_COMMAND}")
    is_saved, is_elf = head.startswith(MAGIC), head.startswith(b"\x7fELF")
    if base_pa is not None and (is_saved or is_elf):
        raise UsageError(f"{path} says itself where its memory is: a base address is for flat dumps")
    if is_saved:
        if registers is not None:
            raise UsageError(f"{path} is a saved snapshot, which has registers of its own")
        return load(path)
    given = _given(registers)
    if is_elf:
        return open_core(path, given)
    return open_flat(path, RAM_BASE_PA if base_pa is None else base_pa, given)


def _given(registers: str | Path | Mapping[str, int] | None) -> tuple[Mapping[str, int], ...]:
    if registers is None:
        return ()
    if isinstance(registers, Mapping):
        return (checked_registers(dict(registers), "the registers that were given"),)
    return read_registers(Path(registers))
