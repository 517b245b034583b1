"""From raw registers to what they mean for one range of addresses: the only place that derives it.

A `Regime` holds effective values only: a bit of a feature that the ID registers do not announce has no
effect there (ASL AArch64_S1TTWParamsEL10, AArch64_S1TTWParamsEL20, AArch64_S1TxSZFaults,
AArch64_PhysicalAddressSize, AArch64_S1TTBaseAddress). What `Registers` cannot tell is assumed, and said:
FEAT_PAuth, FEAT_SVE, FEAT_MTE4 and FEAT_THE where TBID, NFD, MTX and PnCH are set, TCR2 enabled by EL2 and
EL3 where it exists, HCR_EL2.NV1 clear, the Non-secure state. May import the standard library only.
"""

from __future__ import annotations

from typing import Final

from harness.vmsa.descriptor import AddressFormat
from harness.vmsa.fault import Fault, FaultKind
from harness.vmsa.field import bits, ones
from harness.vmsa.geometry import Geometry
from harness.vmsa.regime import Regime, Regimes, StageOff, TranslationRegime, VaRange
from harness.vmsa.registers import Bank, Hcr, Mmfr0, Mmfr1, Mmfr2, Mmfr3, Registers, Sctlr, Tcr, Tcr2, Ttbr

__all__ = ["PA_SIZES_BITS", "derive", "derive_both"]

PA_SIZES_BITS: Final = (32, 36, 40, 42, 44, 48, 52, 56)
"""Physical address sizes by their encoding in TCR.IPS and ID_AA64MMFR0_EL1.PARange."""


def derive_both(registers: Registers, *, el: int | None = None) -> Regimes | StageOff:
    """Both ranges of the regime that an exception level uses; arguments and errors as for `derive`."""
    lower, upper = (derive(registers, one, el=el) for one in VaRange)
    if isinstance(lower, StageOff):
        return lower
    if isinstance(upper, StageOff):
        return upper
    return Regimes(lower=lower, upper=upper)


