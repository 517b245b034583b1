"""Stage 2: from raw registers to what rules the translation of intermediate physical addresses.

A `Stage2Regime` holds effective values, as a Regime does for stage 1, and is walked and enumerated alike
(ASL AArch64_NSS2TTWParams, AArch64_S2TxSZFaults, AArch64_S2InvalidSL, AArch64_S2InconsistentSL,
AArch64_S2StartLevel, AArch64_S2TTBaseAddress). On its own: what both stages make of an address together is
not modelled, nor overlays (FEAT_S2POE), FEAT_THE, FEAT_MTE_PERM, and the Secure and Realm states.
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from harness.vmsa.address import AddressFormat
from harness.vmsa.fault import Fault, FaultKind
from harness.vmsa.geometry import FINAL_LEVEL, Geometry
from harness.vmsa.regime import StageOff, TranslationRegime
from harness.vmsa.registers import Hcr, Mmfr0, Mmfr1, Mmfr2, Mmfr3, Registers, Sctlr
from harness.vmsa.registers_el2 import Vtcr, Vttbr
from harness.vmsa.sizes import (
    TG0,
    chosen_granule_log2,
    max_txsz,
    need,
    oasize_bits,
    pa_bits_of,
    table_pa_of,
    ttbr_is_wide,
)
from harness.vmsa.stage import Stage

__all__ = ["IPA_BITS", "Stage2Regime", "derive_stage2"]

IPA_BITS: Final = 56
"""Width of an intermediate physical address (ASL FullAddress)."""

# The level of the first table by VTCR.SL2:SL0; what is not here is reserved (ASL AArch64_S2StartLevel).
_START_LEVELS: Final = {
    12: {0b000: 2, 0b001: 1, 0b010: 0, 0b011: 3, 0b100: -1},
    14: {0b000: 3, 0b001: 2, 0b010: 1, 0b011: 0},
    16: {0b000: 3, 0b001: 2, 0b010: 1},
}
# Start levels that need a physical address size, by granule (ASL AArch64_S2InvalidSL).
_LEAST_PA_BITS: Final = {(12, 0): 44, (14, 1): 42, (16, 1): 44}
_CONCATENATED_LOG2: Final = 4
"""log2 of the tables that can be concatenated to a first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage2Regime(Stage):
    """Effective values of stage 2 of the EL1&0 regime."""

    number: ClassVar[int] = 2

    vmid: int
    fwb: bool
    """HCR_EL2.FWB: MemAttr overrides stage 1 instead of restricting it."""
    xnx: bool
    """FEAT_XNX: XN has two bits, and EL0 and EL1 their own."""
    s2pie: bool
    s2pir: int


def derive_stage2(registers: Registers) -> Stage2Regime | StageOff | Fault:
    """The effective values of stage 2, or its being off, or the fault that every address meets.

    Choices that the architecture leaves open are those of `harness.vmsa.derive`. Raises ValueError when a
    register that cannot be done without is absent, when ID_AA64MMFR0_EL1 is reserved, and for overlays.
    """
    mmfr0 = Mmfr0(need(registers.id_aa64mmfr0_el1, "ID_AA64MMFR0_EL1"))
    hcr = Hcr(need(registers.hcr_el2, "HCR_EL2"))
    pa_bits = pa_bits_of(mmfr0)
    if not (hcr.vm or hcr.dc):
        return StageOff(name=TranslationRegime.EL10, pa_bits=pa_bits, stage=2)
    vtcr, vttbr = Vtcr(need(registers.vtcr_el2, "VTCR_EL2")), need(registers.vttbr_el2, "VTTBR_EL2")
    mmfr1, mmfr2 = Mmfr1(registers.id_aa64mmfr1_el1 or 0), Mmfr2(registers.id_aa64mmfr2_el1 or 0)
    mmfr3 = Mmfr3(registers.id_aa64mmfr3_el1 or 0)
    notes = _absences(registers)
    d128 = bool(mmfr3.d128_2) and vtcr.d128
    granule = chosen_granule_log2(vtcr.tg0, TG0, _granules(mmfr0), "VTCR.TG0", notes)
    geometry = Geometry(granule_log2=granule, desc_log2=4 if d128 else 3)
    has_lpa2 = granule != 16 and _has_lpa2(granule, mmfr0)
    ds = has_lpa2 and vtcr.ds
    s2pie = d128 or (bool(mmfr3.s2pie) and vtcr.s2pie)
    if s2pie and mmfr3.s2poe and vtcr.s2poe:
        raise ValueError("VTCR.S2POE is set: overlays of stage 2 are not modelled")
    if s2pie and registers.s2pir_el2 is None:
        notes.append("S2PIR is not known: taken as 0")
    iasize_bits = 64 - vtcr.t0sz
    address_format = _address_format(geometry, pa_bits, ds=ds)
    skl = _txsz_fault(vtcr.t0sz, geometry, pa_bits, mmfr2, ds=ds)
    if skl is None:
        skl = _skl(vttbr, geometry, iasize_bits) if d128 else _skipped(vtcr, geometry, pa_bits, mmfr2, ds=ds)
    if isinstance(skl, str):
        return Fault(kind=FaultKind.TRANSLATION, level=0, stage=2, reason=skl)
    wide = ttbr_is_wide(vtcr.ps, address_format)
    table_log2 = (
        iasize_bits - geometry.size_log2(geometry.start_level(iasize_bits) + skl) + geometry.desc_log2
    )
    vmid = Vttbr(vttbr).vmid
    return Stage2Regime(
        geometry=geometry,
        address_format=address_format,
        iasize_bits=iasize_bits,
        oasize_bits=oasize_bits(vtcr.ps, pa_bits, address_format, has_lpa2=has_lpa2),
        table_pa=table_pa_of(vttbr, 1 << table_log2, address_format, wide=wide),
        ttbr_is_wide=wide,
        skl=skl,
        sh=vtcr.sh0,
        ha=mmfr1.hafdbs >= 1 and vtcr.ha,
        hd=mmfr1.hafdbs >= 2 and vtcr.hd,
        big_endian=Sctlr(registers.el2.sctlr or 0).ee,
        vmid=vmid if mmfr1.vmidbits == 2 and vtcr.vs else vmid & 0xFF,
        fwb=bool(mmfr2.fwb) and hcr.fwb,
        xnx=bool(mmfr1.xnx),
        s2pie=s2pie,
        s2pir=registers.s2pir_el2 or 0,
        notes=tuple(notes),
    )


