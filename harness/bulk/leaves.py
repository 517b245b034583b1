"""Every leaf of a range as columns, and what was odd as columns.

May import NumPy and `harness.vmsa` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.bulk.columns import Bools, Columns, LeafEntries, Levels, Small, Words
from harness.vmsa.descriptor import AddressFormat, Block, Page, TableAttributes
from harness.vmsa.field import ones
from harness.vmsa.geometry import FINAL_LEVEL
from harness.vmsa.mapping import Anomaly, AnomalyKind, Mapping
from harness.vmsa.regime import Regime
from harness.vmsa.walk import is_contiguous

__all__ = [
    "INHERITED_SHIFT",
    "KINDS",
    "Anomalies",
    "Leaves",
    "addresses",
    "groups_log2",
    "unpacked",
]

KINDS: Final = tuple(AnomalyKind)
"""The kinds of anomaly, by their number in a column."""

INHERITED_SHIFT: Final = 59
"""Table attributes are descriptor bits 63:59, packed: NSTable 4, APTable 3:2, UXNTable 1, PXNTable 0."""


def unpacked(inherited: int) -> TableAttributes:
    """Packed table attributes as the specification has them."""
    return TableAttributes(
        ap_table=inherited >> 2 & 0b11,
        uxn_table=bool(inherited & 0b10),
        pxn_table=bool(inherited & 0b1),
        ns_table=bool(inherited & 0b10000),
    )


def addresses(address_format: AddressFormat, words: Words, lo: int) -> Words:
    """The addresses in descriptors, their bits below `lo` zero: AddressFormat.address on an array."""
    match address_format:
        case AddressFormat.PA48:
            return words & np.uint64(ones(48) & ~ones(lo))
        case AddressFormat.LPA:
            high = (words & np.uint64(0xF000)) << np.uint64(36)
            return words & np.uint64(ones(48) & ~ones(lo)) | high
        case AddressFormat.LPA2:
            high = (words & np.uint64(0x300)) << np.uint64(42)
            return words & np.uint64(ones(50) & ~ones(lo)) | high
        case AddressFormat.D128:
            return words & np.uint64(ones(56) & ~ones(lo))  # of the lower halves


def groups_log2(regime: Regime, leaves: LeafEntries | Anomalies) -> Small:
    """log2 of the bytes of each leaf's contiguous group, or of the leaf itself (walk.is_contiguous)."""
    if regime.pnch:
        return leaves.size_log2
    by_level = np.array(
        [regime.geometry.contiguous_log2(level) for level in range(FINAL_LEVEL + 1)], np.uint8
    )
    marked = (leaves.word >> np.uint64(52)).astype(np.uint8) & np.uint8(1)
    return leaves.size_log2 + marked * by_level[leaves.level]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anomalies(Columns):
    """What was found where leaves could have been, in the order in which the specification says it.

    Iterating, or indexing, gives the specification's values.
    """

    kind: Small
    """Index into KINDS."""
    size_log2: Small
    level: Levels
    pa: Words
    inherited: Small
    word: Words
    """The descriptor, or 0 where the specification has None: no descriptor that was followed is 0."""
    first_va: Words
    """For TABLE_SHARED; otherwise 0."""

    @classmethod
    def none(cls) -> Anomalies:
        """No anomalies."""
        wide, small = np.empty(0, np.uint64), np.empty(0, np.uint8)
        return cls(
            va=wide,
            kind=small,
            size_log2=small,
            level=np.empty(0, np.int8),
            pa=wide,
            inherited=small,
            word=wide,
            first_va=wide,
        )

    def __getitem__(self, index: int) -> Anomaly:
        kind = KINDS[self.kind[index]]
        return Anomaly(
            kind=kind,
            va=int(self.va[index]),
            size_bytes=1 << int(self.size_log2[index]),
            level=int(self.level[index]),
            pa=int(self.pa[index]),
            inherited=unpacked(int(self.inherited[index])),
            word=int(self.word[index]) or None,
            first_va=int(self.first_va[index]) if kind is AnomalyKind.TABLE_SHARED else None,
        )

    def __iter__(self) -> Iterator[Anomaly]:
        return (self[index] for index in range(len(self)))

    def of_kind(self, kind: AnomalyKind) -> Bools:
        """A mask of those of a kind."""
        return np.equal(self.kind, np.uint8(KINDS.index(kind)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Leaves:
    """Every leaf of a range, in order of addresses; columns of one length, read-only.

    Iterating, or indexing, gives the specification's values.
    """

    regime: Regime
    entries: LeafEntries
    anomalies: Anomalies
    """What was not followed. A table that is reached again is one of them: see `walk_all`."""
    tables: int
    """Tables that were reached, each counted as often as it was."""

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Mapping:
        level, word, size_log2 = int(self.level[index]), int(self.word[index]), int(self.size_log2[index])
        written = self.regime.address_format.address(word, size_log2)
        leaf = Page(word, level, written) if level == FINAL_LEVEL else Block(word, level, written)
        return Mapping(
            va=int(self.va[index]),
            size_bytes=1 << size_log2,
            level=level,
            oa=int(self.pa[index]),
            leaf=leaf,
            inherited=unpacked(int(self.inherited[index])),
            contiguous=is_contiguous(self.regime, leaf),
        )

    def __iter__(self) -> Iterator[Mapping]:
        return (self[index] for index in range(len(self)))

    @property
    def va(self) -> Words:
        """First address of each leaf."""
        return self.entries.va

    @property
    def pa(self) -> Words:
        """Output addresses: where the first address of each leaf is translated to (Mapping.oa)."""
        return self.entries.pa

    @property
    def word(self) -> Words:
        """Raw descriptors."""
        return self.entries.word

    @property
    def level(self) -> Levels:
        """Levels of the descriptors."""
        return self.entries.level

    @property
    def size_log2(self) -> Small:
        """log2 of the bytes that each leaf maps."""
        return self.entries.size_log2

    @property
    def size_bytes(self) -> Words:
        """Bytes that each leaf maps."""
        return np.uint64(1) << self.size_log2.astype(np.uint64)

    @property
    def inherited(self) -> Small:
        """What the tables handed down, as written, packed (INHERITED_SHIFT)."""
        return self.entries.inherited

    @property
    def group_log2(self) -> Small:
        """log2 of the bytes of each leaf's contiguous group; of the leaf itself where it is in none."""
        return groups_log2(self.regime, self.entries)
