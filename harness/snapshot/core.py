"""ELF cores: a guest's memory, and the general registers of its vCPUs.

QEMU's `dump-guest-memory` writes them, and after a crash a capture kernel has one in /proc/vmcore. They hold
no system registers; those of the kernel's half are worked out from VMCOREINFO. Format: ELF64,
target/arm/arch_dump.c and dump/dump.c of QEMU; kernel/crash_core.c and fs/proc/vmcore.c of Linux; struct
elf_prstatus of arm64.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from harness.errors import UsageError
from harness.linux.vmcoreinfo import VmcoreInfo
from harness.memory.mapped import MAX_EXTENTS, Extent, MappedMemory
from harness.snapshot.inferred import infer
from harness.snapshot.snapshot import GENERAL_REGISTERS, Snapshot, Vcpu

__all__ = ["open_core"]

MAX_NOTES_BYTES: Final = 16 << 20
MAX_VCPUS: Final = 4096
NT_PRSTATUS: Final = 1
GDB_CORE_NOTE: Final = b"GRANULE"
"""Name of the note by which `harness.snapshot.gdb_core` marks what it writes."""
_PRSTATUS_BYTES: Final = 392
_REGISTERS_AT: Final = 112
"""Of struct elf_prstatus: pr_reg, which is x0 to x30, sp, pc and PSTATE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What the program headers lead to."""

    extents: tuple[Extent, ...]
    vcpus: tuple[dict[str, int], ...]
    infos: tuple[VmcoreInfo, ...]


def open_core(path: Path, registers: tuple[Mapping[str, int], ...] = ()) -> Snapshot:
    """The snapshot in an ELF core; close it when done.

    `registers` are those of each vCPU, or of all where there is one set, in place of what would be worked
    out. Raises UsageError for what is no core of an arm64 guest, and for one that is damaged.
    """
    contents = _contents(path)
    with contextlib.ExitStack() as on_failure:
        memory = MappedMemory(path, contents.extents)
        on_failure.callback(memory.close)
        snapshot = _snapshot(path, contents, memory, registers)
        on_failure.pop_all()
    return snapshot


def _snapshot(
    path: Path, contents: _Contents, memory: MappedMemory, registers: tuple[Mapping[str, int], ...]
) -> Snapshot:
    vcpus = contents.vcpus or ({},)
    release = ""
    if registers:
        given = registers * len(vcpus) if len(registers) == 1 else registers
        if len(given) != len(vcpus):
            raise UsageError(f"{path} has {len(vcpus)} vCPUs, and registers are given for {len(given)}")
        notes: tuple[str, ...] = ("the system registers are those that were given",)
    else:
        found = infer(memory, contents.infos)
        notes, release = found.notes, found.release
        given = (found.registers,) * len(vcpus)
    if not contents.vcpus:
        notes = (*notes, "the core has no registers of any vCPU (NT_PRSTATUS)")
    return Snapshot(
        vcpus=tuple(Vcpu(registers={**own, **more}) for own, more in zip(vcpus, given, strict=True)),
        memory=memory,
        origin=path.name,
        notes=notes,
        provenance={"kernel release": release} if release else {},
        on_close=memory.close,
    )


def _contents(path: Path) -> _Contents:
    try:
        with path.open("rb") as file:
            return _read_segments(file, path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    # What pyelftools raises for a damaged file has many names.
    except (ELFError, ConstructError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
            AssertionError, MemoryError) as error:  # fmt: skip
        raise UsageError(f"{path} is damaged: its ELF headers cannot be read ({error})") from error


def _read_segments(file: BinaryIO, path: Path) -> _Contents:
    elf = ELFFile(file)
    _refuse_foreign(elf, path)
    count = elf.num_segments()
    if count > MAX_EXTENTS:
        raise UsageError(f"{path} is damaged: it claims {count} segments")
    extents: list[Extent] = []
    notes: list[tuple[bytes, int, bytes]] = []
    for number in range(count):
        header = elf.get_segment(number).header
        at, size_bytes = header["p_offset"], header["p_filesz"]
        if header["p_type"] == "PT_LOAD" and size_bytes:
            extents.append(Extent(base_pa=header["p_paddr"], offset_bytes=at, size_bytes=size_bytes))
        elif header["p_type"] == "PT_NOTE":
            file.seek(at)
            data = file.read(min(size_bytes, MAX_NOTES_BYTES))
            if len(data) < min(size_bytes, MAX_NOTES_BYTES):
                raise UsageError(
                    f"{path} is truncated: its notes end after {len(data)} of {size_bytes} bytes"
                )
            notes += _notes(data)
    if any(name == GDB_CORE_NOTE for name, _, _ in notes):
        raise UsageError(
            f"{path} is a core for gdb, laid out by virtual addresses: give the snapshot or core that it was "
            "made from"
        )
    return _Contents(extents=_once(extents), vcpus=_vcpus(notes, path), infos=tuple(_infos(notes)))


def _once(extents: list[Extent]) -> tuple[Extent, ...]:
    """Memory without what is there twice: kdump has the kernel's code once more, by its own addresses.

    Source: Linux kernel/crash_core.c, crash_prepare_elf64_headers(), `need_kernel_map`.
    """
    kept: list[Extent] = []
    for one in sorted(extents, key=lambda one: (one.base_pa, -one.size_bytes)):
        if not kept or one.end_pa > kept[-1].end_pa:
            kept.append(one)
    return tuple(kept)


def _refuse_foreign(elf: ELFFile, path: Path) -> None:
    """Raise UsageError, naming what it is, for anything but a little-endian 64-bit core of AArch64."""
    if elf.header["e_machine"] != "EM_AARCH64":
        raise UsageError(f"{path} is of another architecture, {elf.get_machine_arch()}: wanted AArch64")
    if elf.elfclass != 64:
        raise UsageError(f"{path} is a {elf.elfclass}-bit ELF file: wanted a 64-bit core")
    if not elf.little_endian:
        raise UsageError(f"{path} is a big-endian core: only little-endian ones can be read")
    if elf.header["e_type"] != "ET_CORE":
        raise UsageError(
            f"{path} is an ELF file, but no core ({elf.header['e_type']}): wanted what QEMU's "
            "dump-guest-memory writes"
        )
    if elf.header["e_phentsize"] != 56:
        raise UsageError(f"{path} is damaged: its program headers are {elf.header['e_phentsize']} bytes each")


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, type and content of each ELF note; what does not fit ends them."""
    at = 0
    while at + 12 <= len(data):
        name_bytes, content_bytes, kind = struct.unpack_from("<III", data, at)
        start = at + 12 + (name_bytes + 3 & ~3)
        if start + content_bytes > len(data):
            return
        name = data[at + 12 : at + 12 + name_bytes].rstrip(b"\0")
        yield name, kind, data[start : start + content_bytes]
        at = start + (content_bytes + 3 & ~3)


def _vcpus(notes: list[tuple[bytes, int, bytes]], path: Path) -> tuple[dict[str, int], ...]:
    found: list[dict[str, int]] = []
    for name, kind, content in notes:
        if name == b"CORE" and kind == NT_PRSTATUS and len(content) == _PRSTATUS_BYTES:
            values = struct.unpack_from(f"<{len(GENERAL_REGISTERS)}Q", content, _REGISTERS_AT)
            found.append(dict(zip(GENERAL_REGISTERS, values, strict=True)))
    if len(found) > MAX_VCPUS:
        raise UsageError(f"{path} is damaged: it claims {len(found)} vCPUs")
    return tuple(found)


def _infos(notes: list[tuple[bytes, int, bytes]]) -> Iterator[VmcoreInfo]:
    for name, _, content in notes:
        if name == b"VMCOREINFO":
            try:
                yield VmcoreInfo.parse(content)
            except ValueError:
                continue
