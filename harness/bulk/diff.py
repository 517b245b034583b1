"""What differs between two tables, as ranges of addresses.

May import NumPy and `harness.vmsa` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import numpy as np

from harness.bulk.columns import Bools, Columns, LeafEntries, Levels, Small, Words
from harness.bulk.leaves import Leaves
from harness.vmsa.field import ones
from harness.vmsa.geometry import FINAL_LEVEL
from harness.vmsa.regime import Regime

__all__ = ["NOT_MAPPED", "ChangeKind", "Changes", "diff"]

NOT_MAPPED: Final = -1
"""In place of a level, where nothing is mapped: no leaf is at that level."""


class ChangeKind(IntFlag):
    """What is different; the first two exclude the rest."""

    ADDED = 1
    REMOVED = 2
    ATTRIBUTES = 4
    """Descriptor bits other than the address and the type."""
    OUTPUT = 8
    """The output address."""
    LEVEL = 16
    TABLES = 32
    """What the tables hand down."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes(Columns):
    """Ranges of addresses within which everything differs in the same way, in order.

    Of each range, its first address: of the side on which nothing is mapped, all is 0 and the level is
    NOT_MAPPED. Within a range output addresses go on from there, on each side.
    """

    size_bytes: Words
    kind: Small
    """Values of ChangeKind, ORed."""
    before_pa: Words
    after_pa: Words
    before_word: Words
    """The first leaf's raw descriptor."""
    after_word: Words
    before_level: Levels
    after_level: Levels
    before_inherited: Small
    after_inherited: Small


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Side(Columns):
    """What one table has at each of some addresses; 0 and NOT_MAPPED where it has nothing."""

    pa: Words
    word: Words
    level: Levels
    inherited: Small

    def goes_on(self, sizes: Words, compared: Words) -> Bools:
        """Where an address continues what is at the one before it; `compared` are bits of words, by level."""
        is_mapped = self.level[1:] != NOT_MAPPED
        word = self.word & compared[self.level]
        same: Bools = (self.level[1:] == self.level[:-1]) & (word[1:] == word[:-1])
        same &= self.inherited[1:] == self.inherited[:-1]
        same &= ~is_mapped | (self.pa[1:] == (self.pa + sizes)[:-1])
        return same


def diff(before: Leaves, after: Leaves) -> Changes:
    """What is mapped otherwise in `after` than in `before`, address by address, joined to ranges.

    A block that becomes pages of the same memory is a change of LEVEL only. Anomalies take no part. Raises
    ValueError for tables of different ranges, granules or address formats, which are not comparable.
    """
    for one in ("va_range", "geometry", "address_format"):
        if getattr(before.regime, one) != getattr(after.regime, one):
            raise ValueError(f"tables of two regimes that differ in {one} are not comparable")
    old, new = _differing(before.entries, after.entries)
    edges = [part for side in (old, new) for part in (side.va, side.va + _size_bytes(side))]
    # The end of the address space is 0 here: as a start it is where nothing is mapped, or a leaf starts.
    starts = np.unique(np.concatenate(edges))
    sizes = np.append(starts[1:], np.zeros(1, np.uint64))[: len(starts)] - starts
    sides = _at(old, starts), _at(new, starts)
    compared = _compared(before.regime)
    kind = _kinds(*sides, compared)
    is_changed = kind != 0
    starts, sizes, kind = starts[is_changed], sizes[is_changed], kind[is_changed]
    was, is_now = (side.take(is_changed) for side in sides)
    same = (starts[1:] == (starts + sizes)[:-1]) & (kind[1:] == kind[:-1])
    same &= was.goes_on(sizes, compared) & is_now.goes_on(sizes, compared)
    first = np.flatnonzero(np.append(True, ~same)[: len(starts)])
    last = np.append(first[1:], len(starts))[: len(first)] - 1
    return _changes(starts[first], (starts + sizes)[last], kind[first], was.take(first), is_now.take(first))


def _size_bytes(entries: LeafEntries) -> Words:
    return np.uint64(1) << entries.size_log2.astype(np.uint64)


def _differing(before: LeafEntries, after: LeafEntries) -> tuple[LeafEntries, LeafEntries]:
    """The leaves of each that the other has not, or has otherwise."""
    if np.array_equal(before.va, after.va):
        at_before = at_after = np.arange(len(before))
    else:
        _, at_before, at_after = np.intersect1d(before.va, after.va, assume_unique=True, return_indices=True)
    old, new = before.take(at_before), after.take(at_after)
    same = (old.word == new.word) & (old.level == new.level) & (old.inherited == new.inherited)
    kept_before, kept_after = np.full(len(before), True), np.full(len(after), True)
    kept_before[at_before[same]] = False
    kept_after[at_after[same]] = False
    return before.take(kept_before), after.take(kept_after)


def _at(entries: LeafEntries, vas: Words) -> _Side:
    """What some of a table's leaves, in order, say of addresses."""
    count = len(vas)
    found = _Side(
        va=vas,
        pa=np.zeros(count, np.uint64),
        word=np.zeros(count, np.uint64),
        level=np.full(count, NOT_MAPPED, np.int8),
        inherited=np.zeros(count, np.uint8),
    )
    if len(entries):
        # Below the first this takes the last, and the offset wraps: it is in none.
        leaf = np.searchsorted(entries.va, vas, side="right") - 1
        offset = vas - entries.va[leaf]
        at = np.flatnonzero(offset < _size_bytes(entries)[leaf])
        leaf = leaf[at]
        found.pa[at] = entries.pa[leaf] + offset[at]
        found.word[at], found.level[at] = entries.word[leaf], entries.level[leaf]
        found.inherited[at] = entries.inherited[leaf]
    return found


def _compared(regime: Regime) -> Words:
    """By level, the bits of a leaf that are neither its type nor its address; last, those of any level."""
    geometry = regime.geometry
    los = [geometry.size_log2(level) for level in range(FINAL_LEVEL + 1)] + [geometry.granule_log2]
    return np.array([ones(64) & ~(regime.address_format.mask(lo) | 0b11) for lo in los], np.uint64)


def _kinds(old: _Side, new: _Side, compared: Words) -> Small:
    """What is different at each address."""
    was, is_now = old.level != NOT_MAPPED, new.level != NOT_MAPPED
    level = old.level != new.level
    bits = compared[np.where(level, -1, old.level)]
    both = (
        (((old.word ^ new.word) & bits).astype(np.bool_), ChangeKind.ATTRIBUTES),
        (old.pa != new.pa, ChangeKind.OUTPUT),
        (level, ChangeKind.LEVEL),
        (old.inherited != new.inherited, ChangeKind.TABLES),
    )
    kind = np.zeros(len(old), np.uint8)
    for differs, flag in both:
        kind |= np.where(was & is_now & differs, np.uint8(flag), np.uint8(0))
    kind |= np.where(is_now & ~was, np.uint8(ChangeKind.ADDED), np.uint8(0))
    kind |= np.where(was & ~is_now, np.uint8(ChangeKind.REMOVED), np.uint8(0))
    return kind


def _changes(starts: Words, ends: Words, kind: Small, was: _Side, is_now: _Side) -> Changes:
    return Changes(
        va=starts,
        size_bytes=ends - starts,
        kind=kind,
        before_pa=was.pa,
        after_pa=is_now.pa,
        before_word=was.word,
        after_word=is_now.word,
        before_level=was.level,
        after_level=is_now.level,
        before_inherited=was.inherited,
        after_inherited=is_now.inherited,
    ).freeze()
