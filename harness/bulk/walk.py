"""Tables to leaves, level by level: `harness.vmsa.mappings` without a step per descriptor.

The state of a level is four columns, of the tables to be read in order of addresses. Upper levels give few
leaves, which are kept; the last level's are written straight to where they belong, in chunks that fit a
cache, so that nothing is sorted but those few. Bounded as the specification is: by the levels, by reading a
table that is shared once per level, and by a cap. May import NumPy and `harness.vmsa` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from harness.bulk.columns import Bools, Entries, LeafEntries, Output, Words
from harness.bulk.leaves import INHERITED_SHIFT, KINDS, Anomalies, Leaves, addresses
from harness.bulk.memory import Reads, TableSource
from harness.vmsa.descriptor import AddressFormat, Leaf
from harness.vmsa.field import ones
from harness.vmsa.geometry import FINAL_LEVEL
from harness.vmsa.mapping import MAX_TABLES, AnomalyKind
from harness.vmsa.regime import Regime
from harness.vmsa.walk import Memory

__all__ = ["walk_all"]

_CHUNK_ENTRIES: Final = 1 << 14
"""Descriptors handled at a time: a column is 128 KiB, which a cache holds between passes, and which malloc(3)
does not hand back to the system, to be given new pages for the next chunk."""
_EXPANDED_ENTRIES: Final = 1 << 25
"""Descriptors read at most where shared tables are expanded: memory no longer bounds them."""
_TYPE, _BLOCK, _TABLE_OR_PAGE = np.uint8(0b11), np.uint8(0b01), np.uint8(0b11)


def walk_all(
    regime: Regime,
    memory: TableSource | Memory,
    *,
    expand_shared: bool = False,
    max_tables: int | None = None,
) -> Leaves:
    """Every leaf of a regime's range, and what was odd: what `harness.vmsa.mappings` yields, as columns.

    `memory` is a Ram, or a reader as the specification takes it. A table that is reached again at the same
    level is TABLE_SHARED and read again only with `expand_shared`. `max_tables` is the specification's
    unless given, or fewer with `expand_shared`: as many as have 2^25 descriptors. Whatever the tables hold
    is a value; raises MemoryError where leaves, 27 bytes each, do not fit, and ValueError for what is not
    read in bulk: stage 2, and tables of 128-bit descriptors.
    """
    if not isinstance(regime, Regime):
        raise ValueError("stage 2 is not read in bulk: ask harness.vmsa.mappings")
    if regime.address_format is AddressFormat.D128:
        raise ValueError("tables of 128-bit descriptors are not read in bulk: ask harness.vmsa.mappings")
    if max_tables is None:
        expanded = _EXPANDED_ENTRIES >> regime.geometry.stride_bits
        max_tables = min(MAX_TABLES, expanded) if expand_shared else MAX_TABLES
    source = Reads(memory) if callable(memory) else memory
    survey = _Survey(regime, source, expand_shared, max_tables)
    tables = Entries(
        va=np.array([regime.lowest_va], np.uint64),
        pa=np.array([regime.table_pa], np.uint64),
        word=np.zeros(1, np.uint64),
        inherited=np.zeros(1, np.uint8),
    )
    if regime.epd:
        tables = tables.take(slice(0))
    upper = LeafEntries.room(0)
    for level in range(regime.start_level, FINAL_LEVEL):
        found, tables = _upper_level(survey, level, survey.readable(level, tables))
        upper = LeafEntries.join([upper, found])
    leaves = _last_level(survey, survey.readable(FINAL_LEVEL, tables), upper.in_order())
    return _finished(survey, leaves)


@dataclass(slots=True)
class _Survey:
    """The state of one enumeration."""

    regime: Regime
    source: TableSource
    expand_shared: bool
    max_tables: int
    odd: list[Anomalies] = field(default_factory=list)
    reached: list[tuple[int, Entries]] = field(default_factory=list)
    """Tables that count for the cap, by level."""

    def note(
        self, kind: AnomalyKind, level: int, some: Entries, size_log2: int, first_va: Words | None = None
    ) -> None:
        """Record anomalies of one kind and size."""
        if len(some):
            self.odd.append(_anomalies(kind, level, some, size_log2, first_va))

    def table_size_log2(self, level: int) -> int:
        """log2 of the bytes that a table of a level maps."""
        is_first = level == self.regime.start_level
        return self.regime.iasize_bits if is_first else self.regime.geometry.size_log2(level - 1)

    def out_of_range(self, pa: Words) -> Bools | None:
        """Where addresses are beyond the output size, or None: nowhere."""
        limit = np.uint64(1 << self.regime.oasize_bits)
        return pa >= limit if len(pa) and pa.max() >= limit else None

    def readable(self, level: int, tables: Entries) -> Entries:
        """The tables that are to be read, the others noted (mapping._obstacle)."""
        size_log2 = self.table_size_log2(level)
        entry_bits = size_log2 - self.regime.geometry.size_log2(level)
        beyond = self.out_of_range(tables.pa + np.uint64((8 << entry_bits) - 1))
        if beyond is not None:
            self.note(AnomalyKind.TABLE_OUT_OF_RANGE, level, tables.take(beyond), size_log2)
            tables = tables.take(~beyond)
        # The one after the cap is what the enumeration ends with, if nothing of another level comes first.
        tables = tables.take(slice(self.max_tables + 1))
        self.reached.append((level, tables))
        in_order = np.sort(tables.pa)
        if (in_order[1:] != in_order[:-1]).all():
            return tables
        _, first, which = np.unique(tables.pa, return_index=True, return_inverse=True)
        again = first[which] != np.arange(len(tables))
        shared_with = tables.va[first[which][again]]
        self.note(AnomalyKind.TABLE_SHARED, level, tables.take(again), size_log2, shared_with)
        return tables if self.expand_shared else tables.take(~again)

    def chunks(self, level: int, tables: Entries) -> Iterator[tuple[Entries, Words]]:
        """Tables with their descriptors, a row each."""
        geometry, big_endian = self.regime.geometry, self.regime.big_endian
        size_log2 = self.table_size_log2(level)
        for some in tables.split(max(1, _CHUNK_ENTRIES >> geometry.stride_bits)):
            if level == self.regime.start_level:
                count = 1 << size_log2 - geometry.size_log2(level)
                row = self.source.words(self.regime.table_pa, count, big_endian=big_endian)
                there = np.array([row is not None])
                words = np.empty((0, count), np.uint64) if row is None else row.reshape(1, count)
            else:
                words, there = self.source.tables(some.pa, 1 << geometry.granule_log2, big_endian=big_endian)
            if not there.all():
                self.note(AnomalyKind.TABLE_NOT_MEMORY, level, some.take(~there), size_log2)
                some = some.take(there)
            if len(some):
                yield some, words

    def entries(self, level: int, tables: Entries, words: Words) -> tuple[Entries, Entries]:
        """The leaves of tables, and the tables of the next level; reserved encodings are noted."""
        geometry, form = self.regime.geometry, self.regime.address_format
        size_log2 = geometry.size_log2(level)
        types = words.astype(np.uint8) & _TYPE
        low = _chosen(types == _BLOCK, tables, words, form, size_log2, size_log2)
        lo = size_log2 if level == FINAL_LEVEL else geometry.granule_log2
        high = _chosen(types == _TABLE_OR_PAGE, tables, words, form, size_log2, lo)
        if level < FINAL_LEVEL and geometry.block_allowed(level, wide=form.is_wide):
            return self.in_range(level, low), high
        self.note(AnomalyKind.RESERVED, level, low, size_log2)
        none = low.take(slice(0))
        return (self.in_range(level, high), none) if level == FINAL_LEVEL else (none, high)

    def in_range(self, level: int, leaves: Entries) -> Entries:
        """The leaves whose output address can be had, the others noted (walk.leaf_oa, oa_out_of_range)."""
        leaves = self.with_group_bits(level, leaves)
        if self.regime.oasize_bits >= self.regime.address_format.address_bits:
            return leaves
        beyond = self.out_of_range(leaves.pa)
        if beyond is None:
            return leaves
        size_log2 = self.regime.geometry.size_log2(level)
        self.note(AnomalyKind.OUTPUT_OUT_OF_RANGE, level, leaves.take(beyond), size_log2)
        return leaves.take(~beyond)

    def with_group_bits(self, level: int, leaves: Entries) -> Entries:
        """The leaves, those of a contiguous group with the group's address bits taken from their own."""
        group = self.regime.geometry.contiguous_log2(level)
        if not group or self.regime.pnch:
            return leaves
        bit = np.uint64(Leaf.contiguous.mask)
        # One pass that makes no column, for the many tables that have no such leaf.
        if not np.bitwise_or.reduce(leaves.word) & bit:
            return leaves
        marked = (leaves.word & bit).astype(np.bool_)
        low = np.uint64(ones(group + self.regime.geometry.size_log2(level)))
        return replace(leaves, pa=np.where(marked, leaves.pa & ~low | leaves.va & low, leaves.pa))


