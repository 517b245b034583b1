"""Walks: the order of faults, contiguous groups, access flag, tables outside memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ChannelError
from harness.vmsa import (
    Access,
    AccessKind,
    Block,
    Choices,
    Denial,
    Fault,
    FaultKind,
    Page,
    Regime,
    Regimes,
    TableAttributes,
    TableBuilder,
    Translation,
    VaRange,
    derive_both,
    leaf_attributes,
    registers_for,
    walk,
)

MakeRegime = Callable[..., Regime]
VA, PA, ARENA = 0x0000_7654_3210_9000, 0x00_1234_5000, 0x4000_0000
USER = leaf_attributes(ap=0b01)
WRITE = Access(kind=AccessKind.WRITE, el=0, aligned=False, nonfault=True)


@dataclass
class _Scene:
    """A good translation of 4K pages with 40 bits of output, and what is done to it."""

    regime: Regime
    words: dict[int, int]
    """Descriptors by physical address."""
    chain: tuple[int, ...]
    """Addresses of the descriptors, level 0 first."""
    va: int = VA
    holes: set[int] = field(default_factory=set)

    def read(self, pa: int, size_bytes: int) -> bytes | None:
        """Memory with holes."""
        return None if pa in self.holes else self.words.get(pa, 0).to_bytes(size_bytes, "little")

    def set_bits(self, level: int, bits: int, *, clear: int = 0) -> None:
        """Change the descriptor of a level."""
        self.words[self.chain[level]] = self.words[self.chain[level]] & ~clear | bits


def _scene(make_regime: MakeRegime) -> _Scene:
    builder = TableBuilder(make_regime(ips_bits=40, mair=0x00FF), ARENA)
    builder.map(VA, PA, 0x1000, attributes=USER)
    chain = tuple(builder.descriptor_pa(VA, level) for level in range(4))
    words = {pa: int.from_bytes(builder.read(pa, 8) or b"", "little") for pa in chain}
    return _Scene(builder.regime, words, chain)


BEYOND_40_BITS = 1 << 44
T, S, X = FaultKind.TRANSLATION, FaultKind.ADDRESS_SIZE, FaultKind.EXTERNAL_ON_WALK
Spoil = Callable[[_Scene], None]


def _with(**changes: bool) -> Spoil:
    def spoil(scene: _Scene) -> None:
        scene.regime = replace(scene.regime, **changes)  # type: ignore[arg-type]

    return spoil


def _va_outside(scene: _Scene) -> None:
    scene.va |= 1 << 50


def _table_beyond(scene: _Scene) -> None:
    scene.regime = replace(scene.regime, table_pa=scene.regime.table_pa | BEYOND_40_BITS)


def _hole(level: int) -> Spoil:
    return lambda scene: scene.holes.add(scene.chain[level])


def _bits(level: int, bits: int, clear: int = 0) -> Spoil:
    return lambda scene: scene.set_bits(level, bits, clear=clear)


# In the order of AArch64.S1Translate and AArch64.S1Walk: what is spoiled, and kind, level and words of the
# fault that it causes by itself.
FAULTS: list[tuple[Spoil, FaultKind, int, str]] = [
    (_va_outside, T, 0, "outside the 48 bits"),
    (_with(e0pd=True), T, 0, "E0PD"),
    (_with(nfd=True), T, 0, "NFD"),
    (_with(epd=True), T, 0, "EPD"),
    (_table_beyond, S, 0, "first table"),
    *itertools.chain.from_iterable(
        (
            (_hole(level), X, level, "no memory"),
            (_bits(level, 0, clear=1), T, level, "is invalid"),
            (_bits(level, BEYOND_40_BITS), S, level, "next table"),
        )
        for level in range(3)
    ),
    (_hole(3), X, 3, "no memory"),
    (_bits(3, 0, clear=2), T, 3, "is reserved"),
    (_bits(3, BEYOND_40_BITS), S, 3, "output address"),
    (_bits(3, 0, clear=1 << 10), FaultKind.ACCESS_FLAG, 3, "access flag"),
    (_bits(3, 1 << 2), FaultKind.ALIGNMENT, 3, "unaligned"),
    (_bits(3, 1 << 7), FaultKind.PERMISSION, 3, "refused by the permissions"),
]


def _assert_fault(scene: _Scene, wanted: tuple[Spoil, FaultKind, int, str]) -> None:
    outcome = walk(scene.regime, scene.read, scene.va, WRITE)
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.level) == wanted[1:3], outcome.sentence
    assert wanted[3] in outcome.reason


def test_unspoiled_scene_translates(make_regime: MakeRegime) -> None:
    """Before anything is spoiled the address translates, and the chain says how."""
    scene = _scene(make_regime)
    outcome = walk(scene.regime, scene.read, VA + 0xABC, WRITE)
    assert isinstance(outcome, Translation)
    assert (outcome.pa, outcome.level, outcome.size_log2) == (PA + 0xABC, 3, 12)
    assert tuple(step.pa for step in outcome.chain) == scene.chain
    assert [step.level for step in outcome.chain] == [0, 1, 2, 3]
    assert outcome.chain[-1].descriptor == outcome.leaf == Page(scene.words[scene.chain[3]], 3, PA)


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=lambda number: FAULTS[number][3])
def test_the_earlier_fault_wins(make_regime: MakeRegime, first: int) -> None:
    """Each fault by itself, and before each that comes after it."""
    for later in range(first, len(FAULTS)):
        scene = _scene(make_regime)
        FAULTS[later][0](scene)
        if later != first:
            FAULTS[first][0](scene)
        _assert_fault(scene, FAULTS[first])


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, len(FAULTS) - 1), min_size=1))
def test_the_earliest_of_any_set_wins(make_regime: MakeRegime, spoiled: set[int]) -> None:
    """However many faults there are, the first in the order is reported."""
    scene = _scene(make_regime)
    for number in sorted(spoiled):
        FAULTS[number][0](scene)
    _assert_fault(scene, FAULTS[min(spoiled)])


def test_fault_carries_the_chain_so_far(make_regime: MakeRegime) -> None:
    """A fault shows the descriptors that were read, the failing one included."""
    scene = _scene(make_regime)
    scene.set_bits(2, 0, clear=1)
    invalid = walk(scene.regime, scene.read, VA)
    assert isinstance(invalid, Fault)
    assert tuple(step.pa for step in invalid.chain) == scene.chain[:3]
    scene.holes.add(scene.chain[1])
    aborted = walk(scene.regime, scene.read, VA)
    assert isinstance(aborted, Fault)
    assert [(step.pa, step.word) for step in aborted.chain][1:] == [(scene.chain[1], None)]


def test_denial_is_named(make_regime: MakeRegime) -> None:
    """A Permission fault says what refused the access."""
    scene = _scene(make_regime)
    outcome = walk(scene.regime, scene.read, VA, Access(kind=AccessKind.WRITE, el=1, pan=True))
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.denial, outcome.fsc) == (FaultKind.PERMISSION, Denial.BASE, 0x0F)


def test_e0pd_and_nfd_are_for_el0(make_regime: MakeRegime) -> None:
    """EL1 translates what E0PD and NFD hide from EL0, and NFD hides it from non-fault accesses alone."""
    scene = _scene(make_regime)
    scene.regime = replace(scene.regime, e0pd=True, nfd=True)
    for access in (None, Access(kind=AccessKind.READ, el=1, nonfault=True)):
        assert isinstance(walk(scene.regime, scene.read, VA, access), Translation)
    scene.regime = replace(scene.regime, e0pd=False)
    assert isinstance(walk(scene.regime, scene.read, VA, Access(kind=AccessKind.READ, el=0)), Translation)


def test_tables_restrict_what_is_below_them(make_regime: MakeRegime) -> None:
    """APTable, PXNTable and UXNTable of any level reach the leaf, and decide accesses there."""
    scene = _scene(make_regime)
    fetch = Access(kind=AccessKind.EXECUTE, el=0)
    assert isinstance(walk(scene.regime, scene.read, VA, fetch), Translation)
    scene.set_bits(0, 1 << 60)
    scene.set_bits(2, 0b10 << 61)
    outcome = walk(scene.regime, scene.read, VA)
    assert isinstance(outcome, Translation)
    assert outcome.inherited == TableAttributes(uxn_table=True, ap_table=0b10)
    for access in (fetch, Access(kind=AccessKind.WRITE, el=0)):
        refused = walk(scene.regime, scene.read, VA, access)
        assert isinstance(refused, Fault)
        assert refused.kind is FaultKind.PERMISSION


def test_alignment_is_for_data_on_device_memory(make_regime: MakeRegime) -> None:
    """Unaligned data accesses fault on Device memory; fetches, aligned accesses and Normal memory do not."""
    scene = _scene(make_regime)
    unaligned = Access(kind=AccessKind.READ, el=0, aligned=False)
    assert isinstance(walk(scene.regime, scene.read, VA, unaligned), Translation)
    scene.set_bits(3, 1 << 2)
    fault = walk(scene.regime, scene.read, VA, unaligned)
    assert isinstance(fault, Fault)
    assert fault.fsc == 0x21
    for access in (replace(unaligned, aligned=True), replace(unaligned, kind=AccessKind.EXECUTE)):
        assert isinstance(walk(scene.regime, scene.read, VA, access), Translation)


def test_hardware_access_flag(make_regime: MakeRegime) -> None:
    """A clear access flag is no fault where hardware sets it, as in text that Linux faulted around."""
    scene = _scene(make_regime)
    scene.set_bits(3, 0, clear=1 << 10)
    outcome = walk(replace(scene.regime, ha=True), scene.read, VA)
    assert isinstance(outcome, Translation)
    assert not outcome.leaf.af


@pytest.mark.parametrize("error", [ChannelError, OSError, IndexError, KeyError, None])
def test_memory_says_in_many_ways_that_it_is_none(
    make_regime: MakeRegime, error: type[Exception] | None
) -> None:
    """None, too few bytes, and the errors that readers of memory raise, all are external aborts."""

    def read(_pa: int, _size_bytes: int) -> bytes | None:
        if error is not None:
            raise error
        return b"\0" * 4

    outcome = walk(make_regime(), read, VA)
    assert isinstance(outcome, Fault)
    assert outcome.fsc == 0x14


def test_both_ranges_from_one_value(make_regime: MakeRegime) -> None:
    """Regimes send an address to its range; TxSZ out of bounds faults there and only there."""
    registers = registers_for(granule_log2=12, txsz=16, tcr=0)
    bad_upper = replace(registers, el1=replace(registers.el1, tcr=(registers.el1.tcr or 0) | 0x3F << 16))
    both = derive_both(bad_upper)
    assert isinstance(both, Regimes)
    builder = TableBuilder(make_regime(), ARENA)
    builder.map(VA, PA, 0x1000)
    both = replace(both, lower=builder.regime)
    assert isinstance(walk(both, builder.read, VA), Translation)
    outcome = walk(both, builder.read, VA | 0xFFFF << 48)
    assert isinstance(outcome, Fault)
    assert (outcome.fsc, outcome.va) == (0x04, VA | 0xFFFF << 48)
    assert "TxSZ is 63" in outcome.sentence


def test_misuse_is_an_error(make_regime: MakeRegime) -> None:
    """An address of the other range, or of more than 64 bits, is the caller's mistake."""
    regime = make_regime()
    with pytest.raises(ValueError, match="give both regimes"):
        walk(regime, lambda _pa, _size: None, 0xFFFF << 48)
    for va in (-1, 1 << 64):
        with pytest.raises(ValueError, match="64 bits"):
            walk(regime, lambda _pa, _size: None, va)


