"""Everything that a half maps, in rows that people can read, with totals.

A row is a run of leaves that hardware treats alike. May import `harness.bulk`, `harness.vmsa` and this
package's layout and words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.bulk import Leaves, Runs, TableSource, runs, walk_all
from harness.tables.layout import Region, layout
from harness.tables.words import leaf_name
from harness.vmsa import (
    Anomaly,
    AnomalyKind,
    Mapping,
    Memory,
    Permissions,
    Regime,
    Right,
    memory_type,
    permissions,
    shareability,
)
from harness.vmsa.attributes import DeviceMemory, MemoryType, NormalMemory

__all__ = ["Row", "Share", "Survey", "Totals", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Neighbouring leaves that hardware treats alike, their output addresses one after the other."""

    va: int
    size_bytes: int
    pa: int
    level: int
    leaf_bytes: int
    group_bytes: int
    """Of the contiguous group; `leaf_bytes` where the leaves are in none."""
    leaves: int
    word: int
    """The first leaf's descriptor."""
    rights: Permissions
    """Of EL1 without PAN, and of EL0."""
    memory: MemoryType
    shareability: str
    leaf: str
    """What maps it, in words."""

    @property
    def end_va(self) -> int:
        """The first address after it; 2^64 at the end of the address space."""
        return self.va + self.size_bytes

    @property
    def is_contiguous(self) -> bool:
        """True for leaves in contiguous groups."""
        return self.group_bytes > self.leaf_bytes

    @property
    def is_device(self) -> bool:
        """True for Device memory."""
        return isinstance(self.memory, DeviceMemory)

    @property
    def is_cached(self) -> bool:
        """True for Normal memory of any cacheability but none."""
        return isinstance(self.memory, NormalMemory) and self.memory.inner.policy.value != "NC"

    @property
    def is_write_exec(self) -> bool:
        """True where an exception level may write and execute it."""
        both = Right.WRITE | Right.EXECUTE
        return both in self.rights.privileged or both in self.rights.user


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much is mapped by leaves of one kind."""

    leaf: str
    level: int
    leaf_bytes: int
    group_bytes: int
    leaves: int
    mapped_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Leaves and tables in all."""

    leaves: int
    mapped_bytes: int
    tables: int
    table_bytes: int
    """Of memory that holds the tables."""
    shares: tuple[Share, ...]
    """By kind of leaf, the smallest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A half that was read whole; holds no memory of the guest."""

    origin: str
    half: str
    regime: Regime
    leaves: Leaves
    found: Runs
    regions: tuple[Region, ...]
    totals: Totals
    notes: tuple[str, ...] = ()

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What was odd; a table that is reached twice is not."""
        odd = self.leaves.anomalies
        return tuple(odd.take(~odd.of_kind(AnomalyKind.TABLE_SHARED)))

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """The rows in order of addresses, at most so many."""
        end = len(self.found) if limit is None else min(limit, len(self.found))
        return (self._row(index) for index in range(end))

    def in_region(self, region: Region) -> Leaves:
        """The leaves that start in a region."""
        # Subtracted first: the end of the address space does not fit the column.
        offset = self.leaves.va - np.uint64(region.start_va)
        return _some(self.leaves, np.flatnonzero(offset <= np.uint64(region.size_bytes - 1)))

    def region_of(self, va: int) -> Region:
        """The region that an address is in."""
        return next(region for region in self.regions if region.start_va <= va < region.end_va)

    def _row(self, index: int) -> Row:
        first = self.leaves[int(self.found.first[index])]
        regime = self.regime
        group_log2 = regime.geometry.contiguous_log2(first.level) if first.contiguous else 0
        return Row(
            va=first.va,
            size_bytes=int(self.found.size_bytes[index]),
            pa=first.oa,
            level=first.level,
            leaf_bytes=first.size_bytes,
            group_bytes=first.size_bytes << group_log2,
            leaves=int(self.found.count[index]),
            word=first.word,
            rights=permissions(regime, first.leaf, first.inherited),
            memory=memory_type(regime, first.leaf),
            shareability=shareability(regime, first.leaf).name.lower(),
            leaf=_name(regime, first),
        )


def survey(
    regime: Regime, memory: TableSource | Memory, *, origin: str, half: str, notes: tuple[str, ...] = ()
) -> Survey:
    """Read all tables of a half from wherever they are; whatever they hold is a value."""
    leaves = walk_all(regime, memory)
    return Survey(
        origin=origin,
        half=half,
        regime=regime,
        leaves=leaves,
        found=runs(leaves),
        regions=layout(leaves),
        totals=totals(leaves),
        notes=notes,
    )


def totals(leaves: Leaves) -> Totals:
    """What some leaves and all the tables come to."""
    shares = tuple(_shares(leaves))
    odd = leaves.anomalies
    unread = odd.of_kind(AnomalyKind.TABLE_SHARED) | odd.of_kind(AnomalyKind.TABLE_NOT_MEMORY)
    tables = max(0, leaves.tables - int(np.count_nonzero(unread)))
    below_first = max(0, tables - 1) << leaves.regime.geometry.granule_log2
    return Totals(
        leaves=len(leaves),
        mapped_bytes=sum(share.mapped_bytes for share in shares),
        tables=tables,
        table_bytes=below_first + (leaves.regime.start_table_bytes if tables else 0),
        shares=shares,
    )


def _shares(leaves: Leaves) -> Iterator[Share]:
    kinds = leaves.size_log2.astype(np.uint16) << np.uint16(8) | leaves.group_log2
    for kind, first, number in zip(*np.unique(kinds, return_index=True, return_counts=True), strict=True):
        leaf_bytes = 1 << (int(kind) >> 8)
        example = leaves[int(first)]
        yield Share(
            leaf=_name(leaves.regime, example),
            level=example.level,
            leaf_bytes=leaf_bytes,
            group_bytes=1 << (int(kind) & 0xFF),
            leaves=int(number),
            mapped_bytes=int(number) * leaf_bytes,
        )


def _name(regime: Regime, leaf: Mapping) -> str:
    return leaf_name(regime.geometry, leaf.level, contiguous=leaf.contiguous)


def _some(leaves: Leaves, which: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Leaves:
    return Leaves(
        regime=leaves.regime,
        entries=leaves.entries.take(which),
        anomalies=leaves.anomalies,
        tables=leaves.tables,
    )