def _anomalies(
    kind: AnomalyKind, level: int, some: Entries, size_log2: int, first_va: Words | None = None
) -> Anomalies:
    """Anomalies of one kind and size."""
    count = len(some)
    none = np.zeros(count, np.uint64)
    return Anomalies(
        va=some.va,
        kind=np.full(count, KINDS.index(kind), np.uint8),
        size_log2=np.full(count, size_log2, np.uint8),
        level=np.full(count, level, np.int8),
        pa=none if kind is AnomalyKind.RESERVED else some.pa,
        inherited=some.inherited,
        word=none if kind is AnomalyKind.TOO_MANY_TABLES else some.word,
        first_va=none if first_va is None else first_va,
    )


def _chosen(
    mask: Bools, tables: Entries, words: Words, form: AddressFormat, size_log2: int, lo: int
) -> Entries:
    """The descriptors under a mask, in order, with the addresses in them from bit `lo` on."""
    count = np.count_nonzero(mask)
    if not count:
        none = np.empty(0, np.uint64)
        return Entries(va=none, pa=none, word=none, inherited=np.empty(0, np.uint8))
    offsets = np.arange(words.shape[1], dtype=np.uint64) << np.uint64(size_log2)
    va, inherited = tables.va[:, None] + offsets, tables.inherited
    if count == mask.size:
        va, word, inherited = va.reshape(-1), words.reshape(-1), np.repeat(inherited, words.shape[1])
    else:
        at = np.flatnonzero(mask)
        va, word = va.reshape(-1).take(at), words.reshape(-1).take(at)
        inherited = inherited.take(at >> words.shape[1].bit_length() - 1)
    return Entries(va=va, pa=addresses(form, word, lo), word=word, inherited=inherited)


