"""Translations in bulk: equal to walks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bulk import Ram, segments, translate, walk_all
from harness.vmsa import (
    Anomaly,
    AnomalyKind,
    Choices,
    Mapping,
    Regime,
    TableBuilder,
    Translation,
    VaRange,
    leaf_attributes,
    walk,
)

TOP = (1 << 64) - 1


def _interesting(world: Any, rng: np.random.Generator) -> list[int]:
    """Edges of leaves and of what was odd, addresses within, tagged ones, and any."""
    leaves = walk_all(world.regime, world.ram)
    some: list[Mapping | Anomaly] = [
        leaves[at] for at in rng.choice(len(leaves), min(8, len(leaves)), replace=False)
    ]
    some += list(leaves.anomalies)[:24]
    edges = [
        at & TOP
        for one in some
        for at in (one.va, one.va - 1, one.va + one.size_bytes, one.va + one.size_bytes - 1)
    ]
    inside = [one.va + int(rng.integers(one.size_bytes)) for one in some]
    tagged = [va ^ int(rng.integers(256)) << 56 for va in inside[:8]]
    return [*edges, *inside, *tagged, *(int(rng.integers(1 << 63)) << 1 for _ in range(4)), 0, TOP]


@settings(max_examples=90, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_is_equal_to_walks(worlds: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """Found where a walk translates, at the same place, whatever was chosen, shared tables included."""
    world = data.draw(worlds)
    # A table that is only partly in memory is not read here, and may be there for a walk.
    granule = 1 << world.regime.geometry.granule_log2
    head = -world.base_pa % granule
    whole = replace(world, base_pa=world.base_pa + head, data=world.data[head:])
    whole = replace(whole, data=whole.data[: len(whole.data) // granule * granule])
    choices = Choices(**{name: data.draw(st.booleans()) for name in Choices.__dataclass_fields__})
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    vas = _interesting(whole, rng)
    leaves = walk_all(whole.regime, whole.ram, expand_shared=data.draw(st.booleans()), max_tables=3000)
    pas, found = translate(leaves, vas, choices=choices)
    # Tables that are expanded each time they are reached may be more than the cap: from there on nothing is
    # known, where a walk goes on.
    inside = (1 << whole.regime.iasize_bits) - 1
    ends = [one.va & inside for one in leaves.anomalies if one.kind is AnomalyKind.TOO_MANY_TABLES]
    for va, pa, is_found in zip(vas, pas.tolist(), found.tolist(), strict=True):
        if ends and va & inside >= ends[0]:
            continue
        if VaRange.of(va) is not whole.regime.va_range:
            assert not is_found
            continue
        outcome = walk(whole.regime, whole.read, va, choices=choices)
        assert (pa if is_found else None) == (outcome.pa if isinstance(outcome, Translation) else None), hex(
            va
        )


def test_access_flag(builder: TableBuilder) -> None:
    """A leaf without it translates only where hardware sets it."""
    va = builder.regime.lowest_va + 0x80_0000
    builder.map(va, 0x7000, 0x1000, attributes=leaf_attributes(af=False))
    for ha in (False, True):
        leaves = walk_all(replace(builder.regime, ha=ha), Ram(builder.arena, builder.arena_pa))
        assert translate(leaves, [va + 5])[1].tolist() == [ha]


def test_shape_is_kept_and_segments_are_few(builder: TableBuilder) -> None:
    """Answers have the shape of the question; what goes on is one segment."""
    found = segments(walk_all(builder.regime, Ram(builder.arena, builder.arena_pa)))
    assert len(found.mapped) == 7
    at = builder.regime.lowest_va
    asked = np.array([[at + 0x1004, at], [at + 0x3FFF, at + 0x4000]], np.uint64)
    pas, mask = found.translate(asked)
    assert pas.tolist() == [[0x5000_1004, 0], [0x5000_3FFF, 0]]
    assert mask.tolist() == [[True, False], [True, False]]
    assert asked[0, 0] == at + 0x1004
    assert found.translate(int(at) + 0x1000)[0] == 0x5000_1000


@pytest.mark.parametrize("va_range", VaRange)
def test_tags(make_regime: Any, va_range: VaRange) -> None:
    """With TBI the top byte is ignored, in either range; without it, it is not."""
    regime: Regime = make_regime(va_range)
    builder = TableBuilder(regime, 0x4000_0000)
    va = regime.lowest_va + 0x1000
    builder.map(va, 0x7000, 0x1000)
    for tbi in (False, True):
        leaves = walk_all(replace(builder.regime, tbi=tbi), Ram(builder.arena, builder.arena_pa))
        assert translate(leaves, [va, va ^ 0x5A << 56, va ^ 1 << 55])[1].tolist() == [True, tbi, False]


def _agree(builder: TableBuilder, vas: list[int], **wanted: bool) -> list[int]:
    """The physical addresses that walks and the translations find for all addresses."""
    leaves = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa), **wanted)
    outcomes = [walk(builder.regime, builder.read, va) for va in vas]
    pas, found = translate(leaves, vas)
    assert found.all()
    specified = [outcome.pa for outcome in outcomes if isinstance(outcome, Translation)]
    assert pas.tolist() == specified
    return specified


@pytest.mark.parametrize("expand_shared", [False, True])
def test_shared_tables_below_shared_tables(make_regime: Any, expand_shared: bool) -> None:
    """What is mapped through a table that was read elsewhere is found there, level after level."""
    builder = TableBuilder(make_regime(), 0x4000_0000)
    builder.map(0x1000, 0x7000, 0x1000)
    last, middle = (builder.descriptor_pa(0, level) & ~0xFFF for level in (3, 2))
    builder.plant(1 << 21, 2, last | 3)
    builder.plant(1 << 30, 1, middle | 3)
    vas = [0x1004, (1 << 21) + 0x1004, (1 << 30) + 0x1004, (1 << 30) + (1 << 21) + 0x1004]
    assert _agree(builder, vas, expand_shared=expand_shared) == [0x7004] * 4


def test_contiguous_group_brings_an_address_into_range(make_regime: Any) -> None:
    """An output address that is too high but for the group's bits is a leaf, and translates."""
    builder = TableBuilder(make_regime(ips_bits=32), 0x4000_0000)
    word = leaf_attributes() | 1 | 1 << 32 | 1 << 52
    builder.plant(1 << 30, 1, word)
    builder.map(0x1000, 0x7000, 0x1000)
    builder.map(1 << 40, 0x9000, 0x1000)
    vas = [0x1000, (1 << 30) + 0x1234, 1 << 40]
    assert _agree(builder, vas) == [0x7000, (1 << 30) + 0x1234, 0x9000]
    leaves = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))
    assert leaves.pa.tolist() == [0x7000, 1 << 30, 0x9000]
    assert leaves[1].leaf.oa == 1 << 32
    assert not translate(leaves, vas[1:2], choices=Choices(honour_contiguous=False))[1].any()
