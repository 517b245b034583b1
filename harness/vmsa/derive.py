"""From raw registers to what they mean for one range of addresses at stage 1: the only place that derives it.

A `Regime` holds effective values only: a bit of a feature that the ID registers do not announce has no
effect there (ASL AArch64_S1TTWParamsEL10, AArch64_S1TTWParamsEL20, AArch64_S1TTWParamsEL2,
AArch64_S1TxSZFaults, AArch64_PhysicalAddressSize, AArch64_S1TTBaseAddress). What `Registers` cannot tell is
assumed, and said: FEAT_PAuth, FEAT_SVE, FEAT_MTE4 and FEAT_THE where TBID, NFD, MTX and PnCH are set, TCR2
enabled by EL2 and EL3 where it exists, HCR_EL2.NV1 clear, the Non-secure state.
May import the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.vmsa.address import AddressFormat
from harness.vmsa.fault import Fault, FaultKind
from harness.vmsa.geometry import FINAL_LEVEL, Geometry
from harness.vmsa.regime import Regime, Regimes, StageOff, TranslationRegime, VaRange
from harness.vmsa.registers import Bank, Hcr, Mmfr0, Mmfr1, Mmfr2, Mmfr3, Registers, Sctlr, Tcr, Tcr2, Ttbr
from harness.vmsa.registers_el2 import TcrEl2
from harness.vmsa.sizes import (
    PA_SIZES_BITS,
    TG0,
    TG1,
    chosen_granule_log2,
    max_txsz,
    need,
    oasize_bits,
    pa_bits_of,
    table_pa_of,
    ttbr_is_wide,
)

__all__ = ["PA_SIZES_BITS", "derive", "derive_both"]


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
    host with HCR_EL2.{E2H,TGE} set runs at EL2, and its EL1 registers are stale). EL2 with E2H clear has the
    lower range alone: the upper is a fault. Choices that the architecture leaves open: a reserved or
    unimplemented granule is taken as the smallest implemented one, a TxSZ out of bounds faults, and so does
    a TTBR.SKL that skips level 3. Raises ValueError when a register that cannot be done without is absent,
    when ID_AA64MMFR0_EL1 is reserved, and for EL3.
    """
    name = _translation_regime(registers, el)
    bank = registers.el1 if name is TranslationRegime.EL10 else registers.el2
    mmfr0 = Mmfr0(need(registers.id_aa64mmfr0_el1, "ID_AA64MMFR0_EL1"))
    mmfr3 = Mmfr3(registers.id_aa64mmfr3_el1 or 0)
    tcr2 = Tcr2((bank.tcr2 or 0) if mmfr3.tcrx else 0)
    notes = _absences(registers, bank, mmfr3, tcr2)
    # Whoever has no SCTLR and asks has tables to walk: a core file, say.
    sctlr = Sctlr(bank.sctlr if bank.sctlr is not None else Sctlr.m.mask | Sctlr.c.mask | Sctlr.i.mask)
    hcr = Hcr(registers.hcr_el2 or 0)
    if not sctlr.m or (name is TranslationRegime.EL10 and (hcr.dc or hcr.tge)):
        return StageOff(name=name, pa_bits=pa_bits_of(mmfr0))
    if not name.has_unprivileged and va_range is VaRange.UPPER:
        return Fault(kind=FaultKind.TRANSLATION, level=0, reason="EL2 has one range of addresses, the lower")
    suffix = "el1" if name is TranslationRegime.EL10 else "el2"
    tcr_word = need(bank.tcr, f"TCR_{suffix}")
    tcr = _of_range(tcr_word, va_range) if name.has_unprivileged else _of_one_range(tcr_word)
    ttbr = need(bank.ttbr0 if va_range is VaRange.LOWER else bank.ttbr1, f"TTBR{va_range.value}_{suffix}")
    found = _Read(name, va_range, mmfr0, mmfr3, tcr, tcr2, sctlr, ttbr, notes)
    return _regime(registers, bank, found, need(bank.mair, f"MAIR_{suffix}"), _asid(bank, name, tcr_word))


@dataclass(frozen=True, slots=True, kw_only=True)
class _TcrRange:
    """What a TCR says of one range, in whichever layout."""

    txsz: int
    granule_log2: Mapping[int, int]
    tg: int
    tg_name: str
    ps: int
    sh: int
    ha: bool
    hd: bool
    hpd: bool
    ds: bool
    tbi: bool
    tbid: bool
    mtx: bool
    epd: bool = False
    e0pd: bool = False
    nfd: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """Registers of one regime and range."""

    name: TranslationRegime
    va_range: VaRange
    mmfr0: Mmfr0
    mmfr3: Mmfr3
    tcr: _TcrRange
    tcr2: Tcr2
    sctlr: Sctlr
    ttbr: int
    notes: list[str]


