"""Everything that a range maps, in order of addresses: the tables read whole, not address by address.

Bounded whatever the tables hold: a walk is never deeper than the levels there are, a table is read once per
level it serves at, and there is a cap. What cannot be followed is reported as an Anomaly, so that the rest
is still seen. Source: ASL AArch64_S1Walk and AArch64_S2Walk, as in `harness.vmsa.walk`.
May import the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal

from harness.vmsa.descriptor import Block, Page, Reserved, Table, TableAttributes, decode
from harness.vmsa.regime import Regime
from harness.vmsa.stage import Stage
from harness.vmsa.walk import (
    ARCHITECTURE,
    Choices,
    Memory,
    first_table_attributes,
    is_contiguous,
    leaf_oa,
    read,
)

__all__ = ["Anomaly", "AnomalyKind", "Mapping", "mappings"]

MAX_TABLES = 1 << 18
"""Tables read at most, by default; one that is larger than a granule counts as so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A leaf: `size_bytes` at `va` are mapped to `oa`."""

    va: int
    size_bytes: int
    """Of the leaf. A block may be larger than the output address size, and faults beyond it."""
    level: int
    oa: int
    """Where `va` is translated to. `leaf.oa` is the address as written, which differs for a member of a
    contiguous group that is programmed wrongly."""
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
    """Physical address of the table, or where a leaf would lead; 0 for reserved encodings."""
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

    stage: Stage
    memory: Memory
    lo: int
    hi: int
    max_tables: int
    expand_shared: bool
    honour_contiguous: bool
    seen: dict[tuple[int, int, int], int] = field(default_factory=dict)
    tables: int = 0
    stopped: bool = False

    def may_read_one_more(self) -> bool:
        """Count a table, or a granule of one; False, and the end of it all, when that is one too many."""
        self.stopped = self.tables >= self.max_tables
        self.tables += not self.stopped
        return not self.stopped


def mappings(
    stage: Stage,
    memory: Memory,
    *,
    lo: int | None = None,
    hi: int | None = None,
    expand_shared: bool = False,
    max_tables: int = MAX_TABLES,
    choices: Choices = ARCHITECTURE,
) -> Iterator[Mapping | Anomaly]:
    """Every leaf that maps an address in [lo, hi), whole, in order of addresses, and what was odd.

    `stage` is a Regime or a Stage2Regime; `lo` and `hi` are input addresses of its range, 64-bit ones, by
    default its ends (`hi` may be 2^64). A table that is reached again at the same level is reported as
    TABLE_SHARED and read again only with `expand_shared`: kernels built with KASAN reach one table through
    thousands of entries. After `max_tables` tables the enumeration says TOO_MANY_TABLES and ends. A range
    that TCR.EPD disables maps nothing. A leaf is a mapping though its access flag, or one of `choices`, make
    a walk of it fault: of those only `honour_contiguous` matters here. Raises ValueError when lo or hi is
    outside the range.
    """
    start, end = stage.lowest_va, stage.lowest_va + (1 << stage.iasize_bits)
    lo, hi = start if lo is None else lo, end if hi is None else hi
    if not (start <= lo <= end and start <= hi <= end):
        raise ValueError(f"[{lo:#x}, {hi:#x}) is not within the range [{start:#x}, {end:#x})")
    if isinstance(stage, Regime) and stage.epd:
        return iter(())
    survey = _Survey(stage, memory, lo, hi, max_tables, expand_shared, choices.honour_contiguous)
    inherited = first_table_attributes(stage)
    return _table(survey, _Place(stage.start_level, stage.table_pa, start, 1 << stage.start_bits, inherited))


def _table(survey: _Survey, place: _Place) -> Iterator[Mapping | Anomaly]:
    """The mappings below one table."""
    geometry = survey.stage.geometry
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
    if place.entries << geometry.desc_log2 > 1 << geometry.granule_log2:
        yield from _large_table(survey, place, first, last)
        return
    data = read(survey.memory, place.pa + (first << geometry.desc_log2), last - first << geometry.desc_log2)
    if data is None:
        yield _anomaly(AnomalyKind.TABLE_NOT_MEMORY, survey, place)
        return
    yield from _entries(survey, place, first, data)


def _obstacle(survey: _Survey, place: _Place) -> Anomaly | None:
    """What keeps a table from being read, or is to be said of it first."""
    table_bytes = place.entries << survey.stage.geometry.desc_log2
    is_large = table_bytes > 1 << survey.stage.geometry.granule_log2
    if not is_large and survey.stage.oa_out_of_range(place.pa + table_bytes - 1):
        return _anomaly(AnomalyKind.TABLE_OUT_OF_RANGE, survey, place)
    if not survey.may_read_one_more():
        return _anomaly(AnomalyKind.TOO_MANY_TABLES, survey, place)
    first_va = survey.seen.setdefault((place.pa, place.level, place.entries), place.va)
    if first_va != place.va:
        return _anomaly(AnomalyKind.TABLE_SHARED, survey, place, first_va=first_va)
    return None


def _large_table(survey: _Survey, place: _Place, first: int, last: int) -> Iterator[Mapping | Anomaly]:
    """The mappings below a table of more than a granule, which is read by the granule.

    It is that large where levels were skipped, and may be terabytes in name, in memory only here and there.
    A base that is not aligned to the table's size is ORed with, as a walk does.
    """
    geometry = survey.stage.geometry
    size_log2 = geometry.size_log2(place.level)
    per_piece = 1 << geometry.granule_log2 - geometry.desc_log2
    hole: Anomaly | None = None
    for number in range(first // per_piece, -(-last // per_piece)):
        start = number * per_piece
        part = replace(
            place,
            pa=place.pa | start << geometry.desc_log2,
            va=place.va + (start << size_log2),
            entries=per_piece,
        )
        if number != first // per_piece and not survey.may_read_one_more():
            yield from () if hole is None else (hole,)
            yield _anomaly(AnomalyKind.TOO_MANY_TABLES, survey, part)
            return
        begin, end = max(first - start, 0), min(last - start, per_piece)
        kind = AnomalyKind.TABLE_OUT_OF_RANGE if survey.stage.oa_out_of_range(part.pa) else None
        data = None
        if kind is None:
            pa = part.pa + (begin << geometry.desc_log2)
            data = read(survey.memory, pa, end - begin << geometry.desc_log2)
            kind = AnomalyKind.TABLE_NOT_MEMORY if data is None else None
        if hole is not None and hole.kind is kind:
            hole = replace(hole, size_bytes=hole.size_bytes + (per_piece << size_log2))
            continue
        yield from () if hole is None else (hole,)
        hole = None if kind is None else _anomaly(kind, survey, part)
        if data is not None:
            yield from _entries(survey, part, begin, data)
            if survey.stopped:
                return
    yield from () if hole is None else (hole,)


def _entries(survey: _Survey, place: _Place, first: int, data: bytes) -> Iterator[Mapping | Anomaly]:
    """The mappings of the descriptors in `data`, entries of a table from `first` on."""
    geometry = survey.stage.geometry
    order: Literal["big", "little"] = "big" if survey.stage.big_endian else "little"
    step, size_log2 = geometry.desc_bytes, geometry.size_log2(place.level)
    for number, at in enumerate(range(0, len(data), step), first):
        word = int.from_bytes(data[at : at + step], order)
        if word & 1:
            yield from _entry(survey, place, word, place.va + (number << size_log2))
            if survey.stopped:
                return


def _entry(survey: _Survey, place: _Place, word: int, va: int) -> Iterator[Mapping | Anomaly]:
    """The mappings of one descriptor whose bit 0 is set."""
    stage, geometry = survey.stage, survey.stage.geometry
    descriptor = decode(word, place.level, geometry, stage.address_format)
    pa = 0
    match descriptor:
        case Table():
            entries = 1 << geometry.index_bits(descriptor.skl)
            inherited = place.inherited.under(descriptor) if stage.number == 1 else place.inherited
            below = _Place(descriptor.next_level, descriptor.next_pa, va, entries, inherited, word)
            yield from _table(survey, below)
            return
        case Block() | Page():
            contiguous = is_contiguous(stage, descriptor, place.inherited)
            pa = leaf_oa(stage, descriptor, va, contiguous=contiguous and survey.honour_contiguous)
            if not stage.oa_out_of_range(pa):
                yield Mapping(
                    va=va,
                    size_bytes=1 << geometry.size_log2(place.level),
                    level=place.level,
                    oa=pa,
                    leaf=descriptor,
                    inherited=place.inherited,
                    contiguous=contiguous,
                )
                return
    is_reserved = isinstance(descriptor, Reserved)
    yield Anomaly(
        kind=AnomalyKind.RESERVED if is_reserved else AnomalyKind.OUTPUT_OUT_OF_RANGE,
        va=va,
        size_bytes=1 << geometry.size_log2(place.level),
        level=place.level,
        pa=pa,
        inherited=place.inherited,
        word=word,
    )


def _anomaly(kind: AnomalyKind, survey: _Survey, place: _Place, *, first_va: int | None = None) -> Anomaly:
    size_log2 = survey.stage.geometry.size_log2(place.level)
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
