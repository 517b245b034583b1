"""The regime of EL2 with one range: its TCR, its addresses, and rights without EL0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.vmsa import (
    Access,
    AccessKind,
    AddressFormat,
    Fault,
    FaultKind,
    Page,
    Regime,
    Regimes,
    Right,
    StageOff,
    TableAttributes,
    TableBuilder,
    Translation,
    TranslationRegime,
    VaRange,
    derive,
    derive_both,
    leaf_attributes,
    permissions,
    registers_for,
    walk,
)
from harness.vmsa.registers import Registers

PS48 = 5 << 16
R, W, X = Right.READ, Right.WRITE, Right.EXECUTE


def _registers(tcr: int = 16 | PS48, *, tcr2: int = 0, mmfr3: int = 0, **settings: Any) -> Registers:
    made = registers_for(**{"granule_log2": 12, "txsz": 16, **settings})
    bank = replace(made.el1, tcr=tcr, tcr2=tcr2, pir=0, mair2=0, por=0)
    return replace(made, el2=bank, hcr_el2=0, id_aa64mmfr3_el1=mmfr3)


def _regime(tcr: int = 16 | PS48, **settings: Any) -> Regime:
    regime = derive(_registers(tcr, **settings), VaRange.LOWER, el=2)
    assert isinstance(regime, Regime)
    return regime


def test_layout_of_tcr_el2() -> None:
    """Each field is where TCR_EL2 has it while E2H is 0."""
    regime = _regime(20 | 2 << 12 | 2 << 14 | 2 << 16)
    assert (regime.name, regime.va_range) == (TranslationRegime.EL2, VaRange.LOWER)
    assert (regime.iasize_bits, regime.sh, regime.geometry.granule_log2, regime.oasize_bits) == (
        44,
        2,
        14,
        40,
    )
    bits = {"tbi": 20, "ha": 21, "hd": 22, "hpd": 24, "tbid": 29, "mtx": 33}
    for name, bit in bits.items():
        with_bit = _regime(16 | PS48 | 1 << bit)
        assert [one for one in bits if getattr(with_bit, one)] == [name]
    wide = _regime(12 | 6 << 16 | 1 << 32, ds=True, pa_bits=52)
    assert (wide.address_format, wide.oasize_bits) == (AddressFormat.LPA2, 52)


def test_what_one_range_lacks() -> None:
    """There are no ASID, PAN, EPD and D128, and bits of TCR_EL1's layout that would be mean nothing."""
    regime = _regime(
        16 | PS48 | 1 << 7 | 1 << 39 | 1 << 55, tcr2=1 << 5 | 1 << 2, mmfr3=1 | 1 << 32 | 1 << 16, pan=3,
        sctlr=1 << 57, ttbr=(0xAB << 48, 0),
    )  # fmt: skip
    assert (regime.asid, regime.has_pan, regime.epan, regime.epd, regime.e0pd) == (
        0,
        False,
        False,
        False,
        False,
    )
    assert (regime.ha, regime.e0poe, regime.pie) == (False, False, False)
    assert regime.geometry.desc_log2 == 3


def test_upper_range_is_a_fault() -> None:
    """An address with bit 55 set faults at level 0, tagged or not; derive_both needs no second TTBR."""
    registers = _registers(16 | PS48 | 1 << 20)
    registers = replace(registers, el2=replace(registers.el2, ttbr1=None))
    both = derive_both(registers, el=2)
    assert isinstance(both, Regimes)
    assert isinstance(both.upper, Fault)
    assert "one range" in both.upper.reason
    assert isinstance(both.lower, Regime)
    builder = TableBuilder(both.lower, 0x4000_0000)
    builder.map(0x1000, 0x7000, 0x1000)
    both = replace(both, lower=builder.regime)
    for va, good in (
        (0x1000, True),
        (0xAB << 56 | 0x1000, True),
        (1 << 55 | 0x1000, False),
        (1 << 48, False),
    ):
        for regime in (both, builder.regime):
            outcome = walk(regime, builder.read, va)
            assert isinstance(outcome, Translation if good else Fault)
            if isinstance(outcome, Fault):
                assert (outcome.kind, outcome.level) == (FaultKind.TRANSLATION, 0)