def _of_range(word: int, va_range: VaRange) -> _TcrRange:
    tcr = Tcr(word)
    if va_range is VaRange.LOWER:
        return _TcrRange(
            txsz=tcr.t0sz, granule_log2=TG0, tg=tcr.tg0, tg_name="TG0", ps=tcr.ips, sh=tcr.sh0, ha=tcr.ha,
            hd=tcr.hd, hpd=tcr.hpd0, ds=tcr.ds, tbi=tcr.tbi0, tbid=tcr.tbid0, mtx=tcr.mtx0, epd=tcr.epd0,
            e0pd=tcr.e0pd0, nfd=tcr.nfd0,
        )  # fmt: skip
    return _TcrRange(
        txsz=tcr.t1sz, granule_log2=TG1, tg=tcr.tg1, tg_name="TG1", ps=tcr.ips, sh=tcr.sh1, ha=tcr.ha,
        hd=tcr.hd, hpd=tcr.hpd1, ds=tcr.ds, tbi=tcr.tbi1, tbid=tcr.tbid1, mtx=tcr.mtx1, epd=tcr.epd1,
        e0pd=tcr.e0pd1, nfd=tcr.nfd1,
    )  # fmt: skip


def _of_one_range(word: int) -> _TcrRange:
    tcr = TcrEl2(word)
    return _TcrRange(
        txsz=tcr.t0sz, granule_log2=TG0, tg=tcr.tg0, tg_name="TG0", ps=tcr.ps, sh=tcr.sh0, ha=tcr.ha,
        hd=tcr.hd, hpd=tcr.hpd, ds=tcr.ds, tbi=tcr.tbi, tbid=tcr.tbid, mtx=tcr.mtx,
    )  # fmt: skip


def _regime(registers: Registers, bank: Bank, read: _Read, mair: int, asid: int) -> Regime | Fault:
    """The effective values, or why every address faults."""
    name, tcr, tcr2, mmfr3, sctlr = read.name, read.tcr, read.tcr2, read.mmfr3, read.sctlr
    mmfr1, mmfr2 = Mmfr1(registers.id_aa64mmfr1_el1 or 0), Mmfr2(registers.id_aa64mmfr2_el1 or 0)
    two_ranges = name.has_unprivileged
    pa_bits = pa_bits_of(read.mmfr0)
    d128 = two_ranges and bool(mmfr3.d128) and tcr2.d128
    granule = chosen_granule_log2(tcr.tg, tcr.granule_log2, _granules(read.mmfr0), tcr.tg_name, read.notes)
    geometry = Geometry(granule_log2=granule, desc_log2=4 if d128 else 3)
    has_lpa2 = granule != 16 and _has_lpa2(granule, read.mmfr0)
    address_format = _address_format(geometry, pa_bits, ds=tcr.ds and has_lpa2)
    skl = Ttbr.skl.of(read.ttbr) if d128 else 0
    impossible = _txsz_fault(tcr.txsz, geometry, mmfr2, ds=tcr.ds and has_lpa2) or _skl_fault(
        skl, tcr.txsz, geometry
    )
    if impossible is not None:
        return Fault(kind=FaultKind.TRANSLATION, level=0, reason=impossible)
    pie = d128 or (bool(mmfr3.s1pie) and tcr2.pie)
    has_poe = bool(mmfr3.s1poe)
    lower = read.va_range is VaRange.LOWER
    wide = ttbr_is_wide(tcr.ps, address_format)
    start_level = geometry.start_level(64 - tcr.txsz) + skl
    table_log2 = 64 - tcr.txsz - geometry.size_log2(start_level) + geometry.desc_log2
    return Regime(
        name=name,
        va_range=read.va_range,
        geometry=geometry,
        address_format=address_format,
        iasize_bits=64 - tcr.txsz,
        oasize_bits=oasize_bits(tcr.ps, pa_bits, address_format, has_lpa2=has_lpa2),
        table_pa=table_pa_of(read.ttbr, 1 << table_log2, address_format, wide=wide),
        ttbr_is_wide=wide,
        skl=skl,
        asid=asid,
        mair=mair,
        mair2=bank.mair2 or 0,
        # The pseudocode of 2023-03 reads TCR2.AIE even with D128, where it takes PIE as 1: so is AIE here.
        aie=bool(mmfr3.aie) and (tcr2.aie or d128),
        sh=tcr.sh,
        ha=mmfr1.hafdbs >= 1 and tcr.ha,
        hd=mmfr1.hafdbs >= 2 and tcr.hd,
        hpd=pie or (bool(mmfr1.hpds) and tcr.hpd),
        wxn=sctlr.wxn,
        has_pan=two_ranges and bool(mmfr1.pan),
        epan=two_ranges and mmfr1.pan >= 3 and (pie or sctlr.epan),
        pie=pie,
        pir=bank.pir or 0,
        pire0=(bank.pire0 or 0) if two_ranges else 0,
        poe=has_poe and tcr2.poe,
        e0poe=two_ranges and has_poe and tcr2.e0poe,
        por=bank.por or 0,
        por_el0=registers.por_el0 or 0,
        pnch=tcr2.pnch and not d128,
        disch=d128 and (tcr2.disch0 if lower else tcr2.disch1),
        epd=tcr.epd,
        e0pd=bool(mmfr2.e0pd) and tcr.e0pd,
        nfd=tcr.nfd,
        tbi=tcr.tbi,
        tbid=tcr.tbid,
        mtx=tcr.mtx,
        big_endian=sctlr.ee,
        notes=tuple(read.notes),
    )


