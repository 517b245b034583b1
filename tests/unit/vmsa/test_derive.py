"""Effective values: from register values seen in guests, and from each rule by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.vmsa import (
    AddressFormat,
    Fault,
    Regime,
    Regimes,
    Registers,
    StageOff,
    TranslationRegime,
    VaRange,
    derive,
    derive_both,
    registers_for,
)

MakeRegime = Callable[..., Regime]
LOWER, UPPER = VaRange.LOWER, VaRange.UPPER

# ID registers of QEMU 7.2's `max`, as far as they matter: PARange 6, 52 bits at 4K and 16K, HAFDBS 2,
# HPDS 2, PAN 3, LVA, TTST, E0PD.
MAX = {
    "ID_AA64MMFR0_EL1": 0x0000_0000_1020_0006 | 1 << 28,
    "ID_AA64MMFR1_EL1": 0x0000_0000_0030_2002,
    "ID_AA64MMFR2_EL1": 1 << 60 | 1 << 28 | 1 << 16,
    "MAIR_EL1": 0x4_0044_FFFF,
    "SCTLR_EL1": 1,
}
# cortex-a57: PARange 4 (44 bits), 4K and 64K, nothing else.
A57 = {
    "ID_AA64MMFR0_EL1": 0x0000_1124,
    "ID_AA64MMFR1_EL1": 0,
    "ID_AA64MMFR2_EL1": 0,
    "MAIR_EL1": 0xFF,
    "SCTLR_EL1": 1,
}


def _regime(values: dict[str, int], va_range: VaRange = UPPER) -> Regime:
    regime = derive(Registers.from_names(values), va_range)
    assert isinstance(regime, Regime)
    return regime


def test_4k_lpa2_guest() -> None:
    """Linux with 52 bits and 4K pages on `max`: five levels, LPA2, a sub-page first table of 128 bytes."""
    values = MAX | {"TCR_EL1": 0x0950_01F6_B54C_350C, "TTBR0_EL1": 0x4399_DE81, "TTBR1_EL1": 0x41EE_9000}
    upper, lower = _regime(values), _regime(values, LOWER)
    assert (upper.address_format, upper.iasize_bits, upper.oasize_bits) == (AddressFormat.LPA2, 52, 52)
    assert (upper.start_level, upper.start_table_bytes) == (-1, 128)
    assert (upper.ha, upper.hd, upper.tbi, upper.tbid, upper.e0pd) == (True, True, True, True, True)
    assert lower.table_pa == 0x4399_DE80
    assert lower.e0pd is False


def test_16k_fallback_guest() -> None:
    """A 16K kernel built for 52 bits, on a CPU without LPA2, runs with 47."""
    no_lpa2 = MAX | {"ID_AA64MMFR0_EL1": 0x0010_0006}
    values = no_lpa2 | {"TCR_EL1": 0x0150_01F5_7551_B511, "TTBR0_EL1": 0x4862_1D01, "TTBR1_EL1": 0}
    regime = _regime(values, LOWER)
    assert (regime.geometry.granule_log2, regime.iasize_bits, regime.start_level) == (14, 47, 1)
    assert (regime.address_format, regime.oasize_bits) == (AddressFormat.PA48, 48)


def test_cpu_without_the_features_of_tcr() -> None:
    """On cortex-a57 the PA size is the smaller of IPS and PARange, and HA of TCR would mean nothing."""
    values = A57 | {"TCR_EL1": 0x0050_0074_B550_3510 | 3 << 39 | 1 << 41, "TTBR0_EL1": 0, "TTBR1_EL1": 0}
    regime = _regime(values, LOWER)
    assert regime.oasize_bits == 44
    assert (regime.ha, regime.hd, regime.hpd, regime.has_pan) == (False, False, False, False)


@pytest.mark.parametrize(
    ("settings", "format_", "oasize", "wide_ttbr"),
    [
        ({"granule_log2": 12}, AddressFormat.PA48, 48, False),
        ({"granule_log2": 12, "ds": True, "ips_bits": 52, "pa_bits": 52}, AddressFormat.LPA2, 52, True),
        ({"granule_log2": 14, "ds": True, "ips_bits": 40, "pa_bits": 52}, AddressFormat.LPA2, 40, True),
        ({"granule_log2": 14, "ds": True, "ips_bits": 52, "pa_bits": 48}, AddressFormat.LPA2, 48, True),
        # The 64K granule has no DS: FEAT_LPA decides the format, TCR.IPS that of TTBR.
        ({"granule_log2": 16, "ds": True, "ips_bits": 48}, AddressFormat.PA48, 48, False),
        ({"granule_log2": 16, "ips_bits": 48, "pa_bits": 52}, AddressFormat.LPA, 48, False),
        ({"granule_log2": 16, "ips_bits": 52, "pa_bits": 52}, AddressFormat.LPA, 52, True),
        ({"granule_log2": 16, "ips_bits": 56, "pa_bits": 52}, AddressFormat.LPA, 52, False),
        ({"granule_log2": 16, "ips_bits": 52, "pa_bits": 48}, AddressFormat.PA48, 48, False),
        ({"granule_log2": 12, "ips_bits": 32}, AddressFormat.PA48, 32, False),
    ],
)
def test_output_addresses(
    make_regime: MakeRegime, settings: dict[str, int], format_: AddressFormat, oasize: int, wide_ttbr: bool
) -> None:
    """Format, size and the form of TTBR follow from granule, DS, IPS and PARange."""
    regime = make_regime(**settings)
    assert (regime.address_format, regime.oasize_bits, regime.ttbr_is_wide) == (format_, oasize, wide_ttbr)


@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        ({"granule_log2": 12}, 16, 39),
        ({"granule_log2": 12, "lva": True}, 16, 39),
        ({"granule_log2": 12, "ds": True}, 12, 39),
        ({"granule_log2": 14, "ds": True, "ttst": True}, 12, 48),
        ({"granule_log2": 16}, 16, 39),
        ({"granule_log2": 16, "ds": True}, 16, 39),
        ({"granule_log2": 16, "lva": True, "ttst": True}, 12, 47),
        ({"granule_log2": 12, "ttst": True}, 16, 48),
    ],
)
def test_txsz_bounds(settings: dict[str, int], least: int, most: int) -> None:
    """A TxSZ within its bounds is a regime, any other a Translation fault of level 0."""
    for txsz in range(64):
        outcome = derive(registers_for(**{"txsz": txsz, **settings}), UPPER)  # type: ignore[arg-type]
        if least <= txsz <= most:
            assert isinstance(outcome, Regime)
            assert outcome.iasize_bits == 64 - txsz
        else:
            assert isinstance(outcome, Fault)
            assert outcome.fsc == 0b000100


@pytest.mark.parametrize(
    ("ttbr", "settings", "table_pa"),
    [
        (0x0000_0000_4000_0001, {}, 0x4000_0000),
        # Aligned down to the table's size, here 4 KiB, then 16 bytes, then 64 for the wide form.
        (0x0000_0000_4000_0FFF, {}, 0x4000_0000),
        (0xABCD_0000_4000_001F, {"granule_log2": 14}, 0x4000_0010),
        (0x4399_DE81, {"txsz": 12, "ds": True, "pa_bits": 52, "ips_bits": 52}, 0x4399_DE80),
        (
            0x0000_0000_4000_0000 | 0b1010 << 2,
            {"txsz": 25, "ds": True, "pa_bits": 52, "ips_bits": 52},
            0x000A_0000_4000_0000,
        ),
        # 64K: bits 5:2 are address bits only when IPS says 52.
        (0x4000_0020, {"granule_log2": 16, "pa_bits": 52, "ips_bits": 52}, 0x0008_0000_4000_0000),
        (0x4000_0220, {"granule_log2": 16, "pa_bits": 52, "ips_bits": 48}, 0x4000_0200),
    ],
)
def test_ttbr_forms(make_regime: MakeRegime, ttbr: int, settings: dict[str, int], table_pa: int) -> None:
    """The base address in both forms of TTBR, without ASID and CnP."""
    assert make_regime(ttbr=(ttbr, 0), **settings).table_pa == table_pa


def test_ttbr_encoding_is_the_inverse(make_regime: MakeRegime) -> None:
    """A TTBR made for a base gives the base back, and impossible bases have none."""
    wide = make_regime(txsz=12, ds=True, pa_bits=52, ips_bits=52)
    for pa in (0x80, 0x000F_FFFF_FFFF_FF80, 0x0004_0000_0000_1000):
        ttbr = wide.ttbr_for(pa)
        assert make_regime(txsz=12, ds=True, pa_bits=52, ips_bits=52, ttbr=(ttbr, 0)).table_pa == pa
    for regime, pa in ((wide, 0x40), (make_regime(), 1 << 48), (make_regime(), -0x1000)):
        with pytest.raises(ValueError, match="TTBR cannot hold"):
            regime.ttbr_for(pa)


@pytest.mark.parametrize(("a1", "as16", "asid"), [(0, 0, 0x34), (0, 1, 0x1234), (1, 0, 0x78), (1, 1, 0x5678)])
def test_asid(make_regime: MakeRegime, a1: int, as16: int, asid: int) -> None:
    """TCR.A1 says whose ASID is in force, TCR.AS how wide it is."""
    regime = make_regime(tcr=a1 << 22 | as16 << 36, ttbr=(0x1234 << 48, 0x5678 << 48))
    assert regime.asid == asid


def test_host_runs_on_el2s_registers() -> None:
    """With HCR_EL2.{E2H,TGE} the live registers are EL2's, however plausible EL1's stale ones look."""
    values = MAX | {
        "TCR_EL1": 0x0950_01F6_B54C_350C, "TTBR1_EL1": 0x41EE_9000, "TTBR0_EL1": 0,
        "TCR_EL2": 0x0150_01F5_B550_3510, "TTBR1_EL2": 0x7700_0000, "TTBR0_EL2": 0, "MAIR_EL2": 0xFF,
        "SCTLR_EL2": 1, "HCR_EL2": 1 << 34 | 1 << 27,
    }  # fmt: skip
    host = _regime(values)
    assert (host.name, host.table_pa, host.iasize_bits) == (TranslationRegime.EL20, 0x7700_0000, 48)
    guest = derive(Registers.from_names(values | {"HCR_EL2": 1 << 34}), UPPER, el=1)
    assert isinstance(guest, Regime)
    assert (guest.name, guest.table_pa, guest.iasize_bits) == (TranslationRegime.EL10, 0x41EE_9000, 52)
    assert _regime(values | {"HCR_EL2": 0}).name is TranslationRegime.EL10
    hypervisor = derive(Registers.from_names(values | {"HCR_EL2": 1 << 34}), UPPER, el=2)
    assert isinstance(hypervisor, Regime)
    assert hypervisor.name is TranslationRegime.EL20
    # There is no EL1 under a host: its stage 1 is off (TGE).
    assert derive(Registers.from_names(values), UPPER, el=1) == StageOff(
        name=TranslationRegime.EL10, pa_bits=52
    )


@pytest.mark.parametrize(("sctlr", "hcr"), [(0, 0), (1, 1 << 12), (1, 1 << 27)])
def test_stage_1_off(sctlr: int, hcr: int) -> None:
    """Without SCTLR.M, or with HCR_EL2.DC or TGE over EL1, there is no stage 1 translation."""
    registers = replace(registers_for(granule_log2=12, txsz=16), hcr_el2=hcr)
    registers = replace(registers, el1=replace(registers.el1, sctlr=sctlr))
    assert derive_both(registers) == StageOff(name=TranslationRegime.EL10, pa_bits=48)


@pytest.mark.parametrize(
    ("tcr_tg", "mmfr0", "granules", "notes"),
    [
        # (TG0, TG1): both reserved; and 16K asked of a CPU that has 4K and 64K only.
        ((3, 0), 0x0010_0005, (12, 12), 1),
        ((2, 1), 0x0000_0005, (12, 12), 1),
        ((0, 2), 0xF010_0005, (14, 14), 1),
        ((0, 2), 0xF000_0005, (16, 16), 1),
        ((1, 3), 0x0010_0005, (16, 16), 0),
    ],
)
def test_granule_that_cannot_be(
    tcr_tg: tuple[int, int], mmfr0: int, granules: tuple[int, int], notes: int
) -> None:
    """A reserved or unimplemented granule is taken as the smallest implemented one, and that is said."""
    registers = registers_for(granule_log2=12, txsz=25)
    tcr = (registers.el1.tcr or 0) & ~(3 << 14 | 3 << 30) | tcr_tg[0] << 14 | tcr_tg[1] << 30
    registers = replace(registers, el1=replace(registers.el1, tcr=tcr), id_aa64mmfr0_el1=mmfr0)
    both = derive_both(registers)
    assert isinstance(both, Regimes)
    for regime, granule in zip((both.lower, both.upper), granules, strict=True):
        assert isinstance(regime, Regime)
        assert regime.geometry.granule_log2 == granule
        assert len([note for note in regime.notes if note.startswith("TG")]) == notes


@pytest.mark.parametrize(
    ("hafdbs", "wanted"), [(0, (False, False)), (1, (True, False)), (2, (True, True)), (3, (True, True))]
)
def test_hardware_management_needs_the_feature(
    make_regime: MakeRegime, hafdbs: int, wanted: tuple[bool, bool]
) -> None:
    """TCR.HA and HD have effect as far as ID_AA64MMFR1_EL1.HAFDBS goes, and only when set."""
    regime = make_regime(hafdbs=hafdbs, tcr=3 << 39)
    assert (regime.ha, regime.hd) == wanted
    assert (make_regime(hafdbs=hafdbs).ha, make_regime(hafdbs=hafdbs).hd) == (False, False)


@pytest.mark.parametrize(
    ("name", "lower_bit", "upper_bit"),
    [
        ("epd", 7, 23), ("tbi", 37, 38), ("hpd", 41, 42), ("tbid", 51, 52), ("nfd", 53, 54),
        ("e0pd", 55, 56), ("mtx", 60, 61),
    ],
)  # fmt: skip
def test_each_range_has_its_own_flags(
    make_regime: MakeRegime, name: str, lower_bit: int, upper_bit: int
) -> None:
    """A flag of TCR is in force in its range, and in no other."""
    for bit, wanted in ((lower_bit, (True, False)), (upper_bit, (False, True)), (22, (False, False))):
        found = (
            getattr(make_regime(LOWER, tcr=1 << bit), name),
            getattr(make_regime(UPPER, tcr=1 << bit), name),
        )
        assert found == wanted


def test_e0pd_and_hpd_need_their_features() -> None:
    """A CPU that does not announce FEAT_E0PD and FEAT_HPDS has neither, whatever TCR says."""
    values = A57 | {"TCR_EL1": 0x0050_0074_B550_3510 | 1 << 41 | 1 << 55, "TTBR0_EL1": 0, "TTBR1_EL1": 0}
    regime = _regime(values, LOWER)
    assert (regime.e0pd, regime.hpd) == (False, False)
    with_both = _regime(values | {"ID_AA64MMFR1_EL1": 1 << 12, "ID_AA64MMFR2_EL1": 1 << 60}, LOWER)
    assert (with_both.e0pd, with_both.hpd) == (True, True)


def test_registers_of_indices_are_taken_over() -> None:
    """MAIR, MAIR2, PIR, PIRE0 and both PORs reach the regime, each as itself; so does PnCH."""
    raw = {"MAIR_EL1": 1, "MAIR2_EL1": 2, "PIR_EL1": 3, "PIRE0_EL1": 4, "POR_EL1": 5, "POR_EL0": 6}
    more = {"TCR_EL1": 0x0950_01F6_B54C_350C, "TTBR0_EL1": 0, "TTBR1_EL1": 0, "TCR2_EL1": 1}
    regime = _regime(MAX | raw | more | {"ID_AA64MMFR3_EL1": 1})
    taken = (regime.mair, regime.mair2, regime.pir, regime.pire0, regime.por, regime.por_el0)
    assert taken == (1, 2, 3, 4, 5, 6)
    assert regime.pnch


def test_overlays_and_attribute_index_need_their_features() -> None:
    """TCR2's POE, E0POE and AIE have effect where ID_AA64MMFR3_EL1 announces each."""
    values = MAX | {"TCR_EL1": 0x0950_01F6_B54C_350C, "TTBR0_EL1": 0, "TTBR1_EL1": 0, "TCR2_EL1": 0b11100}
    none = _regime(values | {"ID_AA64MMFR3_EL1": 1})
    assert (none.poe, none.e0poe, none.aie) == (False, False, False)
    overlays = _regime(values | {"ID_AA64MMFR3_EL1": 1 << 16 | 1})
    assert (overlays.poe, overlays.e0poe, overlays.aie) == (True, True, False)
    assert _regime(values | {"ID_AA64MMFR3_EL1": 1 << 24 | 1}).aie is True


