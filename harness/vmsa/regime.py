"""What rules the translation of one range of addresses: effective values, nothing raw.

Made by `harness.vmsa.derive`. A bit of a feature that the CPU does not have has no effect here, and is not
seen. Source: ASL S1TTWParams. May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from harness.vmsa.descriptor import AddressFormat
from harness.vmsa.fault import Fault
from harness.vmsa.field import bits, ones
from harness.vmsa.geometry import Geometry

__all__ = ["Regime", "Regimes", "StageOff", "TranslationRegime", "VaRange"]


class VaRange(Enum):
    """Which of the two ranges an address is in: the value is bit 55 (ASL AArch64_GetVARange)."""

    LOWER = 0
    UPPER = 1

    @classmethod
    def of(cls, va: int) -> VaRange:
        """The range of an address."""
        return cls(va >> 55 & 1)


class TranslationRegime(Enum):
    """The regimes with two ranges (ASL Regime_EL10, Regime_EL20)."""

    EL10 = "EL1&0"
    EL20 = "EL2&0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """Effective values for one range of one translation regime."""

    name: TranslationRegime
    va_range: VaRange
    geometry: Geometry
    address_format: AddressFormat
    iasize_bits: int
    """Size of input addresses, 64 - TxSZ."""
    oasize_bits: int
    """Size of output addresses: beyond it, an Address size fault."""
    table_pa: int
    """Physical address of the first table, aligned as hardware aligns it."""
    ttbr_is_wide: bool
    """TTBR holds address bits 51:48 in 5:2."""
    asid: int
    """The one in force, from the TTBR that TCR.A1 selects."""
    mair: int
    mair2: int
    aie: bool
    """MAIR2 is in use: AttrIndx has four bits."""
    sh: int
    """TCR.SHx: the shareability of everything in the LPA2 format."""
    ha: bool
    hd: bool
    hpd: bool
    """Hierarchical permissions are disabled, by TCR.HPDx or by indirect permissions."""
    wxn: bool
    has_pan: bool
    """FEAT_PAN: PSTATE.PAN exists."""
    epan: bool
    pie: bool
    pir: int
    pire0: int
    poe: bool
    e0poe: bool
    por: int
    por_el0: int
    pnch: bool
    """Bit 52 of a descriptor is Protected and not Contiguous."""
    epd: bool
    e0pd: bool
    nfd: bool
    tbi: bool
    tbid: bool
    mtx: bool
    big_endian: bool
    notes: tuple[str, ...] = ()
    """What was absent or reserved and what was taken instead, in words."""

    @property
    def start_level(self) -> int:
        """Level of the first table."""
        return self.geometry.start_level(self.iasize_bits)

    @property
    def start_table_bytes(self) -> int:
        """Bytes of the first table."""
        return 1 << self.geometry.start_table_log2(self.iasize_bits)

    @property
    def lowest_va(self) -> int:
        """The first address of the range, untagged."""
        return 0 if self.va_range is VaRange.LOWER else (1 << 64) - (1 << self.iasize_bits)

    def oa_out_of_range(self, pa: int) -> bool:
        """True for an address that meets an Address size fault (ASL AArch64_OAOutOfRange)."""
        return pa >> self.oasize_bits != 0

    def va_out_of_range(self, va: int, *, ifetch: bool = False) -> bool:
        """True for an address outside the range's span (ASL AArch64_VAIsOutOfRange, AArch64_AddrTop)."""
        upper = va >> 55 & 1
        if self.mtx:
            va = va & ~(0xF << 56) | (0xF << 56 if upper else 0)
        top = 55 if self.tbi and not (self.tbid and ifetch) else 63
        return bits(va, top, self.iasize_bits) != (ones(top - self.iasize_bits + 1) if upper else 0)

    def at_table(self, table_pa: int) -> Regime:
        """The same regime with its first table elsewhere; raises ValueError as `ttbr_for` does."""
        self.ttbr_for(table_pa)
        return replace(self, table_pa=table_pa)

    def ttbr_for(self, table_pa: int) -> int:
        """The BADDR bits of a TTBR for a first table there; raises ValueError when there is no such value."""
        align = max(self.start_table_bytes, 64 if self.ttbr_is_wide else 2)
        if table_pa % align or table_pa < 0 or table_pa >> (52 if self.ttbr_is_wide else 48):
            raise ValueError(f"TTBR cannot hold {table_pa:#x} for a table of {self.start_table_bytes} bytes")
        return table_pa & ones(48) | bits(table_pa, 51, 48) << 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOff:
    """Stage 1 translation is off: addresses are physical, as before a kernel has turned its MMU on."""

    name: TranslationRegime
    pa_bits: int
    """ID_AA64MMFR0_EL1.PARange in bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimes:
    """Both ranges of a translation regime; a range whose TCR makes every address fault is that fault."""

    lower: Regime | Fault
    upper: Regime | Fault

    def of(self, va: int) -> Regime | Fault:
        """The one that an address belongs to."""
        return self.lower if VaRange.of(va) is VaRange.LOWER else self.upper
