"""Tests of harness.check.divergence: each predicate explains its case, and not its neighbours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.check.disagreement import Answer, Died, Disagreement, Faulted, Mapped, Oracle, Unmapped
from harness.check.divergence import PREDICATES
from harness.vmsa import (
    Access,
    AccessKind,
    Regime,
    Registers,
    Reserved,
    TableBuilder,
    VaRange,
    derive,
    registers_for,
    walk,
)
from harness.vmsa.registers import Mmfr1, Tcr

ARENA_PA = 0x4100_0000
AF, PAGE, BLOCK = 1 << 10, 0b11, 0b01
LOAD = Access(kind=AccessKind.READ, el=1)
USER_LOAD = Access(kind=AccessKind.READ, el=0)
DS_52 = {"granule_log2": 12, "txsz": 12, "ds": True, "pa_bits": 52}
PLAIN = {"granule_log2": 12, "txsz": 25}


def _case(
    registers: Registers,
    level: int,
    word: int,
    answer: Answer,
    *,
    va: int = 0,
    access: Access = LOAD,
    oracle: Oracle = Oracle.MMU,
    above: int = 0,
) -> Disagreement:
    """What one descriptor and an answer make; `above` is ORed into the table descriptor over it."""
    regime = derive(registers, VaRange.LOWER)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, ARENA_PA)
    builder.plant(va, level, word)
    if above:
        builder.add_table_bits(va, level - 1, above)
    return Disagreement(
        va=va,
        access=access,
        registers=registers,
        regime=builder.regime,
        outcome=walk(builder.regime, builder.read, va, access),
        answer=answer,
        oracle=oracle,
    )


def _explained(case: Disagreement) -> set[str]:
    return {name for name, holds in PREDICATES.items() if holds(case)}


def _registers(**wanted: object) -> Registers:
    return registers_for(**wanted)  # type: ignore[arg-type]


HERE = Mapped(pa=0, attr=0xFF, sh=0)


def test_block_at_any_level() -> None:
    """A block where there is none is explained; a reserved page and an invalid block are not."""
    at_0 = _registers(granule_log2=12, txsz=16)
    assert _explained(_case(at_0, 0, BLOCK | AF, HERE)) == {"block_at_any_level"}
    assert _explained(_case(at_0, 0, AF, HERE)) == set()
    assert _explained(_case(at_0, 0, BLOCK | AF, Mapped(pa=0x1000))) == set()
    assert _explained(_case(at_0, 3, BLOCK | AF, HERE)) == set()


def test_a_legal_block_is_the_models_mistake() -> None:
    """Where a block is legal, a model that says otherwise is not excused."""
    wide = _case(_registers(**DS_52, ips_bits=52), 0, 0, HERE)
    step = replace(wide.outcome.chain[-1], word=BLOCK | AF, descriptor=Reserved(BLOCK | AF, 0))
    wrong = replace(wide, outcome=replace(wide.outcome, chain=(*wide.outcome.chain[:-1], step)))
    assert _explained(wrong) == set()


def test_block_at_the_top() -> None:
    """QEMU's end is explained by a block at level -1 only."""
    top = _registers(**DS_52, ips_bits=52)
    assert _explained(_case(top, -1, BLOCK, Died("assertion"))) == {"illegal_block_above_level_0_kills"}
    assert _explained(_case(top, -1, 0, Died("assertion"))) == set()
    at_0 = _registers(granule_log2=12, txsz=16)
    assert _explained(_case(at_0, 0, BLOCK, Died("assertion"))) == set()


def test_high_output_bits() -> None:
    """An address too large by its bits above 47 is explained, below 52 bits of output and not at them."""
    high, low = 0b01 << 8 | PAGE | AF, 1 << 45 | PAGE | AF
    narrow = _registers(**DS_52, ips_bits=44)
    assert _explained(_case(narrow, 3, high, HERE)) == {"high_output_bits_ignored"}
    assert _explained(_case(narrow, 3, low, HERE)) == set()
    plain = _registers(**PLAIN, ips_bits=44)
    assert _explained(_case(plain, 3, low, HERE)) == set()


