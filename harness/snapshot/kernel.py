"""Which tables are the kernel's, and which a process's, whatever the vCPUs were doing.

A host kernel with VHE translates at EL2 and leaves EL1's registers stale: `derive` sees to that. Under KPTI
a vCPU in EL0 has the trampoline's tables in TTBR1: another vCPU, or the layout of Linux, has the kernel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from harness.errors import UsageError
from harness.snapshot.inferred import kernel_regimes
from harness.snapshot.snapshot import Snapshot
from harness.vmsa import (
    Anomaly,
    Mapping,
    Regime,
    Registers,
    StageOff,
    Translation,
    VaRange,
    derive,
    mappings,
    walk,
)

__all__ = ["is_trampoline", "kernel_regime", "user_regime"]

_TRAMPOLINE_LEAVES: Final = 16
"""More leaves than a trampoline has: its text (four vectors of 2 KiB, a page or three) and a page of data."""
_FEW_TABLES: Final = 64
"""Tables looked through to tell what is at hand: a trampoline has three or four, and a kernel's first leaf is
found within as many. Tables made to waste time end here."""
_TRAMPOLINE_PAGES: Final = 2
"""swapper_pg_dir is that many pages after tramp_pg_dir: TRAMP_SWAPPER_OFFSET, arch/arm64/include/asm/
assembler.h and vmlinux.lds.S."""


def kernel_regime(snapshot: Snapshot) -> Regime:
    """What rules the kernel's half: by a vCPU outside of EL0, else by the trampoline's neighbour.

    Last comes VMCOREINFO in the snapshot's memory. What was taken instead of a vCPU's own TTBR1 is in the
    regime's notes. Raises UsageError, with what each vCPU had, when no vCPU leads to the kernel's tables.
    """
    trampolines: list[Regime] = []
    reasons: list[str] = []
    for regime in _upper_regimes(snapshot, reasons):
        if not is_trampoline(regime, snapshot):
            return regime
        trampolines.append(regime)
        reasons.append("TTBR1 leads to a trampoline only (KPTI)")
    for tramp in trampolines:
        swapper = _beside(tramp, snapshot)
        if swapper is not None:
            return swapper
    for regime in kernel_regimes(snapshot.memory) if trampolines else ():
        return _noted(trampolines[0].at_table(regime.table_pa), "TTBR1 was the trampoline's: the kernel's "
                      "tables are those that VMCOREINFO names")  # fmt: skip
    said = "; ".join(dict.fromkeys([*reasons, *snapshot.notes])) or "it has no vCPU"
    raise UsageError(f"the kernel's page tables cannot be found in {snapshot.origin}: {said}")


def user_regime(snapshot: Snapshot, vcpu: int = 0) -> Regime:
    """What rules the lower half of a vCPU, by its TTBR0: the process that ran there last.

    In an idle kernel that may be a process that has gone, or none at all (reserved_pg_dir): the registers
    do not tell. Raises UsageError when there is no such vCPU, and when its registers give no tables.
    """
    if not 0 <= vcpu < len(snapshot.vcpus):
        raise UsageError(f"{snapshot.origin} has {len(snapshot.vcpus)} vCPUs, and none of number {vcpu}")
    found = _derived(snapshot, vcpu, VaRange.LOWER)
    if isinstance(found, str):
        raise UsageError(f"the tables of a process cannot be found in {snapshot.origin}: {found}")
    return found


def is_trampoline(regime: Regime, snapshot: Snapshot) -> bool:
    """True for tables with a few leaves and nothing odd: KPTI's tramp_pg_dir, user space's."""
    found = list(islice(mappings(regime, snapshot.read, max_tables=_FEW_TABLES), _TRAMPOLINE_LEAVES + 1))
    return 0 < len(found) <= _TRAMPOLINE_LEAVES and all(isinstance(one, Mapping) for one in found)


def _upper_regimes(snapshot: Snapshot, reasons: list[str]) -> Iterator[Regime]:
    """Regimes of the vCPUs, those in EL0 last; why there is none of a vCPU goes to `reasons`."""
    order = sorted(range(len(snapshot.vcpus)), key=lambda number: snapshot.vcpus[number].el == 0)
    for number in order:
        found = _derived(snapshot, number, VaRange.UPPER)
        if isinstance(found, str):
            reasons.append(found)
            continue
        first = next(iter(mappings(found, snapshot.read, max_tables=_FEW_TABLES)), None)
        if first is None:
            reasons.append(f"vCPU {number}: TTBR1 leads to an empty table")
        elif isinstance(first, Anomaly) and first.pa == found.table_pa and first.level == found.start_level:
            reasons.append(f"vCPU {number}: TTBR1 leads to {found.table_pa:#x}, and {first.kind.value}")
        else:
            yield found


def _derived(snapshot: Snapshot, number: int, va_range: VaRange) -> Regime | str:
    """A vCPU's regime, or why there is none."""
    try:
        found = derive(Registers.from_names(snapshot.vcpus[number].registers), va_range)
    except ValueError as error:
        return f"vCPU {number}: {error}"
    if isinstance(found, Regime):
        return found
    return f"vCPU {number}: its MMU is off" if isinstance(found, StageOff) else f"vCPU {number}: {found}"


def _beside(tramp: Regime, snapshot: Snapshot) -> Regime | None:
    """The kernel's tables by where Linux puts them, if they map the trampoline as its own tables do.

    The kernel has the trampoline in its fixmap, at the same address (arch/arm64/mm/mmu.c,
    map_entry_trampoline()).
    """
    offset = _TRAMPOLINE_PAGES << tramp.geometry.granule_log2
    try:
        swapper = tramp.at_table(tramp.table_pa + offset)
    except ValueError:
        return None
    if is_trampoline(swapper, snapshot):
        return None
    for leaf in mappings(tramp, snapshot.read):
        found = walk(swapper, snapshot.read, leaf.va)
        if not isinstance(leaf, Mapping) or not isinstance(found, Translation) or found.pa != leaf.oa:
            return None
    return _noted(swapper, f"TTBR1 was the trampoline's: the kernel's tables are {offset:#x} bytes after it")


def _noted(regime: Regime, note: str) -> Regime:
    """The kernel's regime from the trampoline's; of a pair of ASIDs the even one is the kernel's."""
    return replace(regime, asid=regime.asid & ~1, notes=(*regime.notes, note))
