"""Which registers rule a range and what they say, in words.

May import `harness.vmsa` and this package's words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.tables.words import chunk, count, size
from harness.vmsa import AddressFormat, Regime, TranslationRegime, VaRange
from harness.vmsa.derive import PA_SIZES_BITS
from harness.vmsa.registers import Sctlr, Tcr

__all__ = ["range_in_words", "regime_in_words"]

_FORMATS = {
    AddressFormat.PA48: "descriptors hold addresses of 48 bits",
    AddressFormat.LPA: "descriptors hold addresses of 52 bits, 51:48 in bits 15:12 (FEAT_LPA)",
    AddressFormat.D128: "descriptors have 128 bits and hold addresses of 56 (TCR2.D128)",
    AddressFormat.LPA2: "descriptors hold addresses of 52 bits, 51:50 in bits 9:8 (TCR.DS, FEAT_LPA2)",
}


def range_in_words(va: int) -> str:
    """Which range an address is in, and why."""
    which = VaRange.of(va)
    return f"bit 55 is {which.value}: the {which.name.lower()} range, translated through TTBR{which.value}"


def regime_in_words(regime: Regime, registers: Mapping[str, int], *, instead: str = "") -> tuple[str, ...]:
    """Granule, sizes, start level and first table of a regime, with the register fields they come from.

    `instead` says why the first table is not the one that TTBR holds, where it is not.
    """
    known = {name.upper(): value for name, value in registers.items()}
    return tuple(_sentences(regime, known, instead))


def _sentences(regime: Regime, known: Mapping[str, int], instead: str) -> Iterator[str]:
    is_el1 = regime.name is TranslationRegime.EL10
    suffix = "EL1" if is_el1 else "EL2"
    number = regime.va_range.value
    tcr = Tcr(known.get(f"TCR_{suffix}", 0))
    host = "" if is_el1 else ", as HCR_EL2.E2H and TGE are set: the kernel runs at EL2"
    yield f"regime {regime.name.value}: the registers of {suffix} count{host}"
    granule = tcr.tg0 if number == 0 else tcr.tg1
    txsz = tcr.t0sz if number == 0 else tcr.t1sz
    granule_bytes = 1 << regime.geometry.granule_log2
    span = f"{regime.lowest_va:#x} to {regime.lowest_va + (1 << regime.iasize_bits) - 1:#x}"
    yield (
        f"TCR_{suffix} {tcr.word:#x}: TG{number} = {granule}, a granule of {chunk(granule_bytes)}; "
        f"T{number}SZ = {txsz}, so {regime.iasize_bits} bits of address: {span}"
    )
    stride = regime.geometry.stride_bits
    yield (
        f"a full table resolves {stride} bits, {count(1 << stride, 'entry', 'entries')}: the walk starts at "
        f"level {regime.start_level}, in a table of {size(regime.start_table_bytes)}"
    )
    yield _base(regime, known.get(f"TTBR{number}_{suffix}"), f"TTBR{number}_{suffix}", instead)
    ips = PA_SIZES_BITS[tcr.ips]
    form = _FORMATS[regime.address_format]
    yield f"{form}; IPS = {tcr.ips}, {ips} bits: none beyond {regime.oasize_bits} bits"
    yield _switches(regime, suffix, known)


def _base(regime: Regime, ttbr: int | None, name: str, instead: str) -> str:
    if instead:
        return f"the first table is at {regime.table_pa:#x}, {instead}"
    wide = ", address bits 51:48 in 5:2" if regime.ttbr_is_wide else ""
    return f"{name} {ttbr or 0:#x}{wide}: the first table is at {regime.table_pa:#x}; ASID {regime.asid}"


def _switches(regime: Regime, suffix: str, known: Mapping[str, int]) -> str:
    """What changes the meaning of descriptors."""
    on = [
        words
        for words, is_on in (
            ("hardware sets AF (HA)", regime.ha),
            ("hardware keeps dirty state (HD)", regime.hd),
            ("WXN: what may be written is not executed", regime.wxn),
            ("PAN exists", regime.has_pan),
            ("EPAN: PAN heeds execute-only pages", regime.epan),
            ("indirect permissions (S1PIE)", regime.pie),
            ("permission overlays (S1POE)", regime.poe or regime.e0poe),
            ("hierarchical permissions disabled (HPD)", regime.hpd),
            ("top byte ignored (TBI)", regime.tbi),
            ("EL0 kept out of the range (E0PD)", regime.e0pd),
            ("walks disabled (EPD)", regime.epd),
            ("tables are big-endian (SCTLR.EE)", regime.big_endian),
        )
        if is_on
    ]
    sctlr = known.get(f"SCTLR_{suffix}", known.get("SCTLR") if suffix == "EL1" else None)
    where = "SCTLR not known" if sctlr is None else f"SCTLR_{suffix} {Sctlr(sctlr).word:#x}"
    return f"{where}; in force: {', '.join(on) or 'nothing special'}"
