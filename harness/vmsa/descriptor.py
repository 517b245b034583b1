"""VMSAv8-64 stage 1 descriptors: what 64 bits at a level of a table are, before anything is decided.

Source: Arm ARM DDI 0487, D8.3; ASL AArch64_DecodeDescriptorType, AArch64_NextTableBase, AArch64_LeafBase,
AArch64_S1ApplyTablePerms. May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from harness.vmsa.field import Field, Flag, bits, ones
from harness.vmsa.geometry import FINAL_LEVEL, Geometry

__all__ = [
    "AddressFormat",
    "Block",
    "Descriptor",
    "Invalid",
    "Leaf",
    "Page",
    "Reserved",
    "Table",
    "TableAttributes",
    "decode",
]


class AddressFormat(Enum):
    """Where a descriptor keeps an output address; the value names the feature."""

    PA48 = "48-bit"
    """Address bits 47 down, in place."""
    LPA = "LPA"
    """64K granule with FEAT_LPA: bits 47 down in place, 51:48 in 15:12."""
    LPA2 = "LPA2"
    """4K and 16K granules with DS=1: bits 49 down in place, 51:50 in 9:8, where SH was."""

    @property
    def address_bits(self) -> int:
        """Width of an address that can be written."""
        return 48 if self is AddressFormat.PA48 else 52

    @property
    def is_wide(self) -> bool:
        """True for the formats of 52 bits."""
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

    def encode(self, pa: int) -> int:
        """The descriptor bits that hold an address; raises ValueError when it is too wide."""
        if pa < 0 or pa >> self.address_bits:
            raise ValueError(f"{pa:#x} does not fit a {self.value} descriptor of {self.address_bits} bits")
        match self:
            case AddressFormat.PA48:
                return pa
            case AddressFormat.LPA:
                return pa & ones(48) | bits(pa, 51, 48) << 12
            case AddressFormat.LPA2:
                return pa & ones(50) | bits(pa, 51, 50) << 8

    def mask(self, lo: int) -> int:
        """The descriptor bits that an address aligned to 2^lo bytes occupies."""
        return self.encode(ones(self.address_bits) & ~ones(lo))


@dataclass(frozen=True, slots=True)
class Invalid:
    """Bit 0 is clear: nothing is mapped, and the other bits belong to software."""

    word: int
    level: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """Bit 0 is set, yet the encoding is none at this level: bits 1:0 of 01 at level 3, or an illegal block.

    Hardware treats it as invalid (ASL DescriptorType_Invalid).
    """

    word: int
    level: int


@dataclass(frozen=True, slots=True)
class Table:
    """A descriptor of the next level's table, with the attributes it hands down."""

    word: int
    level: int
    next_pa: int
    """Physical address of the next table; the bits below the granule are masked."""

    access_flag = Flag(10)
    """FEAT_HAFT; without it ignored, and newer kernels set it anyway."""
    protected = Flag(52)
    pxn_table = Flag(59)
    uxn_table = Flag(60)
    ap_table = Field(62, 61)
    """62: no writes below; 61: no EL0 access below."""
    ns_table = Flag(63)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What blocks and pages have in common: the end of a walk."""

    word: int
    level: int
    oa: int
    """Output address of the whole block or page; lower bits are zero."""

    attr_indx = Field(4, 2)
    attr_indx_high = Flag(59)
    """AttrIndx[3], with TCR2.AIE."""
    ns = Flag(5)
    ap = Field(7, 6)
    """AP[2:1]: 7 read-only, 6 accessible to EL0."""
    ndirty = Flag(7)
    """With indirect permissions, in place of AP[2]."""
    sh = Field(9, 8)
    """0 non-, 2 outer, 3 inner shareable; address bits in the LPA2 format."""
    af = Flag(10)
    ng = Flag(11)
    nt = Flag(16)
    """In blocks, with FEAT_BBM."""
    gp = Flag(50)
    """Guarded page (BTI)."""
    dbm = Flag(51)
    contiguous = Flag(52)
    """As written: `Protected` with TCR2.PnCH, and ignored at some levels."""
    pxn = Flag(53)
    uxn = Flag(54)
    software = Field(58, 55)
    pbha = Field(62, 59)
    """Page-based hardware attributes, where TCR enables them."""
    po_index = Field(62, 60)
    """With permission overlays."""

    @property
    def pi_index(self) -> int:
        """Index into PIR and PIRE0: bits 54, 53, 51, 6 (ASL AArch64_S1ApplyOutputPerms)."""
        return bits(self.word, 54, 53) << 2 | bits(self.word, 51, 51) << 1 | bits(self.word, 6, 6)


@dataclass(frozen=True, slots=True)
class Block(Leaf):
    """A leaf above level 3."""


@dataclass(frozen=True, slots=True)
class Page(Leaf):
    """A leaf at level 3."""


Descriptor = Invalid | Reserved | Table | Block | Page
"""All that a descriptor can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAttributes:
    """What the tables of a walk hand down to its leaf, ORed (ASL AArch64_S1ApplyTablePerms).

    As written in the tables: TCR.HPD and indirect permissions, which make all but NSTable void, are
    applied where permissions are computed.
    """

    ap_table: int = 0
    uxn_table: bool = False
    pxn_table: bool = False
    ns_table: bool = False

    def under(self, table: Table) -> TableAttributes:
        """These, and those of one more table."""
        if not table.word >> 59:
            return self
        return TableAttributes(
            ap_table=self.ap_table | table.ap_table,
            uxn_table=self.uxn_table or table.uxn_table,
            pxn_table=self.pxn_table or table.pxn_table,
            ns_table=self.ns_table or table.ns_table,
        )


def decode(word: int, level: int, geometry: Geometry, address_format: AddressFormat) -> Descriptor:
    """What the 64-bit `word` is at `level`; total, and free of judgement about addresses.

    A next table's address loses its bits below the granule, a leaf's those below its size.
    Source: ASL AArch64_DecodeDescriptorType.
    """
    if not word & 1:
        return Invalid(word, level)
    is_table_or_page = bool(word & 2)
    if is_table_or_page and level < FINAL_LEVEL:
        return Table(word, level, address_format.address(word, geometry.granule_log2))
    oa = address_format.address(word, geometry.size_log2(level))
    if is_table_or_page:
        return Page(word, level, oa)
    if geometry.block_allowed(level, wide=address_format.is_wide):
        return Block(word, level, oa)
    return Reserved(word, level)
