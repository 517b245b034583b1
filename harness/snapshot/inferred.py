"""Registers for memory that came without them: worked out from what a Linux kernel says in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from harness.linux.vmcoreinfo import VmcoreInfo, find_vmcoreinfo
from harness.memory.ram import PhysicalMemory
from harness.vmsa import Regime, Registers, Translation, VaRange, derive, walk

__all__ = ["Inferred", "infer", "kernel_regimes", "vmcoreinfo_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What was found out, or with no registers: why nothing was."""

    registers: dict[str, int]
    notes: tuple[str, ...]
    release: str = ""


def infer(memory: PhysicalMemory, known: Iterable[VmcoreInfo] = ()) -> Inferred:
    """The kernel's translation registers by VMCOREINFO: one that is `known`, else any found in memory.

    The first is taken whose registers translate swapper_pg_dir to where it says that table is, so that a
    stale or foreign note, or memory that was placed wrongly, gives none.
    """
    seen = 0
    for info in _candidates(memory, known):
        seen += 1
        if regime_of(info, memory) is not None:
            return Inferred(registers=info.registers(), notes=info.assumptions(), release=info.release)
    why = (
        f"VMCOREINFO is there ({seen}), but none leads to tables that map swapper_pg_dir where it says: is "
        "the physical address of the memory right?"
        if seen
        else "no VMCOREINFO is in this memory, from which a Linux kernel's registers could be worked out"
    )
    return Inferred(registers={}, notes=(why,))


def kernel_regimes(memory: PhysicalMemory) -> Iterator[Regime]:
    """Regimes of the kernel's half by each VMCOREINFO in memory that keeps its word."""
    for info in find_vmcoreinfo(memory.read, memory.ranges):
        regime = regime_of(info, memory)
        if regime is not None:
            yield regime


def vmcoreinfo_of(memory: PhysicalMemory, tables: Collection[int] = ()) -> VmcoreInfo | None:
    """The VMCOREINFO in memory that keeps its word, or None; of several the first of a table that is in use.

    `tables`: physical addresses of the first tables of the vCPUs. What a kernel left that was there before
    (kexec) may keep its word too, while nothing has been written over it.
    """
    sound = [one for one in find_vmcoreinfo(memory.read, memory.ranges) if regime_of(one, memory)]
    return next((one for one in sound if one.table_pa in tables), sound[0] if sound else None)


def regime_of(info: VmcoreInfo, memory: PhysicalMemory) -> Regime | None:
    """The regime of the kernel's half by a VMCOREINFO, or None where its tables do not bear it out."""
    regime = derive(Registers.from_names(info.registers()), VaRange.UPPER)
    if not isinstance(regime, Regime) or VaRange.of(info.swapper_va) is not VaRange.UPPER:
        return None
    found = walk(regime, memory.read, info.swapper_va)
    return regime if isinstance(found, Translation) and found.pa == info.swapper_pa else None


def _candidates(memory: PhysicalMemory, known: Iterable[VmcoreInfo]) -> Iterator[VmcoreInfo]:
    yield from known
    yield from find_vmcoreinfo(memory.read, memory.ranges)