def _absences(registers: Registers) -> list[str]:
    said = [
        f"ID_AA64MMFR{number}_EL1 is not known: its features are taken as absent"
        for number in (1, 2, 3)
        if getattr(registers, f"id_aa64mmfr{number}_el1") is None
    ]
    if registers.el2.sctlr is None:
        said.append("SCTLR_EL2 is not known: tables are taken as little-endian")
    return said


def _granules(mmfr0: Mmfr0) -> list[int]:
    """log2 of the granules that there are: of stage 2, or 0 for those of stage 1 (ASL AArch64_HaveS2TG)."""
    there = (
        (12, mmfr0.tgran4_2, mmfr0.tgran4 < 8),
        (14, mmfr0.tgran16_2, mmfr0.tgran16 != 0),
        (16, mmfr0.tgran64_2, mmfr0.tgran64 < 8),
    )
    return [
        log2 for log2, of_stage_2, of_stage_1 in there if of_stage_2 >= 2 or (not of_stage_2 and of_stage_1)
    ]


def _has_lpa2(granule_log2: int, mmfr0: Mmfr0) -> bool:
    """FEAT_LPA2 at stage 2 for a granule of 4K or 16K."""
    if granule_log2 == 12:
        return mmfr0.tgran4_2 == 3 or (not mmfr0.tgran4_2 and mmfr0.tgran4 in range(1, 8))
    return mmfr0.tgran16_2 == 3 or (not mmfr0.tgran16_2 and mmfr0.tgran16 >= 2)


def _address_format(geometry: Geometry, pa_bits: int, *, ds: bool) -> AddressFormat:
    if geometry.desc_log2 == 4:
        return AddressFormat.D128
    if geometry.granule_log2 == 16:
        return AddressFormat.LPA if pa_bits >= 52 else AddressFormat.PA48
    return AddressFormat.LPA2 if ds else AddressFormat.PA48


def _txsz_fault(txsz: int, geometry: Geometry, pa_bits: int, mmfr2: Mmfr2, *, ds: bool) -> int | str | None:
    """Why a T0SZ faults, or None: input is no wider than the CPU's output (ASL AArch64_S2MinTxSZ)."""
    most_bits = 56 if geometry.desc_log2 == 4 else 52 if geometry.granule_log2 == 16 or ds else 48
    least, most = 64 - min(pa_bits, most_bits), max_txsz(geometry.granule_log2, mmfr2)
    return None if least <= txsz <= most else f"VTCR.T0SZ is {txsz}, which is not within {least} to {most}"


def _skl(vttbr: int, geometry: Geometry, iasize_bits: int) -> int | str:
    """VTTBR.SKL, of 128-bit descriptors, or why it faults: the pseudocode leaves that undefined."""
    skl = Vttbr(vttbr).skl
    level = geometry.start_level(iasize_bits) + skl
    return skl if level <= FINAL_LEVEL else f"VTTBR.SKL is {skl}, which makes the first level {level}"


def _skipped(vtcr: Vtcr, geometry: Geometry, pa_bits: int, mmfr2: Mmfr2, *, ds: bool) -> int | str:
    """1 where the first tables are concatenated, else 0; or why SL0 and SL2 fault."""
    granule = geometry.granule_log2
    encoded = vtcr.sl0 | (vtcr.sl2 and ds and granule == 12) << 2
    level = _START_LEVELS[granule].get(encoded)
    said = f"VTCR.SL2:SL0 is {encoded:03b}"
    if level is None:
        return f"{said}, which is reserved"
    if (granule, level) == (14, 0) and not ds:
        return f"{said}: level 0 is for DS=1"
    if (granule, level) == (12, 3) and not mmfr2.st:
        return f"{said}: level 3 is for FEAT_TTST"
    if pa_bits < _LEAST_PA_BITS.get((granule, level), 0):
        return f"{said}: there is no level {level} with {pa_bits} bits of physical address"
    bits = 64 - vtcr.t0sz - geometry.size_log2(level)
    if not 1 <= bits <= geometry.stride_bits + _CONCATENATED_LOG2:
        return f"{said}: a first table of level {level} cannot resolve {bits} bits"
    return level - geometry.start_level(64 - vtcr.t0sz)
