"""Enumeration: equal to the specification's, whatever the tables hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bulk import Leaves, Ram, columns, permissions, walk, walk_all
from harness.vmsa import (
    Anomaly,
    AnomalyKind,
    Mapping,
    Regime,
    Right,
    TableBuilder,
    VaRange,
    derive,
    derive_stage2,
    leaf_attributes,
    mappings,
    registers_for,
    stage2_registers_for,
)

MakeRegime = Callable[..., Regime]
slow = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def _is_what_the_specification_says(leaves: Leaves, spec: list[Mapping | Anomaly]) -> None:
    assert list(leaves) == [one for one in spec if isinstance(one, Mapping)]
    assert list(leaves.anomalies) == [one for one in spec if isinstance(one, Anomaly)]


@slow
@given(data=st.data())
def test_is_equal_to_the_specification(worlds: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """Every leaf and every anomaly, in order, of every granule, format, start level and byte order."""
    world = data.draw(worlds)
    expand = data.draw(st.booleans())
    cap = data.draw(st.one_of(st.integers(0, 12), st.just(40)))
    spec = list(mappings(world.regime, world.read, expand_shared=expand, max_tables=cap))
    with pytest.MonkeyPatch.context() as patch:
        # The chunks' edges, and room that has to grow.
        patch.setattr(walk, "_CHUNK_ENTRIES", data.draw(st.sampled_from((1, 1 << 10, 1 << 15))))
        patch.setattr(columns, "_FIRST_CAPACITY", data.draw(st.sampled_from((0, 5, 1 << 22))))
        source = world.ram if data.draw(st.booleans()) else world.read
        leaves = walk_all(world.regime, source, expand_shared=expand, max_tables=cap)
    _is_what_the_specification_says(leaves, spec)


@slow
@given(data=st.data())
def test_without_a_cap(worlds: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """The same without one, which is the default."""
    world = data.draw(worlds)
    _is_what_the_specification_says(
        walk_all(world.regime, world.ram), list(mappings(world.regime, world.read))
    )


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=256), data=st.data())
def test_random_bytes(regimes: st.SearchStrategy[Regime], content: bytes, data: st.DataObject) -> None:
    """Bytes without any sense, repeated to fill tables at address 0, are values."""
    regime = data.draw(regimes)
    regime = replace(regime, table_pa=0)
    size_bytes = 2 << regime.geometry.granule_log2
    # Whole tables of sense are slow for the specification with 64K: less of them.
    memory = (content * 8 if regime.geometry.granule_log2 == 16 else content * 128)[:size_bytes]
    memory = memory.ljust(size_bytes, b"\0")

    def read(pa: int, count: int) -> bytes | None:
        return memory[pa : pa + count] if pa + count <= len(memory) else None

    _is_what_the_specification_says(walk_all(regime, Ram(memory)), list(mappings(regime, read)))


def test_built_tables(builder: TableBuilder) -> None:
    """Blocks, pages and groups come in order of addresses, with what their tables handed down."""
    leaves = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))
    _is_what_the_specification_says(leaves, list(mappings(builder.regime, builder.read)))
    assert (len(leaves), leaves.level.min(), leaves.inherited.max()) == (25, 1, 0b1001)


def test_blocks_among_full_tables(make_regime: MakeRegime) -> None:
    """Leaves of upper levels are put between those of the last, within a chunk too."""
    builder = TableBuilder(make_regime(), 0x4000_0000)
    for number in range(0, 8, 2):
        builder.map(number << 21, 0, 1 << 21, level=3)
        builder.map(number + 1 << 21, 0, 1 << 21, level=2)
    leaves = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))
    assert len(leaves) == 4 * 513
    assert (np.diff(leaves.va.astype(np.int64)) > 0).all()
    _is_what_the_specification_says(leaves, list(mappings(builder.regime, builder.read)))


def test_shared_tables_expand_within_bounds(make_regime: MakeRegime) -> None:
    """A table that leads to itself everywhere ends with a cap, unasked."""
    regime = make_regime(txsz=25)
    memory = np.full(512, 0x3, "<u8").tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "_EXPANDED_ENTRIES", 1 << 20)
        leaves = walk_all(replace(regime, table_pa=0), Ram(memory), expand_shared=True)
    assert leaves.tables == 1 << 11
    assert leaves.anomalies[len(leaves.anomalies) - 1].kind is AnomalyKind.TOO_MANY_TABLES


def test_disabled_range_maps_nothing(builder: TableBuilder) -> None:
    """With TCR.EPD there are neither leaves nor anomalies."""
    leaves = walk_all(replace(builder.regime, epd=True), Ram(builder.arena, builder.arena_pa))
    assert (len(leaves), len(leaves.anomalies), leaves.tables) == (0, 0, 0)


def test_first_table_outside_memory(builder: TableBuilder) -> None:
    """A TTBR that points nowhere is one anomaly over the whole range, without a descriptor."""
    (anomaly,) = walk_all(builder.regime, Ram(b"")).anomalies
    assert (anomaly.kind, anomaly.size_bytes, anomaly.word) == (
        AnomalyKind.TABLE_NOT_MEMORY, 1 << 48, None,
    )  # fmt: skip


def test_what_is_not_read_in_bulk() -> None:
    """Stage 2 and 128-bit descriptors are refused, not read wrongly."""
    for_128 = derive(registers_for(granule_log2=12, txsz=16, d128=True), VaRange.LOWER)
    stage2 = derive_stage2(stage2_registers_for(granule_log2=12, txsz=24, sl0=1))
    with pytest.raises(ValueError, match="128-bit descriptors are not read in bulk"):
        walk_all(for_128, Ram(b""))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stage 2 is not read in bulk"):
        walk_all(stage2, Ram(b""))  # type: ignore[arg-type]


def test_one_range_of_el2() -> None:
    """A regime of one range is read as any other, and has its own rights."""
    made = registers_for(granule_log2=12, txsz=16)
    regime = derive(replace(made, el2=replace(made.el1, tcr=16 | 5 << 16), hcr_el2=0), VaRange.LOWER, el=2)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, 0x4000_0000)
    builder.map(0x1000, 0x7000, 0x1000, attributes=leaf_attributes(ap=0b10, pxn=True))
    builder.map(0x2000, 0x8000, 0x1000, attributes=leaf_attributes(ap=0b01, uxn=True))
    leaves = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))
    _is_what_the_specification_says(leaves, list(mappings(builder.regime, builder.read)))
    rights = permissions(builder.regime, leaves)
    assert rights.privileged.tolist() == [
        (Right.READ | Right.EXECUTE).value, (Right.READ | Right.WRITE).value,
    ]  # fmt: skip
    assert rights.user.tolist() == [0, 0]


def test_columns_are_read_only(builder: TableBuilder) -> None:
    """What was found stays what was found."""
    leaves = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))
    for column in (leaves.va, leaves.pa, leaves.word, leaves.level, leaves.size_log2, leaves.inherited):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
