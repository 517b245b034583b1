"""The shape of translation tables: which level maps how much, where a walk starts, how large a table is.

Everything follows from the granule and the size of a descriptor (Arm ARM DDI 0487, D8.2; ASL
TGxGranuleBits, TranslationSize, AArch64_S1StartLevel, ContiguousSize, AArch64_BlockDescSupported).
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.vmsa.field import bits, ones

__all__ = ["FINAL_LEVEL", "GRANULES_LOG2", "Geometry"]

FINAL_LEVEL: Final = 3
"""The level of pages (ASL FINAL_LEVEL)."""

GRANULES_LOG2: Final = (12, 14, 16)
"""log2 of the bytes of the translation granules: 4K, 16K, 64K."""

# log2 of the entries of a contiguous group, by granule and level, of 64-bit descriptors and of 128-bit ones.
# A level that is not here ignores the Contiguous bit (ASL ContiguousSize, AArch64_ContiguousBit).
_CONTIGUOUS_LOG2_64: Final = {
    (12, 1): 4,
    (12, 2): 4,
    (12, 3): 4,
    (14, 2): 5,
    (14, 3): 7,
    (16, 2): 5,
    (16, 3): 5,
}
_CONTIGUOUS_LOG2_128: Final = {
    (12, 1): 2,
    (12, 2): 4,
    (12, 3): 4,
    (14, 1): 2,
    (14, 2): 4,
    (14, 3): 6,
    (16, 2): 6,
    (16, 3): 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The tables of one granule; raises ValueError for a granule or descriptor size that does not exist."""

    granule_log2: int
    """log2 of the granule's bytes: 12, 14 or 16."""
    desc_log2: int = 3
    """log2 of a descriptor's bytes: 3 for VMSAv8-64, 4 for VMSAv9-128."""

    def __post_init__(self) -> None:
        if self.granule_log2 not in GRANULES_LOG2:
            raise ValueError(f"a granule is 2^12, 2^14 or 2^16 bytes, not 2^{self.granule_log2}")
        if self.desc_log2 not in (3, 4):
            raise ValueError(f"a descriptor is 2^3 or 2^4 bytes, not 2^{self.desc_log2}")

    @property
    def stride_bits(self) -> int:
        """Bits of the address that one full table resolves."""
        return self.granule_log2 - self.desc_log2

    @property
    def desc_bytes(self) -> int:
        """Bytes of a descriptor."""
        return 1 << self.desc_log2

    def size_log2(self, level: int) -> int:
        """log2 of the bytes that one entry at `level` maps (ASL TranslationSize)."""
        return self.granule_log2 + self.stride_bits * (FINAL_LEVEL - level)

    def start_level(self, iasize_bits: int) -> int:
        """The level of the first table for input addresses of that many bits (ASL AArch64_S1StartLevel)."""
        return FINAL_LEVEL - (iasize_bits - 1 - self.granule_log2) // self.stride_bits

    def start_bits(self, iasize_bits: int) -> int:
        """Bits of the address that the first table resolves: 1 to the stride."""
        return iasize_bits - self.size_log2(self.start_level(iasize_bits))

    def start_table_log2(self, iasize_bits: int) -> int:
        """log2 of the bytes of the first table, which may be far less than a granule."""
        return self.start_bits(iasize_bits) + self.desc_log2

    def start_index(self, va: int, iasize_bits: int) -> int:
        """The entry of the first table that a VA selects (ASL AArch64_S1SLTTEntryAddress)."""
        return bits(va, iasize_bits - 1, self.size_log2(self.start_level(iasize_bits)))

    def index_bits(self, skl: int = 0) -> int:
        """Bits of the address that a table after the first resolves when `skl` levels were skipped."""
        return self.stride_bits * (1 + skl)

    def index(self, va: int, level: int, skl: int = 0) -> int:
        """The entry of a table after the first that a VA selects, when the descriptor that led to the table
        skipped `skl` levels (ASL AArch64_TTEntryAddress)."""
        return va >> self.size_log2(level) & ones(self.index_bits(skl))

    def contiguous_log2(self, level: int) -> int:
        """log2 of the entries of a contiguous group; 0 where the bit is ignored (ASL ContiguousSize)."""
        known = _CONTIGUOUS_LOG2_64 if self.desc_log2 == 3 else _CONTIGUOUS_LOG2_128
        return known.get((self.granule_log2, level), 0)

    def block_allowed(self, level: int, *, wide: bool) -> bool:
        """True where a block descriptor is legal (ASL AArch64_BlockDescSupported).

        `wide`: 52-bit output addresses can be had, which is the effective TCR.DS for 4K and 16K, and a
        PARange of at least 52 bits (not TCR.IPS) for 64K; 128-bit descriptors are all wide.
        """
        highest = 1 if self.granule_log2 == 12 else 2
        return highest - wide <= level < FINAL_LEVEL