def derive(registers: Registers, va_range: VaRange, *, el: int | None = None) -> Regime | StageOff | Fault:
    """The effective values for one range: a Regime, stage 1 being off, or the fault that every address meets.

    `el` is the exception level that translates, 0 to 2; None for the kernel's, whichever it runs at (a
    host with HCR_EL2.{E2H,TGE} set runs at EL2, and its EL1 registers are stale). Choices that the
    architecture leaves open: a reserved or unimplemented granule is taken as the smallest implemented one,
    and a TxSZ out of bounds faults. Raises ValueError when a register that cannot be done without is
    absent, when ID_AA64MMFR0_EL1 is reserved, and for what is not modelled: 128-bit descriptors, EL2 with
    one range, EL3.
    """
    name = _translation_regime(registers, el)
    bank = registers.el1 if name is TranslationRegime.EL10 else registers.el2
    mmfr0 = Mmfr0(_need(registers.id_aa64mmfr0_el1, "ID_AA64MMFR0_EL1"))
    mmfr1 = Mmfr1(registers.id_aa64mmfr1_el1 or 0)
    mmfr2 = Mmfr2(registers.id_aa64mmfr2_el1 or 0)
    mmfr3 = Mmfr3(registers.id_aa64mmfr3_el1 or 0)
    pa_bits = _pa_bits(mmfr0)
    tcr2 = Tcr2((bank.tcr2 or 0) if mmfr3.tcrx else 0)
    notes = _absences(registers, bank, mmfr3, tcr2)
    # Whoever has no SCTLR and asks has tables to walk: a core file, say.
    sctlr = Sctlr(bank.sctlr if bank.sctlr is not None else Sctlr.m.mask | Sctlr.c.mask | Sctlr.i.mask)
    hcr = Hcr(registers.hcr_el2 or 0)
    if not sctlr.m or (name is TranslationRegime.EL10 and (hcr.dc or hcr.tge)):
        return StageOff(name=name, pa_bits=pa_bits)

    suffix = "el1" if name is TranslationRegime.EL10 else "el2"
    lower = va_range is VaRange.LOWER
    tcr = Tcr(_need(bank.tcr, f"TCR_{suffix}"))
    if tcr2.d128 and mmfr3.d128:
        raise ValueError("TCR2.D128 is set: 128-bit descriptors are not modelled yet")
    ttbr_word = _need(bank.ttbr0 if lower else bank.ttbr1, f"TTBR{va_range.value}_{suffix}")
    geometry = Geometry(granule_log2=_granule_log2(tcr, mmfr0, va_range, notes))
    address_format = _address_format(geometry, tcr, mmfr0, pa_bits)
    txsz = tcr.t0sz if lower else tcr.t1sz
    out_of_bounds = _txsz_fault(txsz, geometry, address_format, mmfr2)
    if out_of_bounds is not None:
        return Fault(kind=FaultKind.TRANSLATION, level=0, reason=out_of_bounds)
    pie = bool(mmfr3.s1pie) and tcr2.pie
    has_lpa2 = geometry.granule_log2 != 16 and _has_lpa2(geometry, mmfr0)
    ttbr_is_wide = address_format is AddressFormat.LPA2 or (
        address_format is AddressFormat.LPA and tcr.ips == PA_SIZES_BITS.index(52)
    )
    return Regime(
        name=name,
        va_range=va_range,
        geometry=geometry,
        address_format=address_format,
        iasize_bits=64 - txsz,
        oasize_bits=min(PA_SIZES_BITS[tcr.ips], pa_bits, 52 if address_format.is_wide or has_lpa2 else 48),
        table_pa=_table_pa(ttbr_word, geometry.start_table_log2(64 - txsz), wide=ttbr_is_wide),
        ttbr_is_wide=ttbr_is_wide,
        asid=_asid(bank, tcr),
        mair=_need(bank.mair, f"MAIR_{suffix}"),
        mair2=bank.mair2 or 0,
        aie=bool(mmfr3.aie) and tcr2.aie,
        sh=tcr.sh0 if lower else tcr.sh1,
        ha=mmfr1.hafdbs >= 1 and tcr.ha,
        hd=mmfr1.hafdbs >= 2 and tcr.hd,
        hpd=pie or (bool(mmfr1.hpds) and (tcr.hpd0 if lower else tcr.hpd1)),
        wxn=sctlr.wxn,
        has_pan=bool(mmfr1.pan),
        epan=mmfr1.pan >= 3 and (pie or sctlr.epan),
        pie=pie,
        pir=bank.pir or 0,
        pire0=bank.pire0 or 0,
        poe=bool(mmfr3.s1poe) and tcr2.poe,
        e0poe=bool(mmfr3.s1poe) and tcr2.e0poe,
        por=bank.por or 0,
        por_el0=registers.por_el0 or 0,
        pnch=tcr2.pnch,
        epd=tcr.epd0 if lower else tcr.epd1,
        e0pd=bool(mmfr2.e0pd) and (tcr.e0pd0 if lower else tcr.e0pd1),
        nfd=tcr.nfd0 if lower else tcr.nfd1,
        tbi=tcr.tbi0 if lower else tcr.tbi1,
        tbid=tcr.tbid0 if lower else tcr.tbid1,
        mtx=tcr.mtx0 if lower else tcr.mtx1,
        big_endian=sctlr.ee,
        notes=tuple(notes),
    )


def _translation_regime(registers: Registers, el: int | None) -> TranslationRegime:
    """ASL TranslationRegime, for the regimes that have two ranges."""
    hcr = Hcr(registers.hcr_el2 or 0)
    if el == 2 and not hcr.e2h:
        raise ValueError("EL2 with HCR_EL2.E2H=0 has one range of addresses, which is not modelled yet")
    if el not in (None, 0, 1, 2):
        raise ValueError(f"there is no model of translation at EL{el}: give 0, 1 or 2")
    is_host = hcr.e2h and (el == 2 or (el != 1 and hcr.tge))
    return TranslationRegime.EL20 if is_host else TranslationRegime.EL10


def _absences(registers: Registers, bank: Bank, mmfr3: Mmfr3, tcr2: Tcr2) -> list[str]:
    """What is absent that could have mattered, and what is taken instead."""
    said = [
        f"ID_AA64MMFR{number}_EL1 is not known: its features are taken as absent"
        for number in (1, 2, 3)
        if getattr(registers, f"id_aa64mmfr{number}_el1") is None
    ]
    if bank.sctlr is None:
        said.append("SCTLR is not known: the MMU is taken as on, tables as little-endian, WXN and EPAN as 0")
    if bank.tcr2 is None and mmfr3.tcrx:
        said.append("TCR2 is not known: taken as 0")
    used = (
        ("PIR", bank.pir, tcr2.pie),
        ("PIRE0", bank.pire0, tcr2.pie),
        ("MAIR2", bank.mair2, tcr2.aie),
        ("POR", bank.por, tcr2.poe),
        ("POR_EL0", registers.por_el0, tcr2.e0poe),
    )
    return said + [f"{name} is not known: taken as 0" for name, value, on in used if on and value is None]


