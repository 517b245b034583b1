"""Tests of harness.check.user_capture: a copy of tables reads as the tables do."""

from __future__ import annotations

import pytest

from harness.check import user_capture
from harness.check.user_capture import capture
from harness.vmsa import (
    AnomalyKind,
    Mapping,
    Regime,
    TableBuilder,
    VaRange,
    derive,
    mappings,
    registers_for,
    walk,
)

ARENA_PA = 0x4100_0000


@pytest.fixture(params=[(12, 16), (12, 25), (14, 17), (16, 16), (16, 12)], ids=str)
def builder(request: pytest.FixtureRequest) -> TableBuilder:
    """Tables of several depths, and with first tables smaller than a page."""
    granule, txsz = request.param
    registers = registers_for(granule_log2=granule, txsz=txsz, lva=txsz == 12, pa_bits=52, ips_bits=52)
    regime = derive(registers, VaRange.LOWER)
    assert isinstance(regime, Regime)
    built = TableBuilder(regime, ARENA_PA)
    page = 1 << granule
    for number in range(3):
        built.map((number << 32) + 5 * page, 0x4800_0000 + number * page, page, level=3)
    return built


def test_a_copy_maps_the_same(builder: TableBuilder) -> None:
    """A walk of the copy is a walk of the tables, and each table has a link but the first."""
    captured = capture(builder.regime, builder.read)
    assert list(mappings(builder.regime, captured.read)) == list(mappings(builder.regime, builder.read))
    assert len(captured.links) == len(captured.tables) - 1
    for link in captured.links:
        word = builder.read(link.pa, 8)
        assert word is not None
        assert int.from_bytes(word, "little") == link.table.word
        assert link.pa in {step.pa for step in walk(builder.regime, builder.read, link.va).chain}


def test_only_tables_are_copied(builder: TableBuilder) -> None:
    """What is no table is not in the copy, and neither is what lies beyond a table's end."""
    captured = capture(builder.regime, builder.read)
    assert captured.read(0x4800_0000, 8) is None
    end = builder.regime.table_pa + builder.regime.start_table_bytes
    assert captured.read(end - 8, 8) is not None
    assert captured.read(end - 8, 16) is None


def test_a_loop_ends(builder: TableBuilder) -> None:
    """A table that leads to itself is copied once."""
    form = builder.regime.address_format
    builder.plant(1 << 33, builder.regime.start_level, form.encode(builder.regime.table_pa & ~0xFFFF) | 0b11)
    assert len(capture(builder.regime, builder.read).tables) < 16


def test_a_copy_is_bounded(builder: TableBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that do not fit are left out, and a walk of the copy says so."""
    monkeypatch.setattr(user_capture, "LIMIT_BYTES", 2 << builder.regime.geometry.granule_log2)
    captured = capture(builder.regime, builder.read)
    found = list(mappings(builder.regime, captured.read))
    kinds = {one.kind for one in found if not isinstance(one, Mapping)}
    assert kinds == {AnomalyKind.TABLE_NOT_MEMORY}