def test_indirect_permissions_disable_the_hierarchy() -> None:
    """TCR2.PIE forces HPD and EPAN, and means nothing without the feature or TCR2."""
    values = MAX | {"TCR_EL1": 0x0950_01F6_B54C_350C, "TTBR0_EL1": 0, "TTBR1_EL1": 0, "TCR2_EL1": 2}
    assert _regime(values).pie is False
    assert _regime(values | {"ID_AA64MMFR3_EL1": 1 << 8}).pie is False
    assert _regime(values | {"ID_AA64MMFR3_EL1": 1}).pie is False
    indirect = _regime(values | {"ID_AA64MMFR3_EL1": 1 << 8 | 1, "PIR_EL1": 0xCC88})
    assert (indirect.pie, indirect.hpd, indirect.epan, indirect.pir) == (True, True, True, 0xCC88)


def test_absent_registers_are_noted() -> None:
    """ID registers and SCTLR that are not known count as features that are not there, and are named."""
    values = {"TCR_EL1": 0x1_8010_0010, "TTBR0_EL1": 0, "MAIR_EL1": 0xFF, "ID_AA64MMFR0_EL1": 0x1020_0006}
    registers = Registers.from_names(values)
    regime = derive(registers, LOWER)
    assert isinstance(regime, Regime)
    assert [note.split()[0] for note in regime.notes] == [
        "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1", "ID_AA64MMFR3_EL1", "SCTLR",
    ]  # fmt: skip
    assert (regime.ha, regime.epan, regime.big_endian) == (False, False, False)
    indirect = values | {"ID_AA64MMFR3_EL1": 0x0101_0101, "TCR2_EL1": 0b11110, "PIR_EL1": 1, "SCTLR_EL1": 1}
    regime = derive(Registers.from_names(indirect), LOWER)
    assert isinstance(regime, Regime)
    assert [note.split()[0] for note in regime.notes][2:] == ["PIRE0", "MAIR2", "POR", "POR_EL0"]