def test_access_flag() -> None:
    """The debug walk may ignore the access flag, the MMU may not."""
    plain = _registers(**PLAIN)
    seen = Mapped(pa=0)
    assert _explained(_case(plain, 3, PAGE, seen, oracle=Oracle.DEBUG_WALK)) == {"access_flag_ignored"}
    assert _explained(_case(plain, 3, PAGE, seen)) == set()
    assert _explained(_case(plain, 3, 0, seen, oracle=Oracle.DEBUG_WALK)) == set()


def test_block_larger_than_the_output() -> None:
    """An address beyond the output size within a block that begins below it, and no other."""
    narrow = _registers(**DS_52, ips_bits=36)
    va = 1 << 38
    there = Mapped(pa=va, attr=0xFF, sh=0)
    assert _explained(_case(narrow, 0, BLOCK | AF, there, va=va)) == {"block_larger_than_output"}
    assert _explained(_case(narrow, 0, BLOCK | AF, HERE, va=va)) == set()
    assert _explained(_case(narrow, 0, BLOCK | AF | 1 << 40, there, va=va)) == set()


@pytest.mark.parametrize("refusal", [Faulted(fsc=0x00), Unmapped()])
def test_block_res0_bits(refusal: Answer) -> None:
    """Bits of a block that are no part of its address, and are beyond the output size, may be refused."""
    narrow = _registers(**DS_52, ips_bits=36)
    stray = BLOCK | AF | 1 << 37
    assert _explained(_case(narrow, 0, stray, refusal)) == {"block_res0_bits_out_of_range"}
    assert _explained(_case(narrow, 0, stray, Faulted(fsc=0x04))) == set()
    assert _explained(_case(narrow, 0, BLOCK | AF | 1 << 35, refusal)) == set()


def test_hpd() -> None:
    """TCR.HPD0 on a CPU without FEAT_HPDS explains what APTable forbids; with the feature, nothing."""
    registers = _registers(**PLAIN, tcr=Tcr.hpd0.mask)
    without = replace(registers, id_aa64mmfr1_el1=Mmfr1.hpds.into(registers.id_aa64mmfr1_el1 or 0, 0))
    word = PAGE | AF | 0b01 << 6

    def explained(of: Registers, answer: Answer) -> set[str]:
        case = _case(of, 3, word, answer, access=USER_LOAD, above=0b01 << 61)
        return _explained(case)

    assert explained(without, HERE) == {"hpd_without_feature"}
    assert explained(without, Mapped(pa=0x7000)) == set()
    assert explained(without, Faulted(fsc=0x07)) == set()
    assert explained(registers, HERE) == set()
    unset = replace(without, el1=replace(without.el1, tcr=(without.el1.tcr or 0) & ~Tcr.hpd0.mask))
    assert explained(unset, HERE) == set()


@pytest.mark.parametrize(("mair", "explained"), [(0x04, True), (0x44, True), (0xFF, False)])
def test_par_sh(mair: int, explained: bool) -> None:
    """SH as written is explained for Device and Non-cacheable memory, at the right address only."""
    plain = _registers(**PLAIN, mair=mair)
    right = _case(plain, 3, PAGE | AF | 0b11 << 8, Mapped(pa=0, attr=mair, sh=3))
    assert _explained(right) == ({"par_sh_as_written"} if explained else set())
    assert _explained(replace(right, answer=Mapped(pa=0x1000, attr=mair, sh=3))) == set()
    assert _explained(replace(right, answer=Mapped(pa=0, attr=mair, sh=1))) == set()


def test_words() -> None:
    """A disagreement in words has both answers, the access and the descriptors."""
    shown = str(_case(_registers(**PLAIN), 3, PAGE, Mapped(pa=0x1000, attr=0xFF, sh=3), access=USER_LOAD))
    for part in ("read by EL0", "access flag fault, level 3", "pa 0x1000, attr 0xff, sh 0x3", "L3:0x3"):
        assert part in shown
