"""The kernel's own dump of its tables against ours: the state machine of note_page over our reading of them.

Source: Linux v6.12 mm/pagewalk.c (which entry is noted at which level), mm/ptdump.c and
arch/arm64/mm/ptdump.c (`note_page`). The dump is read while the guest runs, once before the snapshot and
once after: compared is what it says both times, address by address. May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.bulk import Reads
from harness.bulk.columns import Bools, Words
from harness.bulk.leaves import addresses
from harness.check.half import SHOWN, KernelHalf, inside
from harness.linux.ptdump import LEVELS, PTDUMP_MASK, Dump, Region
from harness.verdict import Finding
from harness.vmsa import Memory, Regime
from harness.vmsa.geometry import FINAL_LEVEL

__all__ = ["PtdumpComparison", "compare_ptdump", "regions_of"]

MAX_TABLES: Final = 1 << 16
"""Tables read of one level; KASAN's shadow repeats one of them thousands of times."""
_SHARED, _VALID, _TABLE = np.uint64(0x300), np.uint64(1), np.uint64(2)
_LEVEL_SHIFT: Final = np.uint64(56)
_ATTRIBUTES: Final = np.uint64((1 << 56) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PtdumpComparison:
    """What of a dump was compared."""

    regions: int
    """Regions that the dump has twice."""
    stretches: int
    """Stretches of addresses on which it was held against ours; a region may be several."""
    passed_over: int
    """Stretches that changed meanwhile."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Notes:
    """What note_page is called with, in order: addresses, and what is there."""

    va: Words
    what: Words
    """The printed attributes, and Linux's number of the level above them."""


def regions_of(regime: Regime, memory: Memory) -> tuple[Region, ...]:
    """The regions that the kernel's dump of these tables would have."""
    notes = _joined(_notes(regime, memory))
    stops = [*notes.va[1:].tolist(), 1 << 64]
    return tuple(
        Region(start, stop, what >> int(_LEVEL_SHIFT), what & int(_ATTRIBUTES))
        for start, stop, what in zip(notes.va.tolist(), stops, notes.what.tolist(), strict=True)
    )


def compare_ptdump(half: KernelHalf, before: Dump, after: Dump) -> PtdumpComparison:
    """Hold what a dump says twice against our reading, address by address."""
    problem = before.problem or after.problem
    if problem or not before.regions or before.regions[0].start_va != half.regime.lowest_va:
        seen = problem or "it starts elsewhere than the kernel half does"
        finding = Finding(what="kernel_page_tables", wanted="a whole dump", seen=seen)
        return PtdumpComparison(regions=0, stretches=0, passed_over=0, findings=(finding,))
    ours = _joined(_notes(half.regime, half.memory))
    sides = (_of_dump(before), _of_dump(after), ours)
    starts = np.unique(np.concatenate([side.va for side in sides]))
    first, second, mine = (side.what[np.searchsorted(side.va, starts, side="right") - 1] for side in sides)
    sizes = np.append(starts[1:], np.uint64(0)) - starts
    stable = first == second
    # What comes and goes may have been otherwise in between, though it was the same before and after.
    nothing = (first & _ATTRIBUTES == 0) | (mine & _ATTRIBUTES == 0)
    stable &= ~((first != mine) & nothing & _come_and_go(half, starts, sizes))
    wrong = np.flatnonzero(stable & (first != mine))
    findings = [*_told(half, starts, sizes, mine, first, wrong), *_too_little(stable, first)]
    return PtdumpComparison(
        regions=len(set(before.regions) & set(after.regions)),
        stretches=int(np.count_nonzero(stable)),
        passed_over=int(np.count_nonzero(~stable)),
        findings=tuple(findings),
    )


def _too_little(stable: Bools, what: Words) -> Iterator[Finding]:
    """A dump of which little that is mapped was the same both times shows nothing."""
    mapped = what & _ATTRIBUTES != 0
    compared, total = int(np.count_nonzero(stable & mapped)), int(np.count_nonzero(mapped))
    if 2 * compared <= total:
        seen = f"{compared} of {total} stretches"
        yield Finding(what="kernel_page_tables: mapped, and compared", wanted="more than half", seen=seen)


def _told(
    half: KernelHalf, starts: Words, sizes: Words, mine: Words, theirs: Words, wrong: NDArray[np.intp]
) -> Iterator[Finding]:
    for index in wrong[: 2 * SHOWN].tolist():
        start, stop = int(starts[index]), int(starts[index]) + int(sizes[index]) or 1 << 64
        yield Finding(
            what=f"kernel_page_tables at {start:#x} ({len(wrong)} such)",
            wanted=f"{_region(start, stop, mine[index])}{half.descriptor_at(start)}",
            seen=str(_region(start, stop, theirs[index])),
        )


def _region(start: int, stop: int, what: np.uint64) -> Region:
    return Region(start, stop, int(what >> _LEVEL_SHIFT), int(what & _ATTRIBUTES))


def _come_and_go(half: KernelHalf, starts: Words, sizes: Words) -> Bools:
    """Where mappings come and go in an idle guest: modules, vmalloc, fixmap, KFENCE; not the kernel image."""
    if half.layout is None:
        return np.full(len(starts), True)
    layout = half.layout
    ranges = [
        range(layout.modules.start, layout.vmalloc.stop),
        range(layout.vmemmap.stop, 1 << 64),
        half.view.kfence_pool or range(0),
    ]
    found = inside(starts, sizes, ranges)
    if half.kimage is not None:
        found &= ~inside(starts, sizes, [half.kimage.whole_va])
    return found


def _of_dump(dump: Dump) -> _Notes:
    return _Notes(
        np.array([one.start_va for one in dump.regions], np.uint64),
        np.array([one.attributes | one.level << int(_LEVEL_SHIFT) for one in dump.regions], np.uint64),
    )


def _joined(notes: _Notes) -> _Notes:
    """Calls of note_page that change nothing are no regions of their own."""
    is_first = np.full(len(notes.va), True)
    is_first[1:] = notes.what[1:] != notes.what[:-1]
    return _Notes(notes.va[is_first], notes.what[is_first])


def _notes(regime: Regime, memory: Memory) -> _Notes:
    """The calls of note_page, level by level, put in order of addresses."""
    geometry, source = regime.geometry, Reads(memory)
    root = source.words(
        regime.table_pa, regime.start_table_bytes >> geometry.desc_log2, big_endian=regime.big_endian
    )
    if root is None:
        return _Notes(np.empty(0, np.uint64), np.empty(0, np.uint64))
    va, words = np.array([regime.lowest_va], np.uint64), root.reshape(1, -1)
    found: list[_Notes] = []
    for level in range(regime.start_level, FINAL_LEVEL + 1):
        step = np.uint64(geometry.size_log2(level))
        at = (va[:, None] + (np.arange(words.shape[1], dtype=np.uint64) << step)).reshape(-1)
        word = words.reshape(-1)
        is_table = (word & np.uint64(0b11)) == np.uint64(0b11)
        is_noted = np.full(len(word), True)
        if level < FINAL_LEVEL:
            # An entry that is neither empty nor valid is passed over in silence.
            is_noted = (word == 0) | (word & np.uint64(0b11) == _VALID)
        number = _linux_level(regime, level)
        what = _printed(word[is_noted]) | np.uint64(number) << _LEVEL_SHIFT
        found.append(_Notes(at[is_noted], what))
        if level == FINAL_LEVEL:
            break
        next_pa = addresses(regime.address_format, word[is_table], geometry.granule_log2)[:MAX_TABLES]
        words, there = source.tables(next_pa, 1 << geometry.granule_log2, big_endian=regime.big_endian)
        va = at[is_table][:MAX_TABLES][there]
    order_va = np.concatenate([one.va for one in found])
    order = np.argsort(order_va, kind="stable")
    return _Notes(order_va[order], np.concatenate([one.what for one in found])[order])


def _linux_level(regime: Regime, level: int) -> int:
    """Index into LEVELS: the architecture's level plus one, but the first level is PGD wherever it is.

    note_page folds P4D and PUD into PGD, real_depth does so for holes; only a PMD block of a kernel with
    two levels would be told as PMD, which no kernel maps at its first level.
    """
    return 0 if level == regime.start_level else min(level + 1, len(LEVELS) - 1)


def _printed(word: Words) -> Words:
    """harness.linux.ptdump.printed, on an array."""
    word = word & np.uint64(PTDUMP_MASK)
    word = np.where(word & _SHARED == _SHARED, word, word & ~_SHARED)
    return np.where((word != 0) & (word & _VALID == 0), word | _TABLE, word)