def test_level_minus_1_faults_have_their_codes(make_regime: MakeRegime) -> None:
    """With 52 bits of address and 4K pages a walk starts at level -1, and its faults say so."""
    regime = make_regime(txsz=12, ds=True, ips_bits=40, pa_bits=52)
    builder = TableBuilder(regime, ARENA)
    empty = walk(builder.regime, builder.read, VA)
    assert isinstance(empty, Fault)
    assert empty.fsc == 0x2B
    builder.plant(VA, -1, 3 | BEYOND_40_BITS)
    beyond = walk(builder.regime, builder.read, VA)
    assert isinstance(beyond, Fault)
    assert beyond.fsc == 0x29
    nowhere = walk(builder.regime, lambda _pa, _size: None, VA)
    assert isinstance(nowhere, Fault)
    assert nowhere.fsc == 0x13


def test_address_bits_of_52_count_where_40_are_allowed(make_regime: MakeRegime) -> None:
    """With LPA2 or LPA the high address bits are read and then refused, not ignored."""
    for settings_, high in (({"txsz": 16, "ds": True}, 1 << 9), ({"granule_log2": 16}, 1 << 13)):
        builder = TableBuilder(make_regime(ips_bits=40, pa_bits=52, **settings_), ARENA)
        page = 1 << builder.regime.geometry.granule_log2
        va = VA & -page
        builder.map(va, 0x1234_0000, page)
        builder.plant(va, 3, 0x1234_0403 | high)
        outcome = walk(builder.regime, builder.read, va)
        assert isinstance(outcome, Fault)
        assert outcome.fsc == 0x03


