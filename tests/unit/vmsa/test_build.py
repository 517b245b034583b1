"""Tables built for random regimes and mappings: walked, enumerated, damaged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.vmsa import (
    Anomaly,
    BuildError,
    Choices,
    Fault,
    FaultKind,
    Mapping,
    Regime,
    TableBuilder,
    Translation,
    VaRange,
    derive,
    leaf_attributes,
    mappings,
    registers_for,
    walk,
)
from harness.vmsa.registers import Registers

ARENA = 0x4000_0000
BIG_ENDIAN = 1 << 25
PLAIN = Choices(honour_contiguous=False)


@dataclass(frozen=True)
class _Shape:
    """A regime's parameters, and a seed for what is mapped there."""

    granule_log2: int
    txsz: int
    ds: bool
    pa_bits: int
    ips_bits: int
    va_range: VaRange
    seed: int

    def registers(self, *, ttbr: int = 0, big_endian: bool = False) -> Registers:
        """Registers of this shape with the same TTBR in both ranges."""
        return registers_for(
            granule_log2=self.granule_log2, txsz=self.txsz, ds=self.ds, pa_bits=self.pa_bits,
            ips_bits=self.ips_bits, lva=True, ttst=True, ttbr=(ttbr, ttbr),
            sctlr=BIG_ENDIAN if big_endian else 0,
        )  # fmt: skip

    def regime(self, *, ttbr: int = 0, big_endian: bool = False) -> Regime:
        """The regime of these registers."""
        regime = derive(self.registers(ttbr=ttbr, big_endian=big_endian), self.va_range)
        assert isinstance(regime, Regime)
        return regime


@st.composite
def _shapes(draw: st.DrawFn) -> _Shape:
    granule_log2 = draw(st.sampled_from((12, 14, 16)))
    ds = draw(st.booleans())
    least = 12 if ds or granule_log2 == 16 else 16
    return _Shape(
        granule_log2=granule_log2,
        txsz=draw(st.integers(least, 47 if granule_log2 == 16 else 48)),
        ds=ds,
        pa_bits=draw(st.sampled_from((32, 40, 48, 52))),
        ips_bits=draw(st.sampled_from((32, 36, 44, 48, 52, 56))),
        va_range=draw(st.sampled_from(VaRange)),
        seed=draw(st.integers(0, 1 << 32)),
    )


@dataclass(frozen=True)
class _Request:
    va: int
    pa: int
    size_bytes: int
    level: int
    contiguous: bool


def _requests(shape: _Shape, regime: Regime) -> Iterator[_Request]:
    """Random leaves and groups of every level, aligned and in range; some overlap."""
    rnd = random.Random(shape.seed)  # noqa: S311 - not for secrets
    geometry = regime.geometry
    for _ in range(12):
        level = rnd.randrange(max(regime.start_level, 0), 4)
        legal = level == 3 or geometry.block_allowed(level, wide=regime.address_format.is_wide)
        contiguous = rnd.random() < 0.3 and geometry.contiguous_log2(level) > 0
        log2 = geometry.size_log2(level) + (geometry.contiguous_log2(level) if contiguous else 0)
        if legal and log2 <= min(regime.iasize_bits, regime.oasize_bits):
            at = rnd.randrange(1 << regime.iasize_bits - log2) << log2
            pa = rnd.randrange(1 << regime.oasize_bits - log2) << log2
            yield _Request(regime.lowest_va + at, pa, 1 << log2, level, contiguous)


def _build(
    shape: _Shape, *, big_endian: bool = False, contiguous: bool = True
) -> tuple[TableBuilder, list[_Request]]:
    """Tables with all of a shape's requests that do not overlap earlier ones."""
    builder = TableBuilder(shape.regime(big_endian=big_endian), ARENA)
    done: list[_Request] = []
    for one in _requests(shape, builder.regime):
        if any(one.va < other.va + other.size_bytes and other.va < one.va + one.size_bytes for other in done):
            continue
        builder.map(one.va, one.pa, one.size_bytes, level=one.level, contiguous=one.contiguous and contiguous)
        done.append(one)
    return builder, done


