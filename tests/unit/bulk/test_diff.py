"""Differences: what changed, where, and nothing else."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bulk import ChangeKind, Changes, Leaves, Ram, diff, walk_all
from harness.bulk.diff import NOT_MAPPED
from harness.bulk.leaves import unpacked
from harness.vmsa import (
    Mapping,
    Regime,
    TableAttributes,
    TableBuilder,
    VaRange,
    leaf_attributes,
    mappings,
)
from harness.vmsa.descriptor import Leaf


def _specified(world: Any) -> list[Mapping]:
    return [one for one in mappings(world.regime, world.read) if isinstance(one, Mapping)]


def _at(found: list[Mapping], va: int) -> Mapping | None:
    index = bisect_right(found, va, key=lambda one: one.va) - 1
    return found[index] if index >= 0 and va < found[index].end_va else None


def _kind(regime: Regime, old: Mapping | None, new: Mapping | None, va: int) -> int:
    """What the specification's values say of one address."""
    if old is None or new is None:
        return (new is not None) * ChangeKind.ADDED | (old is not None) * ChangeKind.REMOVED
    lo = regime.geometry.size_log2(old.level) if old.level == new.level else regime.geometry.granule_log2
    compared = ~(regime.address_format.mask(lo) | 3)
    return (
        ((old.word ^ new.word) & compared != 0) * ChangeKind.ATTRIBUTES
        | (old.oa - old.va != new.oa - new.va) * ChangeKind.OUTPUT
        | (old.level != new.level) * ChangeKind.LEVEL
        | (old.inherited != new.inherited) * ChangeKind.TABLES
    )


def _check_side(changes: Changes, index: int, prefix: str, one: Mapping | None) -> None:
    va = int(changes.va[index])
    said = [int(getattr(changes, f"{prefix}_{name}")[index]) for name in ("pa", "word", "level", "inherited")]
    if one is None:
        assert said == [0, 0, NOT_MAPPED, 0]
    else:
        assert said[:3] == [one.oa + va - one.va, one.word, one.level]
        assert unpacked(said[3]) == one.inherited


@settings(max_examples=70, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_flipped_descriptors(worlds: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """After bits of any descriptors were flipped, exactly what the specification then says otherwise."""
    world = data.draw(worlds)
    memory = bytearray(world.data)
    used = [at for at in range(0, len(memory), 8) if any(memory[at : at + 8])] or [0]
    for _ in range(data.draw(st.integers(1, 3))):
        at, bit = data.draw(st.sampled_from(used)), data.draw(st.integers(0, 63))
        memory[at + bit // 8] ^= 1 << bit % 8
    other = replace(world, data=bytes(memory))
    old, new = _specified(world), _specified(other)
    changes = diff(walk_all(world.regime, world.ram), walk_all(other.regime, other.ram))
    # Between edges of any leaf, everything is of one kind: that kind must be in the changes, or none.
    edges = sorted({edge for one in (*old, *new) for edge in (one.va, one.end_va)})
    starts = changes.va.tolist()
    for va, end in pairwise(edges):
        index = bisect_right(starts, va) - 1
        is_within = index >= 0 and va - starts[index] < int(changes.size_bytes[index])
        kind = int(changes.kind[index]) if is_within else 0
        assert kind == _kind(world.regime, _at(old, va), _at(new, va), va), hex(va)
        assert not is_within or end - starts[index] <= int(changes.size_bytes[index])
    wanted_bytes = sum(
        end - va for va, end in pairwise(edges) if _kind(world.regime, _at(old, va), _at(new, va), va)
    )
    assert sum(changes.size_bytes.tolist()) == wanted_bytes
    for index, va in enumerate(starts):
        _check_side(changes, index, "before", _at(old, va))
        _check_side(changes, index, "after", _at(new, va))


def _all(builder: TableBuilder) -> Leaves:
    return walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))


def test_the_same_table_has_no_differences(builder: TableBuilder) -> None:
    """Nothing changed, nothing said."""
    assert len(diff(_all(builder), _all(builder))) == 0


def test_kinds_of_change(builder: TableBuilder) -> None:
    """Neighbours that changed in the same way are one range; others are apart, and the end is no edge."""
    before = _all(builder)
    at, kernel = builder.regime.lowest_va, leaf_attributes(uxn=True)
    for number in (1, 2):
        builder.plant(
            at + number * 0x1000, 3, 0x5000_0000 + number * 0x1000 | 3 | kernel | Leaf.ap.into(0, 2)
        )
    builder.plant(at + 0x3000, 3, 0x9000 | 3 | kernel)
    builder.plant(at + 0x6000, 3, 0)
    builder.map(at + 0x7000, 0x1000, 0x2000)
    builder.plant((1 << 64) - 0x1000, 3, 0)
    changes = diff(before, _all(builder))
    assert [
        (va - at, size_bytes, ChangeKind(kind))
        for va, size_bytes, kind in zip(
            changes.va.tolist(), changes.size_bytes.tolist(), changes.kind, strict=True
        )
    ] == [
        (0x1000, 0x2000, ChangeKind.ATTRIBUTES),
        (0x3000, 0x1000, ChangeKind.OUTPUT),
        (0x6000, 0x1000, ChangeKind.REMOVED),
        (0x7000, 0x2000, ChangeKind.ADDED),
        ((1 << 48) - 0x1000, 0x1000, ChangeKind.REMOVED),
    ]
    assert len(diff(_all(builder), before)) == len(changes)


def test_split_block(make_regime: Any) -> None:
    """A block that becomes pages of the same memory is one change of level only."""
    found = []
    for level in (2, 3):
        builder = TableBuilder(make_regime(), 0x4000_0000)
        builder.map(0x20_0000, 0x6000_0000, 0x20_0000, level=level)
        found.append(_all(builder))
    (change,) = diff(*found).kind
    assert change == ChangeKind.LEVEL
    assert len(diff(*found).take(slice(0, 1)).va) == len(diff(found[1], found[0])) == 1


def test_table_attributes(builder: TableBuilder) -> None:
    """A bit of a table descriptor is a change of every leaf below it."""
    before = _all(builder)
    builder.add_table_bits((1 << 64) - 0x1000, 1, 1 << 61)
    changes = diff(before, _all(builder))
    assert changes.va.tolist() == [(1 << 64) - 0x1000]
    assert changes.kind.tolist() == [ChangeKind.TABLES]
    assert unpacked(int(changes.after_inherited[0])) == TableAttributes(ap_table=1)


def test_other_regimes_are_refused(make_regime: Any, builder: TableBuilder) -> None:
    """Tables of another range, granule or format are the caller's mistake."""
    mine = _all(builder)
    others = (make_regime(), make_regime(VaRange.UPPER, granule_log2=14), make_regime(VaRange.UPPER, ds=True))
    for other in others:
        with pytest.raises(ValueError, match="not comparable"):
            diff(mine, walk_all(other, Ram(b"")))
