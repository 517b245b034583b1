"""Descriptors in words: what each field of 64 bits says, in the regime that it is read in.

Names and places: Arm ARM DDI 0487, D8.3. What Linux keeps in the bits that are software's:
arch/arm64/include/asm/pgtable-prot.h and pgtable.h in v6.12. May import `harness.vmsa` and this package's
words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.tables.words import leaf_name, size
from harness.vmsa import (
    AddressFormat,
    Block,
    Descriptor,
    Invalid,
    Page,
    Regime,
    Reserved,
    Shareability,
    Table,
    memory_type,
    shareability,
)
from harness.vmsa.attributes import attr_index
from harness.vmsa.descriptor import Leaf128
from harness.vmsa.field import Field, Flag, bits
from harness.vmsa.walk import is_contiguous

__all__ = ["FieldInWords", "fields_of", "kind_in_words"]

_SHARED: Final = {
    Shareability.NON: "non-shareable",
    Shareability.RESERVED: "reserved",
    Shareability.OUTER: "outer shareable",
    Shareability.INNER: "inner shareable",
}
_LINUX: Final = (
    (51, "PTE_WRITE", "the mapping may be written, in Linux's books"),
    (55, "PTE_DIRTY", "written to, in Linux's books"),
    (56, "PTE_SPECIAL", "no struct page is kept for it"),
    (57, "PTE_DEVMAP", "device memory with struct pages (until v6.18 or so)"),
    (58, "PTE_UFFD_WP", "write-protected by userfaultfd"),
)
"""Software's bits of a valid leaf. Bit 51 is also hardware's DBM."""
_PRESENT_INVALID: Final = 1 << 11


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInWords:
    """One field of a descriptor."""

    place: str
    """`hi:lo`, inclusive, or one bit."""
    name: str
    value: int
    meaning: str


def _one(place: str, name: str, value: int, meaning: str) -> FieldInWords:
    return FieldInWords(place=place, name=name, value=int(value), meaning=meaning)


def _place(where: Field | Flag) -> str:
    """As the manual prints it; descriptors of 64 and of 128 bits have most fields in different places."""
    return f"{where.hi}:{where.lo}" if isinstance(where, Field) else str(where.bit)


def kind_in_words(regime: Regime, descriptor: Descriptor) -> str:
    """What a descriptor is, in one phrase."""
    match descriptor:
        case Table():
            return f"table descriptor: the next table is at {descriptor.next_pa:#x}"
        case Block() | Page():
            name = leaf_name(regime.geometry, descriptor.level, contiguous=is_contiguous(regime, descriptor))
            return f"{name} descriptor: maps to {descriptor.oa:#x}"
        case Reserved():
            return "reserved encoding, which hardware takes for invalid"
        case Invalid():
            return "invalid: bit 0 is clear, so nothing is mapped"


def fields_of(regime: Regime, descriptor: Descriptor) -> tuple[FieldInWords, ...]:
    """The fields of a descriptor, from the highest bit; those of a table that say nothing are left out."""
    match descriptor:
        case Table():
            return _table(regime, descriptor)
        case Block() | Page():
            software = [] if isinstance(descriptor, Leaf128) else _software(descriptor.word)
            return (*software, *_leaf(regime, descriptor))
        case Reserved():
            why = "a page has bits 1:0 = 11" if descriptor.level == 3 else "no block is legal at this level"
            if regime.geometry.desc_log2 == 4:
                why = "it skips more levels than there are"
            return (_one("1:0", "type", descriptor.word & 3, why),)
        case Invalid():
            return _invalid(descriptor.word)


def _table(regime: Regime, table: Table) -> tuple[FieldInWords, ...]:
    void = " (without effect: hierarchical permissions are disabled)" if regime.hpd else ""
    said = []
    if table.ns_table:
        said.append(_one(_place(type(table).ns_table), "NSTable", 1, "of the Secure state only"))
    if table.ap_table & 2:
        said.append(
            _one(str(type(table).ap_table.hi), "APTable[1]", 1, f"nothing below may be written{void}")
        )
    if table.ap_table & 1:
        said.append(
            _one(str(type(table).ap_table.lo), "APTable[0]", 1, f"EL0 may access nothing below{void}")
        )
    if table.uxn_table:
        said.append(
            _one(_place(type(table).uxn_table), "UXNTable", 1, f"EL0 may execute nothing below{void}")
        )
    if table.pxn_table:
        said.append(
            _one(_place(type(table).pxn_table), "PXNTable", 1, f"EL1 may execute nothing below{void}")
        )
    if table.skl:
        levels = f"the next table is of level {table.next_level}, and so much larger"
        said.append(_one(_place(type(table).skl), "SKL", table.skl, levels))
    if table.access_flag:
        said.append(_one("10", "AF", 1, "the table was used (only with FEAT_HAFT; Linux sets it anyway)"))
    return tuple(said)


def _leaf(regime: Regime, leaf: Block | Page) -> list[FieldInWords]:
    """Hardware's fields of a leaf."""
    said = []
    if regime.pie:
        said += _indirect(regime, leaf)
    else:
        said.append(_one("54", "UXN", leaf.uxn, _may(not leaf.uxn, "EL0", "execute")))
        said.append(_one("53", "PXN", leaf.pxn, _may(not leaf.pxn, "EL1", "execute")))
    said.append(_contiguous(regime, leaf))
    if not regime.pie:
        said.append(_one("51", "DBM", leaf.dbm, _dbm(regime, leaf)))
    said.append(
        _one(
            _place(type(leaf).gp),
            "GP",
            leaf.gp,
            "guarded: branches must land on BTI" if leaf.gp else "not guarded",
        )
    )
    if isinstance(leaf, Block) and leaf.nt:
        said.append(_one(_place(type(leaf).nt), "nT", 1, "the block is being changed (FEAT_BBM): may fault"))
    said.append(_one("11", "nG", leaf.ng, "belongs to one ASID" if leaf.ng else "global: for every ASID"))
    said.append(_one("10", "AF", leaf.af, _access_flag(regime, leaf)))
    shared = _SHARED[shareability(regime, leaf)]
    if regime.address_format is AddressFormat.LPA2:
        said.append(_one("9:8", "OA[51:50]", leaf.sh, f"address bits; TCR.SH says {shared}"))
    else:
        said.append(_one("9:8", "SH", leaf.sh, shared))
    if not regime.pie:
        said.append(_one("7", "AP[2]", leaf.ap >> 1, "read-only" if leaf.ap & 2 else "may be written"))
        said.append(_one("6", "AP[1]", leaf.ap & 1, "EL0's too" if leaf.ap & 1 else "EL1's only"))
    index = attr_index(regime, leaf)
    said.append(_one("4:2", "AttrIndx", leaf.attr_indx, f"MAIR byte {index}: {memory_type(regime, leaf)}"))
    return said


