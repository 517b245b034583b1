"""Runs: they cover the leaves, are alike inside, and are not longer than that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bulk import HW, PTDUMP, Leaves, Ram, runs, walk_all
from harness.bulk.leaves import unpacked
from harness.vmsa import Mapping, Regime, TableBuilder, leaf_attributes
from harness.vmsa.descriptor import Leaf

MASKS = (HW, PTDUMP, 0, (1 << 64) - 1)


def _attributes(regime: Regime, one: Mapping, mask: int) -> int:
    """A leaf's descriptor under a mask, spelt out bit by bit."""
    word = one.word & mask & ~regime.address_format.mask(regime.geometry.granule_log2)
    hardware_writes = regime.ha and regime.hd and one.leaf.dbm and not regime.pie
    return word & ~Leaf.ndirty.mask if hardware_writes and not mask & Leaf.af.mask else word


@settings(max_examples=70, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_runs_are_the_leaves(worlds: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """Leaf by leaf: one goes on with the run of the one before if it is alike, and only then."""
    world, mask = data.draw(worlds), data.draw(st.sampled_from(MASKS))
    by = {name: data.draw(st.booleans()) for name in ("contiguous_pa", "by_level", "by_tables")}
    leaves = walk_all(world.regime, world.ram)
    found = runs(leaves, mask, **by)
    wanted: list[list[Mapping]] = []
    for one in leaves:
        last = wanted[-1][-1] if wanted else None
        alike = (
            last is not None
            and last.end_va == one.va
            and _attributes(world.regime, last, mask) == _attributes(world.regime, one, mask)
            and (last.oa + last.size_bytes == one.oa or not by["contiguous_pa"])
            and (last.level == one.level or not by["by_level"])
            and (last.inherited == one.inherited or not by["by_tables"])
        )
        if alike:
            wanted[-1].append(one)
        else:
            wanted.append([one])
    assert found.count.tolist() == [len(run) for run in wanted]
    assert found.va.tolist() == [run[0].va for run in wanted]
    assert found.size_bytes.tolist() == [sum(one.size_bytes for one in run) for run in wanted]
    assert found.attributes.tolist() == [_attributes(world.regime, run[0], mask) for run in wanted]
    assert [leaves[first] for first in found.first] == [run[0] for run in wanted]
    assert found.pa.tolist() == [run[0].oa for run in wanted]
    assert found.level.tolist() == [run[0].level for run in wanted]
    assert [unpacked(one) for one in found.inherited.tolist()] == [run[0].inherited for run in wanted]


def _all(builder: TableBuilder) -> Leaves:
    return walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))


def test_software_bits_divide_neither(builder: TableBuilder) -> None:
    """Hardware's and the dump's masks join over software's bits; addresses need not go on for the dump."""
    at = builder.regime.lowest_va
    builder.map(at + 0x4000, 0x5000_4000, 0x1000, attributes=leaf_attributes(uxn=True, software=1))
    assert runs(_all(builder), HW).size_bytes[0] == 0x6000
    builder.plant(at + 0x4000, 3, 0x9000 | 3 | leaf_attributes(uxn=True))
    assert runs(_all(builder), HW).size_bytes[0] == 0x3000
    assert runs(_all(builder), PTDUMP, contiguous_pa=False).size_bytes[0] == 0x6000


@pytest.mark.parametrize("managed", [False, True])
def test_dirty_state_is_not_an_attribute(builder: TableBuilder, managed: bool) -> None:
    """Clean and dirty pages are one run where hardware makes one the other, and only there."""
    builder.regime = replace(builder.regime, ha=managed, hd=managed)
    at = builder.regime.lowest_va + (1 << 33)
    builder.map(at, 0x7000, 0x1000, attributes=leaf_attributes(dbm=True))
    builder.map(at + 0x1000, 0x8000, 0x1000, attributes=leaf_attributes(dbm=True, ap=2))
    found = runs(_all(builder), HW)
    assert len(found.take(found.va >> 33 == at >> 33)) == (1 if managed else 2)


def test_masks() -> None:
    """Hardware's mask has every attribute, and none of what hardware writes or software owns."""
    for excluded in (Leaf.af, Leaf.software):
        assert not HW & excluded.mask
    for included in (Leaf.ap, Leaf.pxn, Leaf.uxn, Leaf.attr_indx, Leaf.gp, Leaf.contiguous, Leaf.dbm):
        assert HW & included.mask == included.mask
    assert PTDUMP == 0x0074000000000FDF
