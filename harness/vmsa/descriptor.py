"""Descriptors: what 64 bits at a level of a table are, or 128, before anything is decided.

The fields are those of stage 1; `harness.vmsa.stage2_leaf` reads the same words as stage 2 does.
Source: Arm ARM DDI 0487, D8.3; ASL AArch64_DecodeDescriptorType, AArch64_NextTableBase, AArch64_LeafBase,
AArch64_S1ApplyTablePerms, AArch64_S1ApplyOutputPerms, AArch64_S1NextWalkStateLeaf. May import the standard
library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.vmsa.address import AddressFormat
from harness.vmsa.field import Field, Flag, bits
from harness.vmsa.geometry import FINAL_LEVEL, Geometry

__all__ = [
    "AddressFormat",
    "Block",
    "Block128",
    "Descriptor",
    "Invalid",
    "Leaf",
    "Leaf128",
    "Page",
    "Page128",
    "Reserved",
    "Table",
    "Table128",
    "TableAttributes",
    "decode",
]


@dataclass(frozen=True, slots=True)
class Invalid:
    """Bit 0 is clear: nothing is mapped, and the other bits belong to software."""

    word: int
    level: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """Bit 0 is set, yet the encoding is none at this level.

    With 64 bits: 01 in bits 1:0 at level 3, or an illegal block; with 128: levels skipped beyond level 3.
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
    # What only 128 bits have room for; 0 in any word of 64.
    skl = Field(110, 109)
    """Levels skipped, which makes the next table so much larger (FEAT_D128)."""
    disch = Flag(112)
    """The Contiguous bit is ignored in the next table (FEAT_D128)."""
    nt = Flag(6)
    """Of a table that skips levels, with FEAT_BBM; otherwise ignored."""

    @property
    def next_level(self) -> int:
        """Level of the next table."""
        return self.level + 1 + self.skl


@dataclass(frozen=True, slots=True)
class Table128(Table):
    """A descriptor of the next level's table in 128 bits.

    Its permissions are in the pseudocode, and void: indirect permissions cannot be off.
    """

    protected = Flag(114)
    pxn_table = Flag(123)
    uxn_table = Flag(124)
    ap_table = Field(126, 125)
    ns_table = Flag(127)


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
    protected = Flag(52)
    """With TCR2.PnCH, in place of Contiguous."""

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


class _NoFlag(Flag):
    """A flag of 64-bit descriptors that 128-bit ones lack: to read it from one is a mistake of ours."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(f"bit {self.bit} of 64 has no counterpart among 128")


class _NoField(Field):
    """The same of a field."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(f"bits {self.hi}:{self.lo} of 64 have no counterpart among 128")


@dataclass(frozen=True, slots=True)
class Leaf128(Leaf):
    """What blocks and pages of 128 bits have in common. The fields that remain are where they were.

    Permissions are indirect; AP, DBM, UXN, PXN and PBHA are no more, and reading one raises AttributeError.
    Bits 100:91, of software, rest on a third-party implementation alone: the pseudocode does not name them,
    and no hardware or emulator at hand has them.
    """

    attr_indx_high = Flag(5)
    nt = Flag(6)
    skl = Field(110, 109)
    """3 - level: what makes it a leaf."""
    contiguous = Flag(111)
    gp = Flag(113)
    protected = Flag(114)
    software = Field(100, 91)
    po_index = Field(124, 121)
    ns = Flag(127)
    ap = _NoField(7, 6)
    dbm = _NoFlag(51)
    pxn = _NoFlag(53)
    uxn = _NoFlag(54)
    pbha = _NoField(62, 59)

    @property
    def pi_index(self) -> int:
        """Index into PIR and PIRE0: bits 118:115."""
        return bits(self.word, 118, 115)


@dataclass(frozen=True, slots=True)
class Block128(Leaf128, Block):
    """A leaf above level 3, of 128 bits."""


@dataclass(frozen=True, slots=True)
class Page128(Leaf128, Page):
    """A leaf at level 3, of 128 bits."""


Descriptor = Invalid | Reserved | Table | Block | Page
"""All that a descriptor can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAttributes:
    """What the tables of a walk hand down to its leaf, ORed but for one (ASL AArch64_S1ApplyTablePerms).

    As written in the tables: TCR.HPD and indirect permissions, which make all but NSTable void, are
    applied where permissions are computed.
    """

    ap_table: int = 0
    uxn_table: bool = False
    pxn_table: bool = False
    ns_table: bool = False
    disch: bool = False
    """The Contiguous bit is ignored: of the last table only, or of TCR2.DisCHx for the first
    (ASL AArch64_S1NextWalkStateTable)."""

    def under(self, table: Table) -> TableAttributes:
        """These, and those of one more table."""
        if not table.word >> 59 and not self.disch:
            return self
        return TableAttributes(
            ap_table=self.ap_table | table.ap_table,
            uxn_table=self.uxn_table or table.uxn_table,
            pxn_table=self.pxn_table or table.pxn_table,
            ns_table=self.ns_table or table.ns_table,
            disch=table.disch,
        )


def decode(word: int, level: int, geometry: Geometry, address_format: AddressFormat) -> Descriptor:
    """What `word`, of 64 or 128 bits, is at `level`; total, and free of judgement about addresses.

    A next table's address loses its bits below the granule, a leaf's those below its size.
    Source: ASL AArch64_DecodeDescriptorType.
    """
    if not word & 1:
        return Invalid(word, level)
    if address_format is AddressFormat.D128:
        return _decode_128(word, level, geometry)
    is_table_or_page = bool(word & 2)
    if is_table_or_page and level < FINAL_LEVEL:
        return Table(word, level, address_format.address(word, geometry.granule_log2))
    oa = address_format.address(word, geometry.size_log2(level))
    if is_table_or_page:
        return Page(word, level, oa)
    if geometry.block_allowed(level, wide=address_format.is_wide):
        return Block(word, level, oa)
    return Reserved(word, level)


def _decode_128(word: int, level: int, geometry: Geometry) -> Descriptor:
    """There is no type: a descriptor that skips all levels there are is a leaf."""
    skl = Table.skl.of(word)
    if level + skl > FINAL_LEVEL or (skl == 3 and geometry.granule_log2 != 12):
        return Reserved(word, level)
    if level + skl < FINAL_LEVEL:
        return Table128(word, level, AddressFormat.D128.address(word, geometry.granule_log2))
    oa = AddressFormat.D128.address(word, geometry.size_log2(level))
    return Page128(word, level, oa) if level == FINAL_LEVEL else Block128(word, level, oa)
