"""Flat dumps: physical memory from one address on and nothing else, as QEMU's `pmemsave` writes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.errors import UsageError
from harness.linux.foreign import describe_foreign
from harness.memory.mapped import Extent, MappedMemory
from harness.memory.ram import RAM_BASE_PA
from harness.snapshot.inferred import infer
from harness.snapshot.snapshot import Snapshot, Vcpu

__all__ = ["open_flat", "read_registers"]

MAX_REGISTERS_BYTES: Final = 4 << 20
MAX_VCPUS: Final = 4096
_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_]{0,63}")


def open_flat(
    path: Path, base_pa: int = RAM_BASE_PA, registers: tuple[Mapping[str, int], ...] = ()
) -> Snapshot:
    """The snapshot in a flat dump whose first byte is at `base_pa`; close it when done.

    `registers` are those of each vCPU; without them the kernel's are worked out from VMCOREINFO. Raises
    UsageError where the file cannot be mapped, and where there are no registers to be had.
    """
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if not size_bytes:
        raise UsageError(f"{path} is empty: that is no dump of a guest's memory")
    with contextlib.ExitStack() as on_failure:
        memory = MappedMemory(path, [Extent(base_pa=base_pa, offset_bytes=0, size_bytes=size_bytes)])
        on_failure.callback(memory.close)
        notes: tuple[str, ...] = (f"a flat dump, taken to begin at the physical address {base_pa:#x}",)
        provenance: dict[str, str] = {}
        if registers:
            notes = (*notes, "the registers are those that were given")
        else:
            found = infer(memory)
            if not found.registers:
                raise UsageError(_useless(path, memory.read(base_pa, min(size_bytes, 1024)), found.notes[0]))
            registers, notes = (found.registers,), (*notes, *found.notes)
            provenance = {"kernel release": found.release}
        on_failure.pop_all()
    return Snapshot(
        vcpus=tuple(Vcpu(registers=one) for one in registers),
        memory=memory,
        origin=path.name,
        notes=notes,
        provenance=provenance,
        on_close=memory.close,
    )


def _useless(path: Path, head: bytes, why: str) -> str:
    kind = describe_foreign(head)
    looks = f" (it looks like {kind})" if kind else ""
    return (
        f"{path} is no saved snapshot and no ELF core{looks}. As a flat dump of memory it is no use without "
        f"registers: {why}. Give the address of its first byte, or a JSON file with registers."
    )


def read_registers(path: Path) -> tuple[Mapping[str, int], ...]:
    """Registers from a JSON file: an object of name → value, or a list of those, one per vCPU.

    Values are integers, or strings such as "0x41ee9000"; names are the architecture's, `pc` and `cpsr`.
    Raises UsageError for anything else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_REGISTERS_BYTES + 1)
        if len(text) > MAX_REGISTERS_BYTES:
            raise UsageError(f"{path} is no file of registers: it has more than {MAX_REGISTERS_BYTES} bytes")
        parsed = json.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON file of registers: {error}") from error
    vcpus = parsed if isinstance(parsed, list) else [parsed]
    if not 0 < len(vcpus) <= MAX_VCPUS:
        raise UsageError(f"{path} has registers of {len(vcpus)} vCPUs: wanted 1 to {MAX_VCPUS}")
    return tuple(checked_registers(one, str(path)) for one in vcpus)


def checked_registers(parsed: object, source: str) -> dict[str, int]:
    """Registers from parsed JSON; raises UsageError, naming `source`, where they are none."""
    if not isinstance(parsed, dict) or len(parsed) > 1024:
        raise UsageError(f"{source}: registers are a JSON object of name and value")
    registers: dict[str, int] = {}
    for name, value in parsed.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"{source}: {str(name)[:80]!r} is not the name of a register")
        if isinstance(value, str) and re.fullmatch("0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}", value):
            value = int(value, 0 if value[:2] in ("0x", "0X") else 10)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
            raise UsageError(
                f"{source}: the register {name} has the value {str(value)[:80]!r}: wanted 64 bits"
            )
        registers[name] = value
    return registers
