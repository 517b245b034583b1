"""What finding a leaf depends on, at either stage: the shape, place and limits of its tables.

Source: ASL S1TTWParams and S2TTWParams, as far as AArch64_S1Walk and AArch64_S2Walk use them alike.
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from harness.vmsa.address import AddressFormat
from harness.vmsa.field import bits, ones
from harness.vmsa.geometry import Geometry

__all__ = ["Stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Effective values of one stage of translation, for one range of input addresses."""

    number: ClassVar[int]
    """1 or 2."""

    geometry: Geometry
    address_format: AddressFormat
    iasize_bits: int
    """Size of input addresses, 64 - TxSZ."""
    oasize_bits: int
    """Size of output addresses: beyond it, an Address size fault."""
    table_pa: int
    """Physical address of the first table, aligned as hardware aligns it."""
    ttbr_is_wide: bool
    """The TTBR holds address bits 51:48 in 5:2; False for 128-bit descriptors, whose TTBR is wider itself."""
    sh: int
    """TCR.SHx or VTCR.SH0: the shareability of everything in the LPA2 format."""
    ha: bool
    hd: bool
    big_endian: bool
    skl: int = 0
    """Levels skipped by the first table: TTBR.SKL of 128-bit descriptors; at stage 2 of 64-bit ones 1 where
    VTCR.SL0 makes up to 16 tables of the next level one, concatenated."""
    notes: tuple[str, ...] = ()
    """What was absent or reserved and what was taken instead, in words."""

    @property
    def start_level(self) -> int:
        """Level of the first table (ASL AArch64_S1StartLevel, AArch64_S2StartLevel)."""
        return self.geometry.start_level(self.iasize_bits) + self.skl

    @property
    def start_bits(self) -> int:
        """Bits of the address that the first table resolves."""
        return self.iasize_bits - self.geometry.size_log2(self.start_level)

    @property
    def start_table_bytes(self) -> int:
        """Bytes of the first table."""
        return 1 << self.start_bits + self.geometry.desc_log2

    @property
    def lowest_va(self) -> int:
        """The first input address, untagged."""
        return 0

    def spans(self, va: int) -> bool:
        """True for an untagged input address of the range."""
        return 0 <= va - self.lowest_va < 1 << self.iasize_bits

    def start_index(self, va: int) -> int:
        """The entry of the first table that an address selects (ASL AArch64_S1SLTTEntryAddress, _S2_)."""
        return bits(va, self.iasize_bits - 1, self.geometry.size_log2(self.start_level))

    def index(self, va: int, level: int, skl: int = 0) -> int:
        """The entry of a level's table that an address selects, after `skl` levels were skipped."""
        return self.start_index(va) if level == self.start_level else self.geometry.index(va, level, skl)

    def oa_out_of_range(self, pa: int) -> bool:
        """True for an address that meets an Address size fault (ASL AArch64_OAOutOfRange)."""
        return pa >> self.oasize_bits != 0

    def at_table(self, table_pa: int) -> Self:
        """The same with its first table elsewhere; raises ValueError as `ttbr_for` does."""
        self.ttbr_for(table_pa)
        return replace(self, table_pa=table_pa)

    def ttbr_for(self, table_pa: int) -> int:
        """The BADDR bits, and SKL, of a TTBR for a first table; raises ValueError when it cannot be there."""
        is_128 = self.address_format is AddressFormat.D128
        least, width = (32, 56) if is_128 else (64, 52) if self.ttbr_is_wide else (2, 48)
        if table_pa % max(self.start_table_bytes, least) or table_pa < 0 or table_pa >> width:
            raise ValueError(f"TTBR cannot hold {table_pa:#x} for a table of {self.start_table_bytes} bytes")
        if is_128:
            return table_pa & ones(48) | bits(table_pa, 55, 48) << 80 | self.skl << 1
        return table_pa & ones(48) | bits(table_pa, 51, 48) << 2
