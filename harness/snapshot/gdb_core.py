"""A core of a snapshot that gdb reads by virtual address, as the kernel itself does.

QEMU's own core says where physical memory is, and gdb cannot follow a kernel's pointer in it. Here the page
tables are walked by the model, every run of pages that is contiguous in both spaces becomes a PT_LOAD, and
all of them point into one copy of physical memory: what is mapped twice is stored once.
May import `harness.bulk`, `harness.vmsa`, and what else is in this package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from harness.bulk import runs, walk_all
from harness.errors import UsageError
from harness.memory.mapped import MAX_EXTENTS
from harness.saving import replacing, saving_to
from harness.snapshot.core import GDB_CORE_NOTE, NT_PRSTATUS
from harness.snapshot.inferred import vmcoreinfo_of
from harness.snapshot.kernel import kernel_regime, user_regime
from harness.snapshot.saved import filled_runs
from harness.snapshot.snapshot import GENERAL_REGISTERS, Snapshot, Vcpu
from harness.vmsa import Regime

__all__ = ["MAX_SEGMENTS", "GdbCore", "write_gdb_core"]

MAX_SEGMENTS: Final = MAX_EXTENTS
"""PT_LOADs at most. ELF counts 65,534 without PN_XNUM; gdb searches its list of them for every read."""

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_IDENT: Final = b"\x7fELF\x02\x01\x01" + bytes(9)
_ET_CORE, _EM_AARCH64, _PT_LOAD, _PT_NOTE = 4, 183, 1, 4
_RWX: Final = 7
"""Rights differ from page to page; whoever wants them asks `granule tables dump`."""
_BLOCK_BYTES: Final = 1 << 16
"""Memory begins on a multiple of the largest page, so that offsets agree with addresses modulo any page."""


@dataclass(frozen=True, slots=True, order=True)
class _Piece:
    """A run of virtual addresses and the physical addresses behind it."""

    va: int
    pa: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GdbCore:
    """What was written."""

    kernel_segments: int
    user_segments: int
    user_vcpu: int | None
    """The vCPU whose process the lower half is; None where there is none."""
    notes: tuple[str, ...]
    """What is missing or was assumed, in words."""


def write_gdb_core(
    snapshot: Snapshot, path: str | Path, *, vcpu: int | None = None, max_segments: int = MAX_SEGMENTS
) -> GdbCore:
    """Write an ELF core for gdb: all of the kernel's half, and the lower half of one vCPU.

    `vcpu` says whose process it is; without it the first one's that has any. Where no vCPU has tables (the
    MMU is off) addresses are physical. What is mapped to something other than RAM is left out, and beyond
    `max_segments` runs the smallest are. The file is there whole or not at all. Raises as `save` does, and
    UsageError for a vCPU that is not there.
    """
    notes = list(snapshot.notes)
    # The kernel comes first: it is what a core is looked at for.
    kept = _kernel_pieces(snapshot, max_segments, notes)
    user_vcpu, also = _user_pieces(snapshot, vcpu, max_segments - len(kept), notes)
    notes += _register_notes(snapshot)
    info = vmcoreinfo_of(snapshot.memory, snapshot.first_tables)
    content = b"".join(_notes(snapshot, info.text if info is not None else b""))
    path = Path(path)
    with saving_to(path), replacing(path) as file:
        pieces = sorted([*kept, *also])
        notes_at = _HEADER.size + _SEGMENT.size * (1 + len(pieces))
        memory_at = -(-(notes_at + len(content)) // _BLOCK_BYTES) * _BLOCK_BYTES
        offsets = dict(_offsets(snapshot.ram, memory_at))
        file.write(_HEADER.pack(_IDENT, _ET_CORE, _EM_AARCH64, 1, 0, _HEADER.size, 0, 0, _HEADER.size,
                                _SEGMENT.size, 1 + len(pieces), 0, 0, 0))  # fmt: skip
        file.write(_SEGMENT.pack(_PT_NOTE, 0, notes_at, 0, 0, len(content), len(content), 4))
        for one in pieces:
            memory = next(ram for ram in offsets if one.pa in ram)
            at = offsets[memory] + one.pa - memory.start
            file.write(_SEGMENT.pack(_PT_LOAD, _RWX, at, one.va, one.pa, one.size_bytes, one.size_bytes, 1))
        file.write(content)
        for memory, offset in offsets.items():
            for pa, data in filled_runs(snapshot, memory):
                file.seek(offset + pa - memory.start)
                file.write(data)
            file.truncate(offset + len(memory))
    return GdbCore(
        kernel_segments=len(kept), user_segments=len(also), user_vcpu=user_vcpu, notes=tuple(notes)
    )


def _kernel_pieces(snapshot: Snapshot, most: int, notes: list[str]) -> list[_Piece]:
    try:
        regime = kernel_regime(snapshot)
    except UsageError as error:
        notes.append(f"addresses are physical: {error}")
        return [_Piece(one.start, one.start, len(one)) for one in snapshot.ram[:most]]
    notes += regime.notes
    return _pieces(regime, snapshot, most, notes)


def _user_pieces(
    snapshot: Snapshot, vcpu: int | None, most: int, notes: list[str]
) -> tuple[int | None, list[_Piece]]:
    """The vCPU whose lower half it is, and the half; of several without a wish the first that has one."""
    if vcpu is not None:
        return vcpu, _pieces(user_regime(snapshot, vcpu), snapshot, most, notes)
    # One at EL0 runs its process; elsewhere TTBR0 may be of one that has gone.
    for number in sorted(range(len(snapshot.vcpus)), key=lambda one: snapshot.vcpus[one].el != 0):
        try:
            found = _pieces(user_regime(snapshot, number), snapshot, most, notes)
        except UsageError:
            continue
        if found:
            return number, found
    notes.append("no process: no vCPU's TTBR0 leads to anything in RAM")
    return None, []


def _pieces(regime: Regime, snapshot: Snapshot, most: int, notes: list[str]) -> list[_Piece]:
    """What a regime maps to RAM, in runs that are contiguous in both spaces; the largest, in order."""
    try:
        leaves = walk_all(regime, snapshot.tables())
    except ValueError as error:
        raise UsageError(f"{snapshot.origin}: {error}") from error
    joined = runs(leaves, 0, by_level=False, by_tables=False)
    low_pa, high_pa = snapshot.ram[0].start, snapshot.ram[-1].stop
    at = np.flatnonzero(
        (joined.pa < np.uint64(high_pa)) & (joined.pa + joined.size_bytes > np.uint64(low_pa))
    )
    dropped = max(0, len(at) - most)
    if dropped:
        # Tables made to waste time have millions of runs: what is too much goes before it costs anything.
        at = np.sort(at[np.argsort(joined.size_bytes[at], kind="stable")[dropped:]])
    found: list[_Piece] = []
    for va, pa, size_bytes in zip(*(one[at].tolist() for one in (joined.va, joined.pa, joined.size_bytes)),
                                  strict=True):  # fmt: skip
        for ram in snapshot.ram:
            start, end = max(pa, ram.start), min(pa + size_bytes, ram.stop)
            if start < end:
                found.append(_Piece(va + start - pa, start, end - start))
    dropped += max(0, len(found) - most)
    if dropped:
        half = "process" if regime.lowest_va == 0 else "kernel"
        notes.append(
            f"{dropped} runs of pages of the {half} are left out: a core has {MAX_SEGMENTS} segments"
        )
    return found[:most]


def _register_notes(snapshot: Snapshot) -> Iterable[str]:
    for number, one in enumerate(snapshot.vcpus):
        absent = [name for name in GENERAL_REGISTERS if name not in one.registers]
        if absent:
            some = ", ".join(absent[:3])
            yield f"vCPU {number}: {len(absent)} registers are not known ({some}, …) and are 0"


def _offsets(ram: tuple[range, ...], at: int) -> Iterator[tuple[range, int]]:
    """Where each range of memory is in the file."""
    for one in ram:
        yield one, at
        at += len(one) + -len(one) % _BLOCK_BYTES


def _notes(snapshot: Snapshot, info: bytes) -> Iterator[bytes]:
    yield _note(GDB_CORE_NOTE, 1, b"by virtual addresses\0")
    for number, one in enumerate(snapshot.vcpus):
        yield _note(b"CORE", NT_PRSTATUS, _prstatus(number, one))
    if info:
        yield _note(b"VMCOREINFO", 0, info)


def _note(name: bytes, kind: int, content: bytes) -> bytes:
    named = name + b"\0"
    head = struct.pack("<III", len(named), len(content), kind)
    return head + named + bytes(-len(named) % 4) + content + bytes(-len(content) % 4)


def _prstatus(number: int, vcpu: Vcpu) -> bytes:
    """struct elf_prstatus of arm64 (include/linux/elfcore.h); pr_pid, gdb's LWP, counts from 1."""
    values = (vcpu.registers.get(name, 0) & (1 << 64) - 1 for name in GENERAL_REGISTERS)
    return struct.pack(f"<32xi76x{len(GENERAL_REGISTERS)}Qi4x", number + 1, *values, 0)