def test_all_ones_are_no_address_of_one_range() -> None:
    """The bits above the size must be 0, not like bit 55."""
    assert _regime().va_out_of_range((1 << 64) - 0x1000)
    assert _regime(16 | PS48 | 1 << 20).va_out_of_range((1 << 64) - 0x1000)


@pytest.mark.parametrize("ap", range(4))
@pytest.mark.parametrize("xn", [False, True])
@pytest.mark.parametrize("ap_table", range(4))
@pytest.mark.parametrize("xn_table", [False, True])
@pytest.mark.parametrize("hpd", [False, True])
def test_rights(ap: int, xn: bool, ap_table: int, xn_table: bool, hpd: bool) -> None:
    """AP[2] and APTable[1] take writing, bit 54 and XNTable executing; the rest, and PAN, have no effect."""
    leaf = Page(leaf_attributes(ap=ap, uxn=xn, pxn=True), 3, 0)
    handed = TableAttributes(ap_table=ap_table, uxn_table=xn_table, pxn_table=True)
    read_only = ap & 2 or (ap_table & 2 and not hpd)
    no_execute = xn or (xn_table and not hpd)
    wanted = R | (Right.NONE if read_only else W) | (Right.NONE if no_execute else X)
    regime = replace(_regime(), hpd=hpd)
    for pan in (False, True):
        rights = permissions(regime, leaf, handed, pan=pan)
        assert (rights.privileged, rights.user) == (wanted, Right.NONE)


def test_wxn_and_dirty_state() -> None:
    """WXN and DBM work as in two ranges."""
    both = Page(leaf_attributes(), 3, 0)
    assert permissions(replace(_regime(), wxn=True), both, TableAttributes()).privileged == R | W
    clean = Page(leaf_attributes(ap=0b10, dbm=True), 3, 0)
    managed = replace(_regime(), ha=True, hd=True)
    assert permissions(managed, clean, TableAttributes()).privileged == R | W | X


@pytest.mark.parametrize(("nibble", "wanted"), [(0x5, R | W), (0xE, R | W | X), (0x9, R | Right.GCS)])
def test_indirect_rights(nibble: int, wanted: Right) -> None:
    """PIR alone counts: what PIRE0 would give EL0 takes nothing away."""
    regime = replace(_regime(), pie=True, pir=nibble, pire0=0x7)
    leaf = Page(leaf_attributes(), 3, 0)
    rights = permissions(regime, leaf, TableAttributes(), pan=True)
    assert (rights.privileged, rights.user) == (wanted, Right.NONE)


def test_accesses() -> None:
    """EL2's accesses are checked; EL0 has no business in this regime."""
    builder = TableBuilder(_regime(), 0x4000_0000)
    builder.map(0x1000, 0x7000, 0x1000, attributes=leaf_attributes(ap=0b10))
    assert isinstance(
        walk(builder.regime, builder.read, 0x1000, Access(kind=AccessKind.READ, el=2)), Translation
    )
    for access in (Access(kind=AccessKind.WRITE, el=2), Access(kind=AccessKind.READ, el=0)):
        outcome = walk(builder.regime, builder.read, 0x1000, access)
        assert isinstance(outcome, Fault)
        assert outcome.kind is FaultKind.PERMISSION


def test_off() -> None:
    """SCTLR_EL2.M turns it off."""
    registers = _registers()
    outcome = derive(replace(registers, el2=replace(registers.el2, sctlr=0)), VaRange.LOWER, el=2)
    assert isinstance(outcome, StageOff)
    assert (outcome.name, outcome.stage) == (TranslationRegime.EL2, 1)
