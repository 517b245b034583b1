"""What an enumeration reports and what walks find, held against each other in every kind of regime."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.vmsa import (
    Anomaly,
    AnomalyKind,
    Choices,
    Fault,
    FaultKind,
    Mapping,
    Regime,
    Stage,
    Stage2Regime,
    TableBuilder,
    Translation,
    VaRange,
    derive,
    derive_stage2,
    leaf_attributes,
    mappings,
    registers_for,
    stage2_registers_for,
    walk,
    walk_stage2,
)
from harness.vmsa.registers import Registers

WIDE = Choices(honour_contiguous=False)
MAX_TABLES = 200


@dataclass(frozen=True)
class _World:
    """A stage, and memory from address 0 on that has its first table."""

    stage: Stage
    data: bytes = field(repr=False)

    def read(self, pa: int, size_bytes: int) -> bytes | None:
        """Physical memory."""
        return self.data[pa : pa + size_bytes] if pa + size_bytes <= len(self.data) else None

    def walk(self, va: int, choices: Choices) -> Translation | Fault:
        """One translation."""
        if isinstance(self.stage, Stage2Regime):
            return walk_stage2(self.stage, self.read, va, choices=choices)
        assert isinstance(self.stage, Regime)
        return walk(self.stage, self.read, va, choices=choices)


def _two_ranges(draw: st.DrawFn, *, d128: bool) -> Stage:
    granule = draw(st.sampled_from((12, 14, 16)))
    wide = draw(st.booleans())
    least = 9 if d128 else 12 if wide else 16
    va_range = draw(st.sampled_from(VaRange))
    registers = registers_for(
        granule_log2=granule, txsz=draw(st.integers(least, 47)), ds=wide and granule != 16, lva=wide,
        ttst=True, pa_bits=56 if d128 else 52 if wide else 48, d128=d128,
        ips_bits=draw(st.sampled_from((32, 36, 40, 48, 52, 56))),
    )  # fmt: skip
    regime = derive(registers, va_range)
    assert isinstance(regime, Regime)
    if d128:
        skl = draw(st.integers(0, min(3, 3 - regime.start_level)))
        return replace(regime, skl=skl, disch=draw(st.booleans()))
    return replace(regime, pnch=draw(st.integers(0, 3)) == 0)


def _one_range(draw: st.DrawFn) -> Stage:
    made = registers_for(granule_log2=12, txsz=16, ttst=True)
    tcr = draw(st.integers(16, 47)) | draw(st.integers(0, 2)) << 14 | draw(st.integers(0, 5)) << 16
    registers = replace(made, el2=replace(made.el1, tcr=tcr), hcr_el2=0)
    regime = derive(registers, VaRange.LOWER, el=2)
    assert isinstance(regime, Regime)
    return regime


def _stage2_shapes() -> Iterator[Registers]:
    """Every granule, start level and size that there is."""
    for granule in (12, 14, 16):
        for encoded in range(8):
            for txsz in range(12, 48):
                registers = stage2_registers_for(
                    granule_log2=granule, txsz=txsz, sl0=encoded & 3, sl2=bool(encoded >> 2),
                    ds=granule != 16, ttst=True, pa_bits=52, ps_bits=(32, 40, 48, 52)[txsz & 3],
                )  # fmt: skip
                if isinstance(derive_stage2(registers), Stage2Regime):
                    yield registers


SHAPES = list(_stage2_shapes())


def _stage2(draw: st.DrawFn, *, d128: bool) -> Stage:
    registers = draw(st.sampled_from(SHAPES))
    if d128:
        registers = stage2_registers_for(
            granule_log2=draw(st.sampled_from((12, 14, 16))), txsz=draw(st.integers(8, 47)), sl0=0, ttst=True,
            pa_bits=56, ps_bits=draw(st.sampled_from((36, 48, 56))), d128=True,
        )  # fmt: skip
    regime = derive_stage2(registers)
    assert isinstance(regime, Stage2Regime)
    return regime


def _word(rnd: random.Random, stage: Stage, level: int, tables: int) -> int:
    """A descriptor that may be anything, and is often something."""
    geometry, form = stage.geometry, stage.address_format
    width = 8 * geometry.desc_bytes
    granule = 1 << geometry.granule_log2
    noise = rnd.getrandbits(width) & ~1 & ~form.mask(geometry.granule_log2)
    kind = rnd.randrange(8)
    is_128 = width == 128
    if is_128:
        noise &= ~(0b11 << 109)
    if kind < 4:
        pa = granule * rnd.randrange(tables + (rnd.random() < 0.1))
        skl = rnd.choice((0, 0, 0, 1, 2)) << 109 if is_128 else 0b10
        return form.encode(pa) | noise & ~0b10 | skl | 1
    if kind < 7:
        pa = rnd.getrandbits(rnd.choice((30, 34, form.address_bits))) & -granule
        leaf = max(0, 3 - level) << 109 if is_128 else 0b10 * (level == 3)
        return form.encode(pa) | noise & ~0b10 | (leaf & 0b11 << 109 | leaf & 0b10) | 1
    return rnd.getrandbits(width)


@st.composite
def _worlds(draw: st.DrawFn) -> _World:
    stage = draw(st.sampled_from("abcde"))
    made = {
        "a": lambda: _two_ranges(draw, d128=False),
        "b": lambda: _two_ranges(draw, d128=True),
        "c": lambda: _one_range(draw),
        "d": lambda: _stage2(draw, d128=False),
        "e": lambda: _stage2(draw, d128=True),
    }[stage]()
    made = replace(made, ha=draw(st.booleans()), big_endian=draw(st.booleans()))
    rnd = random.Random(draw(st.integers(0, 1 << 32)))  # noqa: S311 - not for secrets
    tables = draw(st.integers(1, 8))
    size, granule = made.geometry.desc_bytes, 1 << made.geometry.granule_log2
    data = bytearray(tables * granule)
    for table in range(tables):
        for _ in range(12):
            # The first entries are where a small first table is.
            at = rnd.randrange(rnd.choice((4, 64, granule // size)))
            word = _word(rnd, made, rnd.randrange(-1, 4), tables)
            start = table * granule + at * size
            data[start : start + size] = word.to_bytes(size, "big" if made.big_endian else "little")
    root = 0 if made.start_table_bytes > granule else rnd.randrange(tables) * granule
    return _World(made.at_table(root), bytes(data))


def _agrees(world: _World, one: Mapping, choices: Choices) -> None:
    """Each end of a leaf, and its middle, goes where the leaf says, or faults as it must."""
    for offset in (0, one.size_bytes // 2, one.size_bytes - 1):
        outcome = world.walk(one.va + offset, choices)
        if world.stage.oa_out_of_range(one.oa + offset):
            assert isinstance(outcome, Fault)
            assert (outcome.kind, outcome.level) == (FaultKind.ADDRESS_SIZE, one.level)
        elif not one.leaf.af and not world.stage.ha:
            assert isinstance(outcome, Fault)
            assert (outcome.kind, outcome.level) == (FaultKind.ACCESS_FLAG, one.level)
        else:
            assert isinstance(outcome, Translation)
            assert (outcome.pa, outcome.leaf) == (one.oa + offset, one.leaf)
            assert (outcome.inherited, outcome.contiguous) == (one.inherited, one.contiguous)
        assert outcome.chain[-1].word == one.word


FAULTS = {
    AnomalyKind.RESERVED: FaultKind.TRANSLATION,
    AnomalyKind.OUTPUT_OUT_OF_RANGE: FaultKind.ADDRESS_SIZE,
    AnomalyKind.TABLE_OUT_OF_RANGE: FaultKind.ADDRESS_SIZE,
    AnomalyKind.TABLE_NOT_MEMORY: FaultKind.EXTERNAL_ON_WALK,
}


def _faults(world: _World, one: Anomaly, choices: Choices) -> None:
    """Each end of what was odd, and its middle, faults in the way that it says."""
    for offset in (0, one.size_bytes // 2, one.size_bytes - 1):
        outcome = world.walk(one.va + offset, choices)
        assert isinstance(outcome, Fault)
        assert outcome.kind is FAULTS[one.kind]
        if one.kind is AnomalyKind.TABLE_OUT_OF_RANGE:
            assert outcome.level == (outcome.chain[-1].level if outcome.chain else 0)
        else:
            assert outcome.level == one.level
        if one.word is not None and one.kind is not AnomalyKind.TABLE_NOT_MEMORY:
            assert outcome.chain[-1].word == one.word


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=_worlds(), honour=st.booleans())
def test_enumerations_and_walks_agree(world: _World, honour: bool) -> None:
    """A leaf translates as reported, an anomaly faults as its kind says, and between them is nothing."""
    choices = Choices(honour_contiguous=honour)
    found = mappings(world.stage, world.read, choices=choices, max_tables=MAX_TABLES)
    end = world.stage.lowest_va
    for one in islice(found, 400):
        if end < one.va:
            for va in (end, one.va - 1):
                outcome = world.walk(va, choices)
                assert isinstance(outcome, Fault)
                assert outcome.kind is FaultKind.TRANSLATION
                word = outcome.chain[-1].word
                assert word is not None
                assert not word & 1
        end = one.va + one.size_bytes
        if isinstance(one, Mapping):
            _agrees(world, one, choices)
        elif one.kind in FAULTS:
            _faults(world, one, choices)


def test_a_group_brings_addresses_into_range_and_out_of_it() -> None:
    """The group's bits are the input's, before the output size is looked at (StageOA, OAOutOfRange)."""
    regime = derive(registers_for(granule_log2=12, txsz=16, ips_bits=32), VaRange.LOWER)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, 0x4000_0000)
    contiguous = leaf_attributes() | 1 | 1 << 52
    # 16 blocks of 1G are a group: 4G is bit 2 of the four that come from the address.
    builder.plant(1 << 30, 1, contiguous | 1 << 32)
    builder.plant(5 << 30, 1, contiguous)
    brought, taken = mappings(builder.regime, builder.read)
    assert isinstance(brought, Mapping)
    assert (brought.oa, brought.leaf.oa) == (1 << 30, 1 << 32)
    assert isinstance(taken, Anomaly)
    assert (taken.kind, taken.pa) == (AnomalyKind.OUTPUT_OUT_OF_RANGE, 5 << 30)
    # As written it is the other way round.
    out, within = mappings(builder.regime, builder.read, choices=WIDE)
    assert isinstance(out, Anomaly)
    assert (out.kind, out.pa) == (AnomalyKind.OUTPUT_OUT_OF_RANGE, 1 << 32)
    assert isinstance(within, Mapping)
    assert within.oa == 0


def test_a_shared_table_translates_as_where_it_was_reached_first() -> None:
    """What TABLE_SHARED stands for is what is at first_va."""
    regime = derive(registers_for(granule_log2=12, txsz=16), VaRange.LOWER)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, 0x4000_0000)
    builder.map(0x1000, 0x7000, 0x1000)
    builder.plant(1 << 21, 2, builder.descriptor_pa(0, 3) | 3)
    _, shared = mappings(builder.regime, builder.read)
    assert isinstance(shared, Anomaly)
    assert shared.first_va is not None
    for offset in (0x1000, 0x1FFF):
        here = walk(builder.regime, builder.read, shared.va + offset)
        there = walk(builder.regime, builder.read, shared.first_va + offset)
        assert isinstance(here, Translation)
        assert isinstance(there, Translation)
        assert here.pa == there.pa


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_cap_counts_the_granules_of_a_large_table(count: int) -> None:
    """A first table of terabytes, by a skipped level, is read no further than the cap allows."""
    regime = derive(
        registers_for(granule_log2=16, txsz=16, d128=True, pa_bits=56, ips_bits=56), VaRange.LOWER
    )
    assert isinstance(regime, Regime)
    huge = replace(regime, skl=2)
    assert huge.start_table_bytes == 1 << 36
    reads: list[int] = []

    def read(pa: int, size_bytes: int) -> bytes | None:
        reads.append(pa)
        return bytes(size_bytes)

    (only,) = mappings(huge, read, max_tables=count)
    assert isinstance(only, Anomaly)
    assert only.kind is AnomalyKind.TOO_MANY_TABLES
    assert reads == [number << 16 for number in range(count)]
    # The tables that are not there are one anomaly, however many granules they would be.
    missing, end = mappings(huge, lambda _pa, _size: None, max_tables=count)
    assert isinstance(missing, Anomaly)
    assert isinstance(end, Anomaly)
    assert (missing.kind, missing.size_bytes) == (AnomalyKind.TABLE_NOT_MEMORY, count << 28)
    assert end.va == count << 28