def _probes(shape: _Shape, done: list[_Request]) -> list[int]:
    """The ends of what is mapped and their neighbours, random places within, and random addresses."""
    rnd = random.Random(shape.seed + 1)  # noqa: S311 - not for secrets
    span = 1 << 64 - shape.txsz
    lowest = 0 if shape.va_range is VaRange.LOWER else (1 << 64) - span
    edges = [one.va + at for one in done for at in (-1, 0, one.size_bytes - 1, one.size_bytes)]
    within = [one.va + rnd.randrange(one.size_bytes) for one in done for _ in range(2)]
    anywhere = [lowest + rnd.randrange(span) for _ in range(4)]
    return [va for va in (*edges, *within, *anywhere) if lowest <= va < lowest + span]


def _target(done: list[_Request], va: int) -> int | None:
    """Where an address should go, from the list of what was asked for."""
    return next((one.pa + va - one.va for one in done if one.va <= va < one.va + one.size_bytes), None)


@settings(max_examples=80, deadline=None)
@given(_shapes())
def test_walking_what_was_built(shape: _Shape) -> None:
    """From registers alone, each address goes where it was mapped, and any other faults as unmapped."""
    builder, done = _build(shape)
    regime = shape.regime(ttbr=builder.ttbr(asid=7) | 1)
    assert regime.table_pa == builder.regime.table_pa
    for va in _probes(shape, done):
        outcome = walk(regime, builder.read, va)
        wanted = _target(done, va)
        if wanted is None:
            assert isinstance(outcome, Fault)
            assert outcome.kind is FaultKind.TRANSLATION
            assert outcome.level == outcome.chain[-1].level
        else:
            assert isinstance(outcome, Translation)
            assert outcome.pa == wanted
            assert walk(regime, builder.read, va, choices=PLAIN) == outcome


@settings(max_examples=50, deadline=None)
@given(_shapes())
def test_enumerating_what_was_built(shape: _Shape) -> None:
    """mappings() gives exactly the leaves that were asked for, in order, each with its size and level."""
    builder, done = _build(shape)
    found = list(mappings(builder.regime, builder.read))
    geometry = builder.regime.geometry
    wanted = sorted(
        (one.va + at, one.pa + at, 1 << geometry.size_log2(one.level), one.level, one.contiguous)
        for one in done
        for at in range(0, one.size_bytes, 1 << geometry.size_log2(one.level))
    )
    leaves = [one for one in found if isinstance(one, Mapping)]
    assert len(leaves) == len(found)
    assert [(one.va, one.oa, one.size_bytes, one.level, one.contiguous) for one in leaves] == wanted


@settings(max_examples=30, deadline=None)
@given(_shapes())
def test_endianness_is_only_the_order_of_bytes(shape: _Shape) -> None:
    """Big-endian tables are the little-endian ones with each descriptor reversed, and translate alike."""
    little, done = _build(shape)
    big, _ = _build(shape, big_endian=True)
    arena = little.arena
    assert big.arena == b"".join(arena[at : at + 8][::-1] for at in range(0, len(arena), 8))
    for va in _probes(shape, done):
        assert walk(big.regime, big.read, va) == walk(little.regime, little.read, va)
    assert list(mappings(big.regime, big.read)) == list(mappings(little.regime, little.read))


@settings(max_examples=30, deadline=None)
@given(_shapes())
def test_contiguous_bit_changes_no_address(shape: _Shape) -> None:
    """Complete groups translate the same with the bit and without."""
    with_bit, done = _build(shape)
    without, _ = _build(shape, contiguous=False)
    for va in _probes(shape, done):
        one, other = walk(with_bit.regime, with_bit.read, va), walk(without.regime, without.read, va)
        assert isinstance(one, Translation) is isinstance(other, Translation)
        if isinstance(one, Translation) and isinstance(other, Translation):
            assert one.pa == other.pa


