"""Stage 2 from registers: where a walk starts, how far addresses go, and what makes every address fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.vmsa import (
    AddressFormat,
    Fault,
    FaultKind,
    Stage2Regime,
    StageOff,
    derive_stage2,
    stage2_registers_for,
)
from harness.vmsa.registers import Registers


def _derived(registers: Registers) -> Stage2Regime:
    regime = derive_stage2(registers)
    assert isinstance(regime, Stage2Regime)
    return regime


# Granule, SL2:SL0, T0SZ: start level and tables that are concatenated. The sizes at which tables are
# concatenated: Arm ARM DDI 0487, D8.2, "Concatenated translation tables".
STARTS = [
    (12, 0b010, 16, 0, 1),
    (12, 0b001, 24, 1, 2),
    (12, 0b001, 25, 1, 1),
    (12, 0b001, 21, 1, 16),
    (12, 0b000, 30, 2, 16),
    (12, 0b000, 33, 2, 2),
    (12, 0b000, 34, 2, 1),
    (12, 0b011, 43, 3, 1),
    (12, 0b011, 39, 3, 16),
    (14, 0b10, 16, 1, 2),
    (14, 0b10, 17, 1, 1),
    (14, 0b01, 24, 2, 16),
    (14, 0b00, 39, 3, 1),
    (16, 0b10, 16, 1, 1),
    (16, 0b01, 22, 2, 1),
    (16, 0b01, 18, 2, 16),
    (16, 0b00, 35, 3, 1),
]


@pytest.mark.parametrize(("granule", "encoded", "txsz", "level", "tables"), STARTS)
def test_start_levels(granule: int, encoded: int, txsz: int, level: int, tables: int) -> None:
    """SL0 says the level; what the first tables resolve beyond one full table concatenates up to 16."""
    regime = _derived(stage2_registers_for(granule_log2=granule, txsz=txsz, sl0=encoded, ttst=True))
    assert regime.start_level == level
    stride = granule - 3
    assert 1 << max(regime.start_bits - stride, 0) == tables
    assert regime.skl == (tables > 1)
    assert regime.start_table_bytes == 8 << 64 - txsz - granule - stride * (3 - level)


def test_level_minus_1_and_52_bits() -> None:
    """SL2 with DS starts a 4K walk at -1, 16K with DS at 0, and both have 52 bits."""
    four = _derived(
        stage2_registers_for(granule_log2=12, txsz=12, sl0=0, sl2=True, ds=True, pa_bits=52, ps_bits=52)
    )
    assert (four.start_level, four.oasize_bits, four.address_format) == (-1, 52, AddressFormat.LPA2)
    sixteen = _derived(stage2_registers_for(granule_log2=14, txsz=12, sl0=3, ds=True, pa_bits=52, ps_bits=52))
    assert (sixteen.start_level, sixteen.start_bits) == (0, 5)


FAULTS = [
    # Reserved, and levels that need what is not there.
    ({"granule_log2": 12, "sl0": 3, "txsz": 39}, "FEAT_TTST"),
    ({"granule_log2": 14, "sl0": 3, "txsz": 16}, "DS=1"),
    ({"granule_log2": 16, "sl0": 3, "txsz": 16}, "reserved"),
    ({"granule_log2": 12, "sl0": 1, "sl2": True, "ds": True, "txsz": 16}, "reserved"),
    ({"granule_log2": 12, "sl0": 2, "txsz": 24, "pa_bits": 42}, "no level 0 with 42 bits"),
    ({"granule_log2": 14, "sl0": 2, "txsz": 24, "pa_bits": 40}, "no level 1 with 40 bits"),
    ({"granule_log2": 16, "sl0": 2, "txsz": 24, "pa_bits": 42}, "no level 1 with 42 bits"),
    # The level and the size do not go together.
    ({"granule_log2": 12, "sl0": 1, "txsz": 20}, "cannot resolve 14 bits"),
    ({"granule_log2": 12, "sl0": 1, "txsz": 34}, "cannot resolve 0 bits"),
    # The size itself.
    ({"granule_log2": 12, "sl0": 2, "txsz": 15}, "within 16 to 39"),
    ({"granule_log2": 12, "sl0": 1, "txsz": 23, "pa_bits": 40}, "within 24 to 39"),
    ({"granule_log2": 12, "sl0": 2, "txsz": 15, "pa_bits": 52}, "within 16 to 39"),
    ({"granule_log2": 12, "sl0": 0, "txsz": 40}, "within 16 to 39"),
    ({"granule_log2": 16, "sl0": 2, "txsz": 11, "pa_bits": 52}, "within 12 to 39"),
    ({"granule_log2": 16, "sl0": 0, "txsz": 48, "ttst": True}, "within 16 to 47"),
]


@pytest.mark.parametrize(("shape", "match"), FAULTS)
def test_sizes_and_levels_that_fault(shape: dict[str, int], match: str) -> None:
    """S2TxSZFaults, S2InvalidSL and S2InconsistentSL are Translation faults of level 0, at stage 2."""
    outcome = derive_stage2(stage2_registers_for(**shape))  # type: ignore[arg-type]
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.level, outcome.stage) == (FaultKind.TRANSLATION, 0, 2)
    assert match in outcome.reason
    assert outcome.par_el1 == 1 | 0b000100 << 1 | 1 << 9


def test_sl2_is_nothing_without_ds() -> None:
    """VTCR.SL2 counts for 4K with DS only."""
    regime = _derived(stage2_registers_for(granule_log2=12, txsz=24, sl0=1, sl2=True))
    assert regime.start_level == 1
    regime = _derived(stage2_registers_for(granule_log2=14, txsz=24, sl0=1, sl2=True, ds=True, pa_bits=52))
    assert regime.start_level == 2


@pytest.mark.parametrize(
    ("vs", "vmidbits", "vmid"), [(True, 2, 0xABCD), (False, 2, 0xCD), (True, 0, 0xCD), (False, 0, 0xCD)]
)
def test_vmids(vs: bool, vmidbits: int, vmid: int) -> None:
    """A VMID has 16 bits where VS and FEAT_VMID16 say so."""
    made = stage2_registers_for(granule_log2=12, txsz=24, sl0=1, vtcr=vs << 19, vttbr=0xABCD << 48)
    assert _derived(replace(made, id_aa64mmfr1_el1=vmidbits << 4)).vmid == vmid


@pytest.mark.parametrize(
    ("shape", "vttbr", "table_pa"),
    [
        # 40 bits with 4K: two tables, 8K.
        ({"granule_log2": 12, "txsz": 24, "sl0": 1}, 0x1_2345_7FFF, 0x1_2345_6000),
        # 52-bit forms: 51:48 are in 5:2, for 64K with PS of 52 bits and with DS.
        (
            {"granule_log2": 16, "txsz": 12, "sl0": 2, "pa_bits": 52, "ps_bits": 52},
            0x1_2345_6000 | 0xA << 2,
            0xA_0001_2345_6000,
        ),
        ({"granule_log2": 16, "txsz": 16, "sl0": 2, "pa_bits": 52}, 0x1_2345_6200 | 0xA << 2, 0x1_2345_6200),
    ],
)
def test_base_addresses(shape: dict[str, int], vttbr: int, table_pa: int) -> None:
    """The base is aligned down to all the tables that are concatenated."""
    assert _derived(stage2_registers_for(vttbr=vttbr, **shape)).table_pa == table_pa  # type: ignore[arg-type]


def test_what_features_bound() -> None:
    """HA, HD, FWB and XNX have no effect without their ID fields; EE is SCTLR_EL2's."""
    made = stage2_registers_for(granule_log2=12, txsz=24, sl0=1, vtcr=0b11 << 21, hcr=1 << 46)
    regime = _derived(made)
    assert (regime.ha, regime.hd, regime.fwb, regime.xnx, regime.big_endian) == (
        True,
        True,
        True,
        True,
        False,
    )
    bare = replace(made, id_aa64mmfr1_el1=0, id_aa64mmfr2_el1=0, el2=replace(made.el2, sctlr=1 << 25))
    regime = _derived(bare)
    assert (regime.ha, regime.hd, regime.fwb, regime.xnx, regime.big_endian) == (
        False,
        False,
        False,
        False,
        True,
    )