def _upper_level(survey: _Survey, level: int, tables: Entries) -> tuple[LeafEntries, Entries]:
    """The leaves of a level above the last, and the tables of the next, with what they are handed down."""
    leaves, below = [tables.take(slice(0))], [tables.take(slice(0))]
    for some, words in survey.chunks(level, tables):
        found, lower = survey.entries(level, some, words)
        leaves.append(found)
        below.append(lower)
    size_log2 = survey.regime.geometry.size_log2(level)
    reached = Entries.join(below)
    own = (reached.word >> np.uint64(INHERITED_SHIFT)).astype(np.uint8)
    reached = replace(reached, inherited=reached.inherited | own)
    return LeafEntries.of(Entries.join(leaves), level, size_log2), reached


def _last_level(survey: _Survey, tables: Entries, upper: LeafEntries) -> LeafEntries:
    """All leaves in order: those of the last level, and those of the others where they belong."""
    size_log2 = survey.regime.geometry.size_log2(FINAL_LEVEL)
    out = Output((len(tables) << survey.regime.geometry.stride_bits) + len(upper))
    done = 0
    for some, words in survey.chunks(FINAL_LEVEL, tables):
        found, _ = survey.entries(FINAL_LEVEL, some, words)
        leaves = LeafEntries.of(found, FINAL_LEVEL, size_log2)
        # Leaves of upper levels that are before this chunk, then those among its tables.
        first, last = np.searchsorted(upper.va, (some.va[0], some.va[-1])).tolist()
        out.append(upper.take(slice(done, first)))
        among = upper.take(slice(first, last))
        out.append(LeafEntries.join([leaves, among]).in_order() if len(among) else leaves)
        done = last
    out.append(upper.take(slice(done, None)))
    return out.leaves


def _finished(survey: _Survey, leaves: LeafEntries) -> Leaves:
    """Leaves and anomalies as one record, cut off where the cap was met."""
    reached = sum(len(tables) for _, tables in survey.reached)
    odd = Anomalies.join([Anomalies.none(), *survey.odd])
    if reached > survey.max_tables:
        end = _end(survey)
        leaves = leaves.take(slice(np.searchsorted(leaves.va, end.va)[0]))
        before = (odd.va < end.va) | ((odd.va == end.va) & (odd.level < end.level))
        odd = Anomalies.join([odd.take(before), end])
    # By address, a table's before those below it, and of one table that it is shared before the rest.
    odd = odd.take(np.lexsort((odd.level, odd.va)))
    return Leaves(
        regime=survey.regime,
        entries=leaves.freeze(),
        anomalies=odd.freeze(),
        tables=min(reached, survey.max_tables),
    )


def _end(survey: _Survey) -> Anomalies:
    """The table that the enumeration ends with: the first after the cap, in the specification's order."""
    levels = np.concatenate([np.full(len(tables), level) for level, tables in survey.reached])
    tables = Entries.join([tables for _, tables in survey.reached])
    at = int(np.lexsort((levels, tables.va))[survey.max_tables])
    level = int(levels[at])
    last = tables.take(slice(at, at + 1))
    return _anomalies(AnomalyKind.TOO_MANY_TABLES, level, last, survey.table_size_log2(level))