def test_contiguous_bit_takes_part_in_the_address(make_regime: MakeRegime) -> None:
    """A group programmed wrongly translates as the group's base plus offset, or plainly, as is chosen."""
    builder = TableBuilder(make_regime(), ARENA)
    va = VA & ~0xFFFF
    builder.map(va, 0x1_0000, 0x1_0000, contiguous=True)
    wrong = 0x9_3000 | 1 << 52 | 0x403
    builder.plant(va + 0x5000, 3, wrong)
    honoured = walk(builder.regime, builder.read, va + 0x5123)
    plain = walk(builder.regime, builder.read, va + 0x5123, choices=Choices(honour_contiguous=False))
    assert isinstance(honoured, Translation)
    assert isinstance(plain, Translation)
    assert (honoured.pa, plain.pa) == (0x9_5123, 0x9_3123)
    assert honoured.contiguous


def test_contiguous_bit_where_it_means_nothing(make_regime: MakeRegime) -> None:
    """Bit 52 is ignored with TCR2.PnCH, and at levels that have no groups."""
    builder = TableBuilder(make_regime(), ARENA)
    builder.plant(VA, 3, 0x9_3000 | 1 << 52 | 0x403)
    outcome = walk(replace(builder.regime, pnch=True), builder.read, VA + 5)
    assert isinstance(outcome, Translation)
    assert (outcome.pa, outcome.contiguous) == (0x9_3005, False)
    wide = TableBuilder(make_regime(ds=True, ips_bits=52, pa_bits=52), ARENA)
    wide.plant(0, 0, 1 << 52 | 0x401)
    block = walk(wide.regime, wide.read, 0x1234)
    assert isinstance(block, Translation)
    assert (block.pa, block.contiguous, block.size_log2) == (0x1234, False, 39)