@pytest.mark.parametrize(("shift", "granule", "tg0"), [(40, 12, 0b00), (32, 14, 0b10), (36, 16, 0b01)])
def test_granules_of_stage_2(shift: int, granule: int, tg0: int) -> None:
    """A granule may be absent at stage 2 alone: the smallest that is there is taken, and that is said."""
    made = stage2_registers_for(granule_log2=granule, txsz=34, sl0=0 if granule == 12 else 1)
    assert made.vtcr_el2 is not None
    assert made.vtcr_el2 >> 14 & 3 == tg0
    assert _derived(made).geometry.granule_log2 == granule
    without = derive_stage2(replace(made, id_aa64mmfr0_el1=(made.id_aa64mmfr0_el1 or 0) | 1 << shift))
    assert not isinstance(without, Stage2Regime) or without.geometry.granule_log2 != granule
    if isinstance(without, Stage2Regime):
        assert any("VTCR.TG0" in note for note in without.notes)


@pytest.mark.parametrize(("hcr", "on"), [(0, False), (1, True), (1 << 12, True)])
def test_on_and_off(hcr: int, on: bool) -> None:
    """Stage 2 is on by HCR_EL2.VM, and by DC."""
    made = stage2_registers_for(granule_log2=12, txsz=24, sl0=1)
    outcome = derive_stage2(replace(made, hcr_el2=hcr))
    assert isinstance(outcome, Stage2Regime if on else StageOff)
    if isinstance(outcome, StageOff):
        assert outcome.stage == 2