def _need(value: int | None, name: str) -> int:
    if value is None:
        raise ValueError(f"{name.upper()} is not known, and there is no translating without it")
    return value


def _pa_bits(mmfr0: Mmfr0) -> int:
    if mmfr0.parange >= len(PA_SIZES_BITS):
        raise ValueError(f"ID_AA64MMFR0_EL1 is {mmfr0.word:#x}: its PARange, {mmfr0.parange}, is reserved")
    return PA_SIZES_BITS[mmfr0.parange]


def _granule_log2(tcr: Tcr, mmfr0: Mmfr0, va_range: VaRange, notes: list[str]) -> int:
    """ASL AArch64_S1DecodeTG0, AArch64_S1DecodeTG1."""
    implemented = [
        log2
        for log2, there in (
            (12, mmfr0.tgran4 < 8),
            (14, mmfr0.tgran16 != 0),
            (16, mmfr0.tgran64 < 8),
        )
        if there
    ]
    if not implemented:
        raise ValueError(f"ID_AA64MMFR0_EL1 is {mmfr0.word:#x}, which leaves no translation granule")
    if va_range is VaRange.LOWER:
        encoded, named = tcr.tg0, {0: 12, 1: 16, 2: 14}.get(tcr.tg0)
    else:
        encoded, named = tcr.tg1, {1: 14, 2: 12, 3: 16}.get(tcr.tg1)
    if named in implemented:
        return named
    why = "reserved" if named is None else "a granule that is not implemented"
    notes.append(
        f"TG{va_range.value} is {encoded}, {why}: taken as the smallest implemented, 2^{implemented[0]} bytes"
    )
    return implemented[0]


def _has_lpa2(geometry: Geometry, mmfr0: Mmfr0) -> bool:
    """FEAT_LPA2 for a granule of 4K or 16K; TGran4 is a signed field."""
    return mmfr0.tgran4 in range(1, 8) if geometry.granule_log2 == 12 else mmfr0.tgran16 >= 2


def _address_format(geometry: Geometry, tcr: Tcr, mmfr0: Mmfr0, pa_bits: int) -> AddressFormat:
    """With 64K pages FEAT_LPA alone decides; with others the effective TCR.DS."""
    if geometry.granule_log2 == 16:
        return AddressFormat.LPA if pa_bits >= 52 else AddressFormat.PA48
    return AddressFormat.LPA2 if tcr.ds and _has_lpa2(geometry, mmfr0) else AddressFormat.PA48


def _txsz_fault(txsz: int, geometry: Geometry, address_format: AddressFormat, mmfr2: Mmfr2) -> str | None:
    """Why a TxSZ faults, or None (ASL AArch64_S1MinTxSZ, AArch64_MaxTxSZ, AArch64_S1TxSZFaults)."""
    is_64k = geometry.granule_log2 == 16
    has_52_bit_va = (is_64k and mmfr2.varange >= 1) or address_format is AddressFormat.LPA2
    least = 12 if has_52_bit_va else 16
    most = (47 if is_64k else 48) if mmfr2.st else 39
    if least <= txsz <= most:
        return None
    return f"TxSZ is {txsz}, which is not within {least} to {most}"


def _table_pa(ttbr: int, table_log2: int, *, wide: bool) -> int:
    """ASL AArch64_S1TTBaseAddress: the base is aligned down to the table's size."""
    lo, high = (6, bits(ttbr, 5, 2) << 48) if wide else (1, 0)
    return (bits(ttbr, 47, lo) << lo | high) & ~ones(table_log2)


def _asid(bank: Bank, tcr: Tcr) -> int:
    asid = Ttbr((bank.ttbr1 if tcr.a1 else bank.ttbr0) or 0).asid
    return asid if tcr.as16 else asid & 0xFF