@pytest.mark.parametrize("name", ["TCR_EL1", "TTBR1_EL1", "MAIR_EL1", "ID_AA64MMFR0_EL1"])
def test_registers_that_cannot_be_missed(name: str) -> None:
    """Without one of four registers there is a clear error that names it."""
    values = MAX | {"TCR_EL1": 0x0950_01F6_B54C_350C, "TTBR0_EL1": 0, "TTBR1_EL1": 0}
    del values[name]
    with pytest.raises(ValueError, match=name):
        derive(Registers.from_names(values), UPPER)


@pytest.mark.parametrize(
    ("values", "el", "match"),
    [
        ({"ID_AA64MMFR0_EL1": 0x1020_0009}, None, "reserved"),
        ({"ID_AA64MMFR0_EL1": 0xFF00_0005}, None, "no translation granule"),
        ({}, 3, "EL3"),
    ],
)
def test_what_is_not_modelled_is_an_error(values: dict[str, int], el: int | None, match: str) -> None:
    """Reserved ID registers and regimes outside the model raise, and say why."""
    base = MAX | {"TCR_EL1": 0x0950_01F6_B54C_350C, "TTBR0_EL1": 0, "TTBR1_EL1": 0}
    with pytest.raises(ValueError, match=match):
        derive(Registers.from_names(base | values), UPPER, el=el)