def test_implementations_may_fault_where_others_do_not(make_regime: MakeRegime) -> None:
    """Blocks with nT, and groups larger than the address space, fault where the choice says so."""
    builder = TableBuilder(make_regime(txsz=33), ARENA)
    builder.plant(0, 1, 1 << 16 | 0x401)
    builder.plant(1 << 30, 1, 1 << 52 | 1 << 30 | 0x401)
    assert isinstance(walk(builder.regime, builder.read, 0), Translation)
    assert isinstance(walk(builder.regime, builder.read, 1 << 30), Translation)
    nt = walk(builder.regime, builder.read, 0, choices=Choices(nt_faults=True))
    group = walk(builder.regime, builder.read, 1 << 30, choices=Choices(contiguous_faults=True))
    for fault in (nt, group):
        assert isinstance(fault, Fault)
        assert fault.fsc == 0x05


def test_tags_do_not_reach_the_output_address(make_regime: MakeRegime) -> None:
    """With TBI the top byte of a data address is anything, and of an instruction's too unless TBID."""
    builder = TableBuilder(make_regime(VaRange.UPPER, tcr=1 << 38 | 1 << 52), ARENA)
    va = builder.regime.lowest_va + 0x5000
    builder.map(va, PA, 0x1000)
    tagged = va & ~(0xFF << 56) | 0x5A << 56
    data = walk(builder.regime, builder.read, tagged + 4)
    assert isinstance(data, Translation)
    assert data.pa == PA + 4
    fetch = walk(builder.regime, builder.read, tagged, Access(kind=AccessKind.EXECUTE, el=1))
    assert isinstance(fetch, Fault)
    assert fetch.fsc == 0x04


def test_block_at_each_legal_level(make_regime: MakeRegime) -> None:
    """Blocks translate the whole of their span, whatever lies in the bits below their address."""
    builder = TableBuilder(make_regime(ds=True, ips_bits=52, pa_bits=52), ARENA)
    for level, size in ((0, 1 << 39), (1, 1 << 30), (2, 1 << 21)):
        va = size * 3
        dirt = 0x1F << 12
        builder.plant(va, level, size | dirt | 0x401)
        outcome = walk(builder.regime, builder.read, va + size - 1)
        assert isinstance(outcome, Translation)
        assert isinstance(outcome.leaf, Block)
        assert outcome.pa == 2 * size - 1
