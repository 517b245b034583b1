"""Leaves as values of the specification, and what is derived from their columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bulk import Ram, walk_all
from harness.bulk.leaves import addresses, unpacked
from harness.vmsa import AddressFormat, AnomalyKind, Table, TableAttributes, TableBuilder


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_group_sizes(worlds: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """A leaf of a contiguous group has the group's size, any other its own."""
    world = data.draw(worlds)
    leaves = walk_all(world.regime, world.ram)
    for one, size_bytes, group_log2 in zip(
        leaves, leaves.size_bytes.tolist(), leaves.group_log2.tolist(), strict=True
    ):
        assert size_bytes == one.size_bytes
        entries_log2 = world.regime.geometry.contiguous_log2(one.level) if one.contiguous else 0
        assert 1 << group_log2 == one.size_bytes << entries_log2


@given(word=st.integers(0, (1 << 64) - 1))
def test_addresses(word: int) -> None:
    """The address in any word is the specification's, in every format."""
    for form in AddressFormat:
        for lo in (12, 14, 16, 21, 30, 42):
            (found,) = addresses(form, np.array([word], np.uint64), lo).tolist()
            assert found == form.address(word, lo)


@given(word=st.integers(0, (1 << 64) - 1))
def test_table_attributes(word: int) -> None:
    """Bits 63:59, packed, are what the specification hands down."""
    assert unpacked(word >> 59) == TableAttributes().under(Table(word, 0, 0))


def test_anomalies_by_kind(builder: TableBuilder) -> None:
    """Those of a kind can be picked out."""
    builder.plant(builder.regime.lowest_va + (2 << 39), 0, 0x9_0000_0003)
    builder.plant(builder.regime.lowest_va + (3 << 39), 0, 0x401)
    found = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa)).anomalies
    (reserved,) = found.take(found.of_kind(AnomalyKind.RESERVED))
    assert (len(found), reserved.word) == (2, 0x401)
