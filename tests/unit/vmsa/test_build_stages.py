"""Tables of 128-bit descriptors and of stage 2, built, walked and enumerated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.vmsa import (
    BuildError,
    Fault,
    FaultKind,
    Mapping,
    Regime,
    Stage,
    Stage2Regime,
    Stage2TableBuilder,
    TableBuilder,
    Translation,
    VaRange,
    derive,
    derive_stage2,
    leaf_attributes_128,
    mappings,
    registers_for,
    stage2_registers_for,
    walk,
    walk_stage2,
)

ARENA = 0x4000_0000
Request = tuple[int, int, int, int, bool]
"""Address, output, bytes, level, contiguous."""
Walker = Callable[[int], Translation | Fault]


def _requests(stage: Stage, seed: int) -> Iterator[Request]:
    """Random leaves and groups of every level, aligned and in range; some overlap."""
    rnd = random.Random(seed)  # noqa: S311 - not for secrets
    geometry = stage.geometry
    for _ in range(10):
        level = rnd.randrange(max(stage.start_level, 0), 4)
        contiguous = rnd.random() < 0.3 and geometry.contiguous_log2(level) > 0
        log2 = geometry.size_log2(level) + (geometry.contiguous_log2(level) if contiguous else 0)
        legal = level == 3 or geometry.block_allowed(level, wide=stage.address_format.is_wide)
        if legal and log2 <= min(stage.iasize_bits, stage.oasize_bits):
            at = rnd.randrange(1 << stage.iasize_bits - log2) << log2
            pa = rnd.randrange(1 << stage.oasize_bits - log2) << log2
            yield stage.lowest_va + at, pa, 1 << log2, level, contiguous


def _built(builder: TableBuilder | Stage2TableBuilder, seed: int) -> list[Request]:
    """Map the requests that overlap no earlier one; a level that a table skips cannot be mapped at."""
    done: list[Request] = []
    for request in _requests(builder.regime, seed):
        va, pa, size, level, contiguous = request
        if any(va < other[0] + other[2] and other[0] < va + size for other in done):
            continue
        try:
            builder.map(va, pa, size, level=level, contiguous=contiguous)
        except BuildError as refusal:
            assert "skips level" in str(refusal)  # noqa: PT017 - the others are what is tested
        else:
            done.append(request)
    return done


def _is_what_was_asked_for(
    builder: TableBuilder | Stage2TableBuilder, walker: Walker, done: list[Request]
) -> None:
    """Enumerated leaf by leaf, and walked to at both ends, with nothing next to it that was not asked for."""
    geometry = builder.regime.geometry
    wanted = sorted(
        (va + at, pa + at, level, contiguous)
        for va, pa, size, level, contiguous in done
        for at in range(0, size, 1 << geometry.size_log2(level))
    )
    found = list(mappings(builder.regime, builder.read))
    leaves = [one for one in found if isinstance(one, Mapping)]
    assert len(leaves) == len(found)
    assert [(one.va, one.oa, one.level, one.contiguous) for one in leaves] == wanted
    for va, pa, size, _, _ in done:
        for offset in (0, size - 1):
            outcome = walker(va + offset)
            assert isinstance(outcome, Translation)
            assert outcome.pa == pa + offset
        for beside in (va - 1, va + size):
            if builder.regime.spans(beside) and isinstance(walker(beside), Translation):
                assert any(one[0] <= beside < one[0] + one[2] for one in done)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_128_bits(data: st.DataObject) -> None:
    """From registers alone, with levels skipped by tables and by TTBR, in either byte order."""
    granule = data.draw(st.sampled_from((12, 14, 16)))
    made = registers_for(
        granule_log2=granule, txsz=data.draw(st.integers(9, 39)), d128=True, pa_bits=56,
        ips_bits=data.draw(st.sampled_from((40, 48, 56))), sctlr=data.draw(st.integers(0, 1)) << 25,
    )  # fmt: skip
    va_range = data.draw(st.sampled_from(VaRange))
    regime = derive(made, va_range)
    assert isinstance(regime, Regime)
    skl = data.draw(st.integers(0, 1))
    if regime.start_bits + 4 <= 20 - (regime.geometry.stride_bits if skl else 0) and regime.start_level < 3:
        regime = replace(regime, skl=skl)
    # Tables that skip levels are a mebibyte with 4K, 16 with 16K, and too large to make with 64K.
    skips = {level: data.draw(st.integers(0, 1)) for level in range(-2, 3)} if granule == 12 else {}
    builder = TableBuilder(regime, ARENA, skips=skips)
    done = _built(builder, data.draw(st.integers(0, 1 << 32)))
    ttbr = builder.ttbr(asid=7)
    bank = replace(made.el1, ttbr0=ttbr, ttbr1=ttbr)
    again = derive(replace(made, el1=bank), va_range)
    assert isinstance(again, Regime)
    assert (again.table_pa, again.start_level) == (builder.regime.table_pa, builder.regime.start_level)
    _is_what_was_asked_for(builder, lambda va: walk(again, builder.read, va), done)


SL0 = {12: {3: 3, 2: 0, 1: 1, 0: 2}, 14: {3: 0, 2: 1, 1: 2, 0: 3}, 16: {3: 0, 2: 1, 1: 2}}


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_stage_2(data: st.DataObject) -> None:
    """From registers alone, of every start level and number of concatenated tables."""
    granule = data.draw(st.sampled_from((12, 14, 16)))
    level = data.draw(st.sampled_from(sorted(SL0[granule])))
    stride = granule - 3
    bits = data.draw(st.integers(1, stride + 4))
    txsz = 64 - granule - stride * (3 - level) - bits
    ds = (granule == 14 and level == 0) or (granule == 12 and txsz < 16)
    registers = stage2_registers_for(
        granule_log2=granule, txsz=max(txsz, 12), sl0=SL0[granule][level], ds=ds, ttst=True,
        pa_bits=52, ps_bits=52,
    )  # fmt: skip
    regime = derive_stage2(registers)
    if isinstance(regime, Fault):
        # What the sizes do not allow: too few bits of input, or too many.
        assert txsz < 12 or txsz > (47 if granule == 16 else 48) or (txsz < 16 and granule == 14 and not ds)
        return
    assert isinstance(regime, Stage2Regime)
    assert regime.start_level == level
    builder = Stage2TableBuilder(regime, ARENA)
    assert len(builder.arena) == 8 << regime.iasize_bits - regime.geometry.size_log2(level)
    done = _built(builder, data.draw(st.integers(0, 1 << 32)))
    again = derive_stage2(replace(registers, vttbr_el2=builder.ttbr(9)))
    assert isinstance(again, Stage2Regime)
    assert (again.table_pa, again.vmid) == (builder.regime.table_pa, 9)
    _is_what_was_asked_for(builder, lambda ipa: walk_stage2(again, builder.read, ipa), done)


def _regime_128(**settings_: int) -> Regime:
    values: dict[str, int] = {"granule_log2": 12, "txsz": 16, "pa_bits": 56, "ips_bits": 56, **settings_}
    regime = derive(registers_for(d128=True, **values), VaRange.LOWER)  # type: ignore[arg-type]
    assert isinstance(regime, Regime)
    return regime


def test_a_table_that_skips_levels() -> None:
    """Tables are as large and as aligned as the levels they skip; what is skipped cannot be mapped at."""
    builder = TableBuilder(_regime_128(), ARENA, skips={0: 1})
    builder.map(0x1000, 0x5000, 0x1000)
    assert builder.descriptor_pa(0, 2) % (1 << 20) == 0
    assert builder.descriptor_pa((1 << 36) - 1, 2) - builder.descriptor_pa(0, 2) == (1 << 20) - 16
    with pytest.raises(BuildError, match="a table at level 2, which skips level 1"):
        builder.map(1 << 28, 0, 1 << 28, level=1)
    with pytest.raises(BuildError, match="a table at level 2, which skips level 1"):
        builder.plant(0, 1, 0)
    outcome = walk(builder.regime, builder.read, 0x1000)
    assert [step.level for step in outcome.chain] == [-1, 0, 2, 3]


def test_no_more_is_skipped_than_the_leaf_allows() -> None:
    """A block is reached by skipping fewer levels than were asked for."""
    builder = TableBuilder(_regime_128(), ARENA, skips={-1: 3, 0: 3})
    builder.map(0, 0, 1 << 28, level=1)
    outcome = walk(builder.regime, builder.read, 0)
    assert [step.level for step in outcome.chain] == [-1, 1]


def test_tables_too_large_to_make() -> None:
    """Terabytes are refused, not allocated."""
    builder = TableBuilder(_regime_128(granule_log2=16), ARENA, skips={1: 1})
    builder.map(0, 0, 1 << 28, level=2)
    with pytest.raises(BuildError, match="too large"):
        TableBuilder(_regime_128(txsz=9, granule_log2=16), ARENA, skips={0: 2}).map(0, 0, 1 << 16)


@pytest.mark.parametrize("attributes", [1, 0b11 << 109, 1 << 30])
def test_type_and_address_are_no_attributes(attributes: int) -> None:
    """Bit 0, SKL and the address are the builder's."""
    builder = TableBuilder(_regime_128(), ARENA)
    with pytest.raises(BuildError, match="attribute bits"):
        builder.map(0, 0, 0x1000, attributes=attributes)
    # Bit 1 is no type here, but reserved.
    builder.map(0, 0, 0x1000, attributes=leaf_attributes_128(pi_index=15, po_index=15, attr_indx=15))


def test_default_attributes_are_usable() -> None:
    """Without attributes a leaf of stage 2 is Normal memory with every right."""
    regime = derive_stage2(stage2_registers_for(granule_log2=12, txsz=24, sl0=1))
    assert isinstance(regime, Stage2Regime)
    builder = Stage2TableBuilder(regime, ARENA)
    builder.map(0, 0x5000, 0x1000)
    (leaf,) = mappings(builder.regime, builder.read)
    assert isinstance(leaf, Mapping)
    assert leaf.word == 0x5000 | 0b11 | 0xF << 2 | 0b11 << 6 | 3 << 8 | 1 << 10
    outcome = walk_stage2(builder.regime, builder.read, 1 << 40)
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.stage, outcome.level) == (FaultKind.TRANSLATION, 2, 0)