@pytest.mark.parametrize(
    ("va", "settings", "outside"),
    [
        (0x0000_FFFF_FFFF_FFFF, {}, False),
        (0x0001_0000_0000_0000, {}, True),
        (0xAB00_0000_0000_0000, {}, True),
        (0xAB00_0000_0000_0000, {"tcr": 1 << 37}, False),
        (0xAB01_0000_0000_0000, {"tcr": 1 << 37}, True),
        # MTX: bits 59:56 are a tag, 63:60 are not.
        (0x0B00_0000_0000_0000, {"tcr": 1 << 60}, False),
        (0x1B00_0000_0000_0000, {"tcr": 1 << 60}, True),
    ],
)
def test_addresses_outside_the_range(
    make_regime: MakeRegime, va: int, settings: dict[str, int], outside: bool
) -> None:
    """The bits above the range must all be like bit 55, but for the tag that TBI or MTX take out."""
    assert make_regime(**settings).va_out_of_range(va) is outside
    upper = {"tcr": settings.get("tcr", 0) << 1}
    assert make_regime(UPPER, **upper).va_out_of_range(va ^ (1 << 64) - 1) is outside


def test_tag_of_instruction_addresses(make_regime: MakeRegime) -> None:
    """With TBID the top byte of an instruction's address counts."""
    tagged = make_regime(tcr=1 << 37 | 1 << 51)
    assert tagged.va_out_of_range(0x5500 << 48, ifetch=True)
    assert not tagged.va_out_of_range(0x5500 << 48)
