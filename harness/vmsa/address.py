"""Where a descriptor keeps an output address.

Source: Arm ARM DDI 0487, D8.3; ASL AArch64_LeafBase, AArch64_NextTableBase. May import the standard library
only.
"""

from __future__ import annotations

from enum import Enum

from harness.vmsa.field import bits, ones

__all__ = ["AddressFormat"]


class AddressFormat(Enum):
    """Where a descriptor keeps an output address; the value names the feature."""

    PA48 = "48-bit"
    """Address bits 47 down, in place."""
    LPA = "LPA"
    """64K granule with FEAT_LPA: bits 47 down in place, 51:48 in 15:12."""
    LPA2 = "LPA2"
    """4K and 16K granules with DS=1: bits 49 down in place, 51:50 in 9:8, where SH was."""
    D128 = "D128"
    """128-bit descriptors, of any granule: bits 55 down, in place."""

    @property
    def address_bits(self) -> int:
        """Width of an address that can be written."""
        match self:
            case AddressFormat.PA48:
                return 48
            case AddressFormat.D128:
                return 56
        return 52

    @property
    def is_wide(self) -> bool:
        """True for the formats of more than 48 bits."""
        return self is not AddressFormat.PA48

    def address(self, word: int, lo: int) -> int:
        """The address in a descriptor, its bits below `lo` zero (ASL AArch64_LeafBase, _NextTableBase)."""
        match self:
            case AddressFormat.PA48:
                return bits(word, 47, lo) << lo
            case AddressFormat.LPA:
                return bits(word, 47, lo) << lo | bits(word, 15, 12) << 48
            case AddressFormat.LPA2:
                return bits(word, 49, lo) << lo | bits(word, 9, 8) << 50
            case AddressFormat.D128:
                return bits(word, 55, lo) << lo

    def encode(self, pa: int) -> int:
        """The descriptor bits that hold an address; raises ValueError when it is too wide."""
        if pa < 0 or pa >> self.address_bits:
            raise ValueError(f"{pa:#x} does not fit a {self.value} descriptor of {self.address_bits} bits")
        match self:
            case AddressFormat.PA48 | AddressFormat.D128:
                return pa
            case AddressFormat.LPA:
                return pa & ones(48) | bits(pa, 51, 48) << 12
            case AddressFormat.LPA2:
                return pa & ones(50) | bits(pa, 51, 50) << 8

    def mask(self, lo: int) -> int:
        """The descriptor bits that an address aligned to 2^lo bytes occupies."""
        return self.encode(ones(self.address_bits) & ~ones(lo))
