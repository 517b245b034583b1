"""Everything that a range maps, in order of addresses: the tables read whole, not address by address.

Bounded whatever the tables hold: a walk is never deeper than the levels there are, a table is read once per
level it serves at, and there is a cap. What cannot be followed is reported as an Anomaly, so that the rest
is still seen. Source: ASL AArch64_S1Walk, as in `harness.vmsa.walk`.
May import the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from harness.vmsa.descriptor import Block, Page, Reserved, Table, TableAttributes, decode
from harness.vmsa.regime import Regime
from harness.vmsa.walk import Memory, is_contiguous, read

__all__ = ["Anomaly", "AnomalyKind", "Mapping", "mappings"]

MAX_TABLES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A leaf: `size_bytes` at `va` are mapped to `oa`."""

    va: int
    size_bytes: int
    level: int
    oa: int
    """As written: a contiguous group programmed wrongly may translate otherwise (`Choices`)."""
    leaf: Block | Page
    inherited: TableAttributes
    """What the tables handed down, as written."""
    contiguous: bool
    """The leaf is one of a contiguous group: the bit is set, and means that here."""

    @property
    def word(self) -> int:
        """The raw descriptor."""
        return self.leaf.word

    @property
    def end_va(self) -> int:
        """The first address after it; 2^64 at the end of the upper range."""
        return self.va + self.size_bytes


class AnomalyKind(Enum):
    """Why a part of a table was not followed; the value is how people say it."""

    TABLE_NOT_MEMORY = "the table is not in memory"
    TABLE_OUT_OF_RANGE = "the table's address is beyond the output address size"
    TABLE_SHARED = "the table is reached a second time"
    TOO_MANY_TABLES = "there are more tables than were allowed"
    RESERVED = "the descriptor is a reserved encoding"
    OUTPUT_OUT_OF_RANGE = "the output address is beyond the output address size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """What was found where a mapping could have been."""

    kind: AnomalyKind
    va: int
    size_bytes: int
    """Of the addresses concerned."""
    level: int
    """Of the table or descriptor concerned."""
    pa: int
    """Physical address of the table, or that a leaf would have given; 0 for reserved encodings."""
    inherited: TableAttributes
    word: int | None = None
    """The descriptor; None for the first table and for TOO_MANY_TABLES."""
    first_va: int | None = None
    """For TABLE_SHARED: where the same table was reached first, at the same level."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A table to be read: where it is, and what it maps."""

    level: int
    pa: int
    va: int
    entries: int
    inherited: TableAttributes
    word: int | None = None


@dataclass(slots=True)
class _Survey:
    """The state of one enumeration."""

    regime: Regime
    memory: Memory
    lo: int
    hi: int
    max_tables: int
    expand_shared: bool
    seen: dict[tuple[int, int], int] = field(default_factory=dict)
    tables: int = 0
    stopped: bool = False


def mappings(
    regime: Regime,
    memory: Memory,
    *,
    lo: int | None = None,
    hi: int | None = None,
    expand_shared: bool = False,
    max_tables: int = MAX_TABLES,
) -> Iterator[Mapping | Anomaly]:
    """Every leaf that maps an address in [lo, hi), whole, in order of addresses, and what was odd.

    `lo` and `hi` are 64-bit addresses of the regime's range, by default its ends (`hi` may be 2^64). A
    table that is reached again at the same level is reported as TABLE_SHARED and read again only with
    `expand_shared`: kernels built with KASAN reach one table through thousands of entries. After
    `max_tables` tables the enumeration says TOO_MANY_TABLES and ends. A range that TCR.EPD disables maps
    nothing. Raises ValueError when lo or hi is outside the range.
    """
    start, end = regime.lowest_va, regime.lowest_va + (1 << regime.iasize_bits)
    lo, hi = start if lo is None else lo, end if hi is None else hi
    if not (start <= lo <= end and start <= hi <= end):
        raise ValueError(f"[{lo:#x}, {hi:#x}) is not within the range [{start:#x}, {end:#x})")
    survey = _Survey(regime, memory, lo, hi, max_tables, expand_shared)
    if regime.epd:
        return iter(())
    entries = 1 << regime.geometry.start_bits(regime.iasize_bits)
    root = _Place(regime.start_level, regime.table_pa, start, entries, TableAttributes())
    return _table(survey, root)


