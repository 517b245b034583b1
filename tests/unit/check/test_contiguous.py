"""Tests of harness.check.contiguous: one broken descriptor in a group, wherever in it."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest

from harness.check.contiguous import contiguous_groups_are_whole
from harness.check.half import KernelHalf
from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for

ARENA_PA, GROUP_PA, VA = 0x9000_0000, 0x8000_0000, 0xFFFF_0000_0000_0000
DATA = leaf_attributes(pxn=True, uxn=True)
CONTIGUOUS = 1 << 52
ENTRIES = {12: 16, 14: 128, 16: 32}


@pytest.fixture(params=[12, 14, 16], ids=["4k", "16k", "64k"])
def tables(request: pytest.FixtureRequest) -> TableBuilder:
    """Two contiguous groups of pages side by side, and a block group at level 2."""
    return deepcopy(_built(request.param))


@cache
def _built(granule_log2: int) -> TableBuilder:
    regime = derive(registers_for(granule_log2=granule_log2, txsz=16), VaRange.UPPER)
    assert isinstance(regime, Regime)
    built = TableBuilder(regime, ARENA_PA)
    size = ENTRIES[granule_log2] << granule_log2
    built.map(VA, GROUP_PA, 2 * size, attributes=DATA, level=3, contiguous=True)
    block = regime.geometry.size_log2(2)
    group = 1 << regime.geometry.contiguous_log2(2) + block
    built.map(VA + 4 * group, 4 * group, group, attributes=DATA, level=2, contiguous=True)
    return built


def _page(tables: TableBuilder) -> int:
    return 1 << tables.regime.geometry.granule_log2


def _said(tables: TableBuilder) -> list[str]:
    half = KernelHalf.of(tables.regime, tables.read, (range(1 << 48),))
    return [str(finding) for finding in contiguous_groups_are_whole(half)]


def test_whole_groups_have_no_finding(tables: TableBuilder) -> None:
    """Groups as they must be, at two levels."""
    assert _said(tables) == []


@pytest.mark.parametrize("place", [0, 1, -1])
@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("contiguous groups: attributes", lambda word, _: word ^ 1 << 7),
        ("contiguous groups: attributes", lambda word, _: word ^ 1 << 2),
        ("contiguous groups: output address", lambda word, page: word + (1 << 30)),
        ("contiguous groups: output address", lambda word, page: word ^ page),
        ("contiguous groups: incomplete", lambda word, _: word & ~CONTIGUOUS),
        ("contiguous groups: incomplete", lambda word, _: 0),
    ],
)
def test_one_odd_descriptor_is_found_at_its_address(
    tables: TableBuilder, place: int, rule: str, change: object
) -> None:
    """It is the odd one that is named, be it the first, the second or the last of the group."""
    page, entries = _page(tables), ENTRIES[tables.regime.geometry.granule_log2]
    at = place % entries
    va = VA + at * page
    word = DATA | CONTIGUOUS | GROUP_PA + at * page | 0b11
    assert callable(change)
    tables.plant(va, 3, change(word, page))
    (said,) = _said(tables)
    assert said.startswith(rule)
    assert f"{va:#x}" in said


@pytest.mark.parametrize(
    "bits", [1 << 10, 1 << 55, 1 << 58], ids=["access flag", "software dirty", "software"]
)
def test_what_hardware_and_linux_write_to_one_may_differ(tables: TableBuilder, bits: int) -> None:
    """The access flag and software's bits of one descriptor are its own."""
    tables.plant(VA, 3, (DATA | CONTIGUOUS | GROUP_PA | 0b11) ^ bits)
    assert _said(tables) == []


def test_dirty_state_may_differ_where_it_is_that(tables: TableBuilder) -> None:
    """AP[2] is dirty state in descriptors with DBM, and may differ there."""
    page, entries = _page(tables), ENTRIES[tables.regime.geometry.granule_log2]
    for at in range(entries):
        word = DATA | 1 << 51 | CONTIGUOUS | GROUP_PA + at * page | 0b11
        tables.plant(VA + at * page, 3, word | (at == 3) << 7)
    assert _said(tables) == []