def test_128_bits_at_stage_2() -> None:
    """VTCR.D128 forces indirect permissions, takes SKL from VTTBR, and has 56 bits of either address."""
    made = stage2_registers_for(granule_log2=12, txsz=8, sl0=3, d128=True, pa_bits=56, ps_bits=56)
    regime = _derived(made)
    assert (regime.start_level, regime.oasize_bits, regime.s2pie) == (-2, 56, True)
    assert regime.address_format is AddressFormat.D128
    skipped = _derived(replace(made, vttbr_el2=2 << 1 | 0xAB << 80))
    assert (skipped.start_level, skipped.table_pa) == (0, 0xAB << 48)
    beyond = derive_stage2(
        replace(stage2_registers_for(granule_log2=12, txsz=36, sl0=0, d128=True), vttbr_el2=3 << 1)
    )
    assert isinstance(beyond, Fault)
    assert "VTTBR.SKL is 3" in beyond.reason
    # Without the feature the bit is nothing.
    plain = _derived(replace(made, id_aa64mmfr3_el1=0, vtcr_el2=1 << 38 | 24 | 1 << 6 | 5 << 16))
    assert plain.address_format is not AddressFormat.D128


@pytest.mark.parametrize("name", ["hcr_el2", "vtcr_el2", "vttbr_el2", "id_aa64mmfr0_el1"])
def test_registers_that_cannot_be_missed(name: str) -> None:
    """Without one of four registers there is a clear error that names it."""
    made = stage2_registers_for(granule_log2=12, txsz=24, sl0=1)
    with pytest.raises(ValueError, match=name.upper()):
        derive_stage2(replace(made, **{name: None}))  # type: ignore[arg-type]


def test_what_is_not_modelled() -> None:
    """Overlays of stage 2 are an error; registers that are only unknown are notes."""
    made = stage2_registers_for(granule_log2=12, txsz=24, sl0=1, vtcr=0b11 << 36)
    with pytest.raises(ValueError, match="S2POE"):
        derive_stage2(replace(made, id_aa64mmfr3_el1=1 << 12 | 1 << 20))
    assert not _derived(made).s2pie
    bare = replace(made, s2pir_el2=None, id_aa64mmfr3_el1=1 << 12, el2=replace(made.el2, sctlr=None))
    assert [note.split()[0] for note in _derived(bare).notes] == ["SCTLR_EL2", "S2PIR"]