def _indirect(regime: Regime, leaf: Block | Page) -> list[FieldInWords]:
    index = leaf.pi_index
    el1, el0 = (pir >> 4 * index & 0xF for pir in (regime.pir, regime.pire0))
    said = [
        _one(
            "118:115" if isinstance(leaf, Leaf128) else "54,53,51,6",
            "PIIndex",
            index,
            f"PIR_EL1 has {el1:#x} there, PIRE0_EL1 {el0:#x}",
        ),
        _one("7", "nDirty", leaf.ndirty, "clean: not yet written to" if leaf.ndirty else "dirty"),
    ]
    if regime.poe or regime.e0poe:
        said.append(_one(_place(type(leaf).po_index), "POIndex", leaf.po_index, "selects the overlay in POR"))
    return said


def _may(may: bool, who: str, what: str) -> str:
    return f"{who} may {what}, as far as this bit goes" if may else f"{who} may not {what}"


def _contiguous(regime: Regime, leaf: Block | Page) -> FieldInWords:
    group_log2 = regime.geometry.contiguous_log2(leaf.level)
    if regime.pnch:
        return _one("52", "Protected", leaf.contiguous, "FEAT_THE's: not the Contiguous bit")
    if not leaf.contiguous:
        meaning = "stands alone"
    elif not group_log2:
        meaning = "ignored at this level"
    else:
        group = size(1 << regime.geometry.size_log2(leaf.level) + group_log2)
        meaning = f"one of {1 << group_log2} that map {group} as one"
    return _one(_place(type(leaf).contiguous), "Contiguous", leaf.contiguous, meaning)


def _dbm(regime: Regime, leaf: Block | Page) -> str:
    if not leaf.dbm:
        return "AP[2] alone says whether it may be written"
    if not (regime.ha and regime.hd):
        return "without effect: hardware does not keep dirty state here (TCR.HA and HD)"
    state = "clean: the first write clears AP[2]" if leaf.ap & 2 else "dirty"
    return f"hardware keeps dirty state: {state}"


def _access_flag(regime: Regime, leaf: Block | Page) -> str:
    if leaf.af:
        return "was accessed"
    return "not yet accessed; hardware sets it" if regime.ha else "not yet accessed: the first access faults"


def _software(word: int) -> list[FieldInWords]:
    return [
        _one(str(bit), name, 1, f"{meaning} (software's)")
        for bit, name, meaning in reversed(_LINUX)
        if word >> bit & 1 and bit > 54
    ] + [_one("51", "PTE_WRITE", 1, _LINUX[0][2])] * (word >> 51 & 1)


def _invalid(word: int) -> tuple[FieldInWords, ...]:
    """What Linux keeps where hardware sees nothing."""
    if not word:
        return ()
    if word & _PRESENT_INVALID:
        said = _one("11", "PTE_PRESENT_INVALID", 1, "kept by Linux, closed to all: PROT_NONE, most likely")
        return (said, _one("49:12", "address", bits(word, 49, 12) << 12, "what it would map to, roughly"))
    if word & 3:
        return (_one("1", "type", word >> 1 & 1, "bit 1 of an invalid descriptor means nothing"),)
    return (
        _one(
            "61:12",
            "swap offset",
            bits(word, 61, 12),
            "in a Linux user table: an entry of swap, or migrating",
        ),
        _one("10:6", "swap type", bits(word, 10, 6), "which swap device, or which other use"),
        _one("3", "uffd-wp", word >> 3 & 1, "write-protected by userfaultfd"),
        _one("2", "exclusive", word >> 2 & 1, "belongs to one process"),
    )