@settings(max_examples=40, deadline=None)
@given(_shapes(), st.data())
def test_one_bit_changes_only_what_is_below_it(shape: _Shape, data: st.DataObject) -> None:
    """A flipped bit in a descriptor leaves every walk alone that does not read the descriptor."""
    builder, done = _build(shape)
    probes = _probes(shape, done)
    before = {va: walk(builder.regime, builder.read, va) for va in probes}
    va = data.draw(st.sampled_from(probes))
    step = data.draw(st.sampled_from(before[va].chain))
    assert step.word is not None
    builder.plant(va, step.level, step.word ^ 1 << data.draw(st.integers(0, 63)))
    for other, outcome in before.items():
        after = walk(builder.regime, builder.read, other)
        if any(one.pa == step.pa for one in outcome.chain):
            assert after.chain != outcome.chain
        else:
            assert after == outcome


@settings(max_examples=60, deadline=None)
@given(_shapes(), st.binary(min_size=64, max_size=64))
def test_random_bytes_as_tables(shape: _Shape, pattern: bytes) -> None:
    """Whatever memory holds, a walk and an enumeration end in values."""
    regime = shape.regime(ttbr=ARENA)

    def read(pa: int, size_bytes: int) -> bytes | None:
        if pa >> 16 & 7 == 5:  # no memory
            return None
        # Each page holds the pattern, turned by another number of descriptors.
        pages = range(pa >> 12, (pa + size_bytes - 1 >> 12) + 1)
        turned = [(pattern[page % 8 * 8 :] + pattern[: page % 8 * 8]) * 64 for page in pages]
        return b"".join(turned)[pa & 0xFFF :][:size_bytes]

    for va in _probes(shape, []):
        outcome = walk(regime, read, va)
        assert len(outcome.chain) <= 5
        if isinstance(outcome, Fault):
            assert outcome.sentence
    for one in islice(mappings(regime, read, max_tables=8, choices=PLAIN), 300):
        assert isinstance(one, Mapping | Anomaly)
        if isinstance(one, Mapping):
            outcome = walk(regime, read, one.va, choices=PLAIN)
            if isinstance(outcome, Translation):
                assert (outcome.pa, outcome.leaf) == (one.oa, one.leaf)
            else:
                assert outcome.kind is FaultKind.ACCESS_FLAG or read(outcome.chain[-1].pa, 8) is None


def _builder(granule_log2: int = 12, **settings_: int) -> TableBuilder:
    regime = derive(registers_for(granule_log2=granule_log2, txsz=16, **settings_), VaRange.LOWER)  # type: ignore[arg-type]
    assert isinstance(regime, Regime)
    return TableBuilder(regime, ARENA)


