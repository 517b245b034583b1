"""What rules stage 1 translation of one range of addresses: effective values, nothing raw.

Made by `harness.vmsa.derive`. A bit of a feature that the CPU does not have has no effect here, and is not
seen. Source: ASL S1TTWParams. May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from harness.vmsa.fault import Fault
from harness.vmsa.field import bits, ones
from harness.vmsa.stage import Stage

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
    """ASL Regime_EL10, Regime_EL20, Regime_EL2."""

    EL10 = "EL1&0"
    EL20 = "EL2&0"
    EL2 = "EL2"

    @property
    def has_unprivileged(self) -> bool:
        """True for the regimes of two ranges, that EL0 uses too (ASL HasUnprivileged)."""
        return self is not TranslationRegime.EL2


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime(Stage):
    """Effective values for one range of one translation regime, at stage 1."""

    number: ClassVar[int] = 1

    name: TranslationRegime
    va_range: VaRange
    """LOWER in a regime of one range."""
    asid: int
    """The one in force, from the TTBR that TCR.A1 selects."""
    mair: int
    mair2: int
    aie: bool
    """MAIR2 is in use: AttrIndx has four bits."""
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
    """Bit 52 of a 64-bit descriptor is Protected and not Contiguous."""
    disch: bool = False
    """TCR2.DisCHx: the Contiguous bit is ignored in the first table, of 128-bit descriptors."""
    epd: bool
    e0pd: bool
    nfd: bool
    tbi: bool
    tbid: bool
    mtx: bool

    @property
    def lowest_va(self) -> int:
        """The first address of the range, untagged."""
        return 0 if self.va_range is VaRange.LOWER else (1 << 64) - (1 << self.iasize_bits)

    def va_out_of_range(self, va: int, *, ifetch: bool = False) -> bool:
        """True for an address outside the range's span (ASL AArch64_VAIsOutOfRange, AArch64_AddrTop).

        In a regime of one range that is any whose upper bits are not all 0, whatever bit 55 is.
        """
        upper = va >> 55 & 1
        if self.mtx:
            va = va & ~(0xF << 56) | (0xF << 56 if upper else 0)
        top = 55 if self.tbi and not (self.tbid and ifetch) else 63
        upper &= self.name.has_unprivileged
        return bits(va, top, self.iasize_bits) != (ones(top - self.iasize_bits + 1) if upper else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOff:
    """A stage is off: at stage 1 addresses are physical, as before a kernel has turned its MMU on.

    At stage 2, intermediate physical addresses are.
    """

    name: TranslationRegime
    pa_bits: int
    """ID_AA64MMFR0_EL1.PARange in bits."""
    stage: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimes:
    """Both ranges of a translation regime; a range whose TCR makes every address fault is that fault."""

    lower: Regime | Fault
    upper: Regime | Fault

    def of(self, va: int) -> Regime | Fault:
        """The one that an address belongs to."""
        return self.lower if VaRange.of(va) is VaRange.LOWER else self.upper