def _table(survey: _Survey, place: _Place) -> Iterator[Mapping | Anomaly]:
    """The mappings below one table."""
    geometry = survey.regime.geometry
    size_log2 = geometry.size_log2(place.level)
    first = max(0, survey.lo - place.va) >> size_log2
    last = min(place.entries, -(-(survey.hi - place.va) >> size_log2))
    if first >= last or survey.stopped:
        return
    anomaly = _obstacle(survey, place)
    if anomaly is not None:
        yield anomaly
        if anomaly.kind is not AnomalyKind.TABLE_SHARED or not survey.expand_shared:
            return
    start_pa = place.pa + (first << geometry.desc_log2)
    data = read(survey.memory, start_pa, (last - first) << geometry.desc_log2)
    if data is None:
        yield _anomaly(AnomalyKind.TABLE_NOT_MEMORY, survey, place)
        return
    order: Literal["big", "little"] = "big" if survey.regime.big_endian else "little"
    for number in range(last - first):
        word = int.from_bytes(data[8 * number : 8 * number + 8], order)
        if word & 1:
            yield from _entry(survey, place, word, place.va + ((first + number) << size_log2))
            if survey.stopped:
                return


def _obstacle(survey: _Survey, place: _Place) -> Anomaly | None:
    """What keeps a table from being read, or is to be said of it first."""
    last_pa = place.pa + (place.entries << survey.regime.geometry.desc_log2) - 1
    if survey.regime.oa_out_of_range(last_pa):
        return _anomaly(AnomalyKind.TABLE_OUT_OF_RANGE, survey, place)
    if survey.tables >= survey.max_tables:
        survey.stopped = True
        return _anomaly(AnomalyKind.TOO_MANY_TABLES, survey, place)
    survey.tables += 1
    first_va = survey.seen.setdefault((place.pa, place.level), place.va)
    if first_va != place.va:
        return _anomaly(AnomalyKind.TABLE_SHARED, survey, place, first_va=first_va)
    return None


def _entry(survey: _Survey, place: _Place, word: int, va: int) -> Iterator[Mapping | Anomaly]:
    """The mappings of one descriptor whose bit 0 is set."""
    regime = survey.regime
    descriptor = decode(word, place.level, regime.geometry, regime.address_format)
    size_log2 = regime.geometry.size_log2(place.level)
    match descriptor:
        case Table():
            entries = 1 << regime.geometry.stride_bits
            inherited = place.inherited.under(descriptor)
            yield from _table(
                survey, _Place(place.level + 1, descriptor.next_pa, va, entries, inherited, word)
            )
        case Block() | Page() if not regime.oa_out_of_range(descriptor.oa):
            yield Mapping(
                va=va,
                size_bytes=1 << size_log2,
                level=place.level,
                oa=descriptor.oa,
                leaf=descriptor,
                inherited=place.inherited,
                contiguous=is_contiguous(regime, descriptor),
            )
        case Block() | Page() | Reserved():
            reserved = isinstance(descriptor, Reserved)
            yield Anomaly(
                kind=AnomalyKind.RESERVED if reserved else AnomalyKind.OUTPUT_OUT_OF_RANGE,
                va=va,
                size_bytes=1 << size_log2,
                level=place.level,
                pa=0 if isinstance(descriptor, Reserved) else descriptor.oa,
                inherited=place.inherited,
                word=word,
            )


def _anomaly(kind: AnomalyKind, survey: _Survey, place: _Place, *, first_va: int | None = None) -> Anomaly:
    size_log2 = survey.regime.geometry.size_log2(place.level)
    return Anomaly(
        kind=kind,
        va=place.va,
        size_bytes=place.entries << size_log2,
        level=place.level,
        pa=place.pa,
        inherited=place.inherited,
        word=None if kind is AnomalyKind.TOO_MANY_TABLES else place.word,
        first_va=first_va,
    )