def _translation_regime(registers: Registers, el: int | None) -> TranslationRegime:
    """ASL TranslationRegime."""
    hcr = Hcr(registers.hcr_el2 or 0)
    if el not in (None, 0, 1, 2):
        raise ValueError(f"there is no model of translation at EL{el}: give 0, 1 or 2")
    if el == 2 and not hcr.e2h:
        return TranslationRegime.EL2
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
    d128 = bool(mmfr3.d128) and tcr2.d128
    used = (
        ("PIR", bank.pir, tcr2.pie or d128),
        ("PIRE0", bank.pire0, tcr2.pie or d128),
        ("MAIR2", bank.mair2, tcr2.aie or d128),
        ("POR", bank.por, tcr2.poe),
        ("POR_EL0", registers.por_el0, tcr2.e0poe),
    )
    return said + [f"{name} is not known: taken as 0" for name, value, on in used if on and value is None]


def _granules(mmfr0: Mmfr0) -> list[int]:
    """log2 of the granules that there are; TGran4 and TGran64 are signed fields."""
    there = ((12, mmfr0.tgran4 < 8), (14, mmfr0.tgran16 != 0), (16, mmfr0.tgran64 < 8))
    return [log2 for log2, is_there in there if is_there]


def _has_lpa2(granule_log2: int, mmfr0: Mmfr0) -> bool:
    """FEAT_LPA2 for a granule of 4K or 16K; TGran4 is a signed field."""
    return mmfr0.tgran4 in range(1, 8) if granule_log2 == 12 else mmfr0.tgran16 >= 2


def _address_format(geometry: Geometry, pa_bits: int, *, ds: bool) -> AddressFormat:
    """With 64K pages FEAT_LPA alone decides; with others the effective TCR.DS."""
    if geometry.desc_log2 == 4:
        return AddressFormat.D128
    if geometry.granule_log2 == 16:
        return AddressFormat.LPA if pa_bits >= 52 else AddressFormat.PA48
    return AddressFormat.LPA2 if ds else AddressFormat.PA48


def _txsz_fault(txsz: int, geometry: Geometry, mmfr2: Mmfr2, *, ds: bool) -> str | None:
    """Why a TxSZ faults, or None (ASL AArch64_S1MinTxSZ, AArch64_MaxTxSZ, AArch64_S1TxSZFaults)."""
    if geometry.desc_log2 == 4 and mmfr2.varange >= 2:
        least = 9
    else:
        least = 12 if (geometry.granule_log2 == 16 and mmfr2.varange >= 1) or ds else 16
    most = max_txsz(geometry.granule_log2, mmfr2)
    if least <= txsz <= most:
        return None
    return f"TxSZ is {txsz}, which is not within {least} to {most}"


def _skl_fault(skl: int, txsz: int, geometry: Geometry) -> str | None:
    """Why a TTBR.SKL faults, or None. The pseudocode of 2023-03 leaves a start beyond level 3 undefined."""
    level = geometry.start_level(64 - txsz) + skl
    return None if level <= FINAL_LEVEL else f"TTBR.SKL is {skl}, which makes the first level {level}"


def _asid(bank: Bank, name: TranslationRegime, tcr_word: int) -> int:
    if not name.has_unprivileged:
        return 0
    tcr = Tcr(tcr_word)
    asid = Ttbr((bank.ttbr1 if tcr.a1 else bank.ttbr0) or 0).asid
    return asid if tcr.as16 else asid & 0xFF