@pytest.mark.parametrize(
    ("va", "pa", "size_bytes", "settings_", "match"),
    [
        (0x1800, 0x1000, 0x1000, {}, "aligned"),
        (0x1000, 0x1800, 0x1000, {}, "aligned"),
        (0x1000, 0x1000, 0x1800, {}, "aligned"),
        (0x1000, 0x1000, 0, {}, "no mapping of 0"),
        (0x1000, 0x20_0000, 0x20_0000, {"level": 2}, "aligned"),
        (0, 0, 1 << 39, {"level": 0}, "no leaves at level 0"),
        (0, 0, 0x4000, {"contiguous": True}, "group"),
        (0, 0, 1 << 39, {"level": 0, "contiguous": True}, "no contiguous leaves"),
        (1 << 48, 0, 0x1000, {}, "range"),
        (0xFFFF << 48, 0, 0x1000, {}, "range"),
        (0x1000, 1 << 48, 0x1000, {}, "beyond 48 bits"),
        (0x1000, 0x1000, 0x1000, {"attributes": 3}, "attribute bits"),
        (0x1000, 0x1000, 0x1000, {"attributes": 1 << 20}, "attribute bits"),
        (0x20_0000, 0, 0x1000, {}, "mapped already"),
        (0, 0, 0x40_0000, {"level": 2}, "mapped already"),
        (0x40_0000, 0, 0x20_0000, {"level": 2}, "mapped already"),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    va: int, pa: int, size_bytes: int, settings_: dict[str, int], match: str
) -> None:
    """A clear error for what is misaligned, out of range, not an encoding, or mapped; nothing is written."""
    builder = _builder()
    builder.map(0x20_0000, 0, 0x20_0000, level=2)
    builder.map(0x40_1000, 0, 0x1000)
    before = builder.arena
    with pytest.raises(BuildError, match=match):
        builder.map(va, pa, size_bytes, **settings_)  # type: ignore[arg-type]
    assert builder.arena == before


def test_largest_leaves_are_chosen() -> None:
    """Without a level a mapping is cut into the largest leaves that alignment allows."""
    builder = _builder()
    builder.map(0x3FFF_F000, 0x7FFF_F000, 0x1000 + (1 << 30) + 0x20_0000 + 0x1000)
    sizes = [one.size_bytes for one in mappings(builder.regime, builder.read) if isinstance(one, Mapping)]
    assert sizes == [0x1000, 1 << 30, 0x20_0000, 0x1000]


def test_attributes_reach_the_leaf() -> None:
    """Attributes are written as asked; the LPA2 format has no room for SH and leaves it out."""
    asked = leaf_attributes(
        attr_indx=5, ap=2, sh=2, ng=True, gp=True, dbm=True, pxn=True, uxn=True, software=9, af=False
    )
    assert asked == 0x04EC_0000_0000_0A94 | 1 << 51
    builder = _builder()
    builder.map(0, 0, 0x1000, attributes=asked)
    wide = _builder(ds=True, pa_bits=52, ips_bits=52)
    wide.map(0, 0xF_0000_0000_0000, 0x1000, attributes=asked)
    (leaf,) = mappings(builder.regime, builder.read)
    (wide_leaf,) = mappings(wide.regime, wide.read)
    assert isinstance(leaf, Mapping)
    assert isinstance(wide_leaf, Mapping)
    assert leaf.word == asked | 3
    assert wide_leaf.oa == 0xF_0000_0000_0000
    assert wide_leaf.word & ~0x0003_0000_0000_0300 == asked & ~0x300 | 3


def test_table_bits_are_inherited() -> None:
    """APTable and its like, set on the way, reach the leaf ORed."""
    builder = _builder()
    builder.map(0x1000, 0x5000, 0x1000)
    builder.add_table_bits(0x1000, 0, 1 << 59)
    builder.add_table_bits(0x1000, 2, 0b10 << 61)
    (leaf,) = mappings(builder.regime, builder.read)
    assert isinstance(leaf, Mapping)
    assert (leaf.inherited.pxn_table, leaf.inherited.ap_table, leaf.inherited.uxn_table) == (True, 2, False)


def test_arena_and_levels_that_cannot_be() -> None:
    """The builder says what is wrong with an arena, a level, or a place below a leaf."""
    regime = _builder().regime
    with pytest.raises(BuildError, match="granule"):
        TableBuilder(regime, 0x800)
    with pytest.raises(BuildError, match="beyond 48 bits"):
        TableBuilder(regime, 1 << 48)
    builder = _builder()
    builder.map(0, 0, 0x20_0000, level=2)
    with pytest.raises(BuildError, match="has a leaf at level 2"):
        builder.plant(0x1000, 3, 0)
    with pytest.raises(BuildError, match="levels 0 to 3"):
        builder.plant(0, -1, 0)
    with pytest.raises(BuildError, match="range"):
        builder.plant(1 << 55, 3, 0)
    builder.plant(1 << 39, 0, 0x7777_0000_0003)
    with pytest.raises(BuildError, match="out of the arena"):
        builder.map(1 << 39, 0, 0x1000)


def test_first_tables_smaller_than_a_page_are_aligned_to_their_size() -> None:
    """The first table takes what it needs: 16 bytes to a granule, never less than TTBR can point to."""
    for granule_log2, txsz, ds, wanted in ((14, 16, False, 16), (12, 12, True, 128), (16, 16, False, 512)):
        shape = _Shape(granule_log2, txsz, ds, 52 if ds else 48, 48, VaRange.LOWER, 0)
        builder = TableBuilder(shape.regime(), ARENA)
        assert len(builder.arena) == wanted
