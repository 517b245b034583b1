"""Enumeration: windows, what is odd, and its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.vmsa import (
    Anomaly,
    AnomalyKind,
    Fault,
    Mapping,
    Regime,
    TableBuilder,
    Translation,
    VaRange,
    mappings,
    walk,
)

MakeRegime = Callable[..., Regime]
ARENA = 0x4000_0000
M2, G = 0x20_0000, 1 << 30


@pytest.fixture
def builder(make_regime: MakeRegime) -> TableBuilder:
    """Three pages, a block, and a page far away."""
    builder = TableBuilder(make_regime(), ARENA)
    builder.map(0x1000, 0x7000, 0x3000)
    builder.map(M2, 4 * M2, M2, level=2)
    builder.map(1 << 40, 0x9000, 0x1000)
    return builder


def _vas(found: list[Mapping | Anomaly]) -> list[int]:
    return [one.va for one in found]


def test_all_in_order(builder: TableBuilder) -> None:
    """Every leaf once, lowest address first."""
    found = list(mappings(builder.regime, builder.read))
    assert _vas(found) == [0x1000, 0x2000, 0x3000, M2, 1 << 40]
    assert all(isinstance(one, Mapping) for one in found)


@pytest.mark.parametrize(
    ("lo", "hi", "wanted"),
    [
        (0x2000, 0x3000, [0x2000]),
        (0x2FFF, 0x3001, [0x2000, 0x3000]),
        (0x4000, M2, []),
        (M2 + 0x5000, M2 + 0x5001, [M2]),
        (0, 0, []),
        (M2, 1 << 48, [M2, 1 << 40]),
        (0x3000, 0x1000, []),
    ],
)
def test_windows(builder: TableBuilder, lo: int, hi: int, wanted: list[int]) -> None:
    """[lo, hi) selects the leaves that map any address in it, whole."""
    assert _vas(list(mappings(builder.regime, builder.read, lo=lo, hi=hi))) == wanted


def test_upper_range_ends_at_2_to_the_64(make_regime: MakeRegime) -> None:
    """The last page of all is found, and its end is 2^64."""
    builder = TableBuilder(make_regime(VaRange.UPPER), ARENA)
    last = (1 << 64) - 0x1000
    builder.map(last, 0x5000, 0x1000)
    (one,) = mappings(builder.regime, builder.read, lo=last, hi=1 << 64)
    assert isinstance(one, Mapping)
    assert (one.va, one.end_va) == (last, 1 << 64)


def test_window_outside_the_range_is_refused(builder: TableBuilder) -> None:
    """Addresses of the other range are the caller's mistake."""
    for lo, hi in ((0, 1 << 49), (0xFFFF << 48, 1 << 64)):
        with pytest.raises(ValueError, match="not within the range"):
            mappings(builder.regime, builder.read, lo=lo, hi=hi)


def _plant(builder: TableBuilder, va: int, level: int, word: int) -> list[Anomaly]:
    builder.plant(va, level, word)
    return [one for one in mappings(builder.regime, builder.read) if isinstance(one, Anomaly)]


@pytest.mark.parametrize(
    ("level", "word", "kind", "pa"),
    [
        (1, 0x9_0000_0003, AnomalyKind.TABLE_NOT_MEMORY, 0x9_0000_0000),
        (1, 0x9000_0000_0003, AnomalyKind.TABLE_OUT_OF_RANGE, 0x9000_0000_0000),
        (1, 0x9000_0000_0401, AnomalyKind.OUTPUT_OUT_OF_RANGE, 0x9000_0000_0000),
        (3, 0x9000_0000_0403, AnomalyKind.OUTPUT_OUT_OF_RANGE, 0x9000_0000_0000),
        (0, 0x401, AnomalyKind.RESERVED, 0),
        (3, 0x401, AnomalyKind.RESERVED, 0),
    ],
)
def test_what_cannot_be_followed_is_reported(
    make_regime: MakeRegime, level: int, word: int, kind: AnomalyKind, pa: int
) -> None:
    """Each kind of bad descriptor is a value with its place, the rest is still found, and walks agree."""
    builder = TableBuilder(make_regime(ips_bits=40), ARENA)
    builder.map(0x1000, 0x7000, 0x1000)
    va = 5 << 39
    (anomaly,) = _plant(builder, va, level, word)
    size = builder.regime.geometry.size_log2(level)
    assert (anomaly.kind, anomaly.va, anomaly.pa, anomaly.word) == (kind, va, pa, word)
    assert anomaly.size_bytes == 1 << size
    assert [one.va for one in mappings(builder.regime, builder.read) if isinstance(one, Mapping)] == [0x1000]
    assert isinstance(walk(builder.regime, builder.read, va), Fault)


def test_table_that_points_to_itself(builder: TableBuilder) -> None:
    """A self-reference is followed once per level it serves at, and reported where it repeats."""
    root = builder.regime.table_pa
    builder.plant(510 << 39, 0, root | 3)
    builder.plant(511 << 39, 0, root | 3)
    found = list(mappings(builder.regime, builder.read))
    shared = [one for one in found if isinstance(one, Anomaly) and one.kind is AnomalyKind.TABLE_SHARED]
    assert {one.level for one in shared if one.pa == root} == {1, 2, 3}
    assert len(found) < 100
    # Expanded, its mappings double at every level: the levels and the cap are what bounds it.
    everything = list(mappings(builder.regime, builder.read, expand_shared=True, max_tables=20))
    assert isinstance(everything[-1], Anomaly)
    assert everything[-1].kind is AnomalyKind.TOO_MANY_TABLES


def test_shared_tables(builder: TableBuilder, make_regime: MakeRegime) -> None:
    """A table reached twice is said to be shared and with what, or read again when that is asked for."""
    builder.descriptor_pa(0x1000, 3)
    table_pa = builder.descriptor_pa(0x1000, 3) & ~0xFFF
    builder.plant(8 * M2, 2, table_pa | 3 | 1 << 59)
    *_, shared, last = mappings(builder.regime, builder.read)
    assert isinstance(shared, Anomaly)
    assert (shared.kind, shared.va, shared.first_va, shared.size_bytes) == (
        AnomalyKind.TABLE_SHARED, 8 * M2, 0, M2,
    )  # fmt: skip
    assert shared.inherited.pxn_table
    assert last.va == 1 << 40
    expanded = list(mappings(builder.regime, builder.read, expand_shared=True))
    again = [one for one in expanded if isinstance(one, Mapping) and 8 * M2 <= one.va < 9 * M2]
    assert [(one.va - 8 * M2, one.oa) for one in again] == [
        (0x1000, 0x7000),
        (0x2000, 0x8000),
        (0x3000, 0x9000),
    ]
    assert all(one.inherited.pxn_table for one in again)


def test_number_of_tables_is_capped(builder: TableBuilder) -> None:
    """After the cap the enumeration says so and ends."""
    (only,) = mappings(builder.regime, builder.read, max_tables=3)
    assert isinstance(only, Anomaly)
    assert (only.kind, only.level, only.size_bytes) == (AnomalyKind.TOO_MANY_TABLES, 3, M2)
    *_, last = mappings(builder.regime, builder.read, max_tables=4)
    assert (last.va, last.level) == (1 << 40, 1)


def test_first_table_outside_memory(make_regime: MakeRegime) -> None:
    """A TTBR that points nowhere is one anomaly over the whole range."""
    regime = make_regime()
    (anomaly,) = mappings(regime, lambda _pa, _size: None)
    assert isinstance(anomaly, Anomaly)
    assert (anomaly.kind, anomaly.size_bytes, anomaly.word) == (AnomalyKind.TABLE_NOT_MEMORY, 1 << 48, None)


def test_disabled_range_maps_nothing(builder: TableBuilder) -> None:
    """With TCR.EPD there are no walks, hence no mappings."""
    assert list(mappings(replace(builder.regime, epd=True), builder.read)) == []


def test_only_the_window_is_read(builder: TableBuilder) -> None:
    """Reads stay within the entries that the window needs."""
    reads: list[int] = []

    def read(pa: int, size_bytes: int) -> bytes | None:
        reads.append(size_bytes)
        return builder.read(pa, size_bytes)

    assert len(list(mappings(builder.regime, read, lo=0x2000, hi=0x3000))) == 1
    assert reads == [8, 8, 8, 8]


def test_walks_agree(builder: TableBuilder) -> None:
    """Each mapping is what a walk of its address finds."""
    for one in mappings(builder.regime, builder.read):
        assert isinstance(one, Mapping)
        outcome = walk(builder.regime, builder.read, one.va)
        assert isinstance(outcome, Translation)
        assert (outcome.pa, outcome.leaf, outcome.inherited) == (one.oa, one.leaf, one.inherited)
