"""Descriptors: types by level, addresses in three formats, attribute bits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.vmsa import (
    AddressFormat,
    Block,
    Geometry,
    Invalid,
    Page,
    Reserved,
    Table,
    TableAttributes,
    decode,
)
from harness.vmsa.descriptor import Leaf

PA48, LPA, LPA2 = AddressFormat.PA48, AddressFormat.LPA, AddressFormat.LPA2
K4, K16, K64 = (Geometry(granule_log2=log2) for log2 in (12, 14, 16))


@pytest.mark.parametrize(
    ("geometry", "format_", "level", "low", "wanted"),
    [
        (K4, PA48, 3, 0b00, Invalid), (K4, PA48, 3, 0b10, Invalid), (K4, PA48, 1, 0b10, Invalid),
        (K4, PA48, 3, 0b01, Reserved), (K4, PA48, 3, 0b11, Page),
        (K4, PA48, 2, 0b01, Block), (K4, PA48, 1, 0b01, Block), (K4, PA48, 0, 0b01, Reserved),
        (K4, LPA2, 0, 0b01, Block), (K4, LPA2, -1, 0b01, Reserved), (K4, LPA2, -1, 0b11, Table),
        (K16, PA48, 2, 0b01, Block), (K16, PA48, 1, 0b01, Reserved), (K16, LPA2, 1, 0b01, Block),
        (K16, LPA2, 0, 0b01, Reserved), (K64, PA48, 2, 0b01, Block), (K64, PA48, 1, 0b01, Reserved),
        (K64, LPA, 1, 0b01, Block), (K64, LPA, 1, 0b11, Table), (K64, LPA, 3, 0b11, Page),
    ],
)  # fmt: skip
def test_types(geometry: Geometry, format_: AddressFormat, level: int, low: int, wanted: type) -> None:
    """Bits 1:0 and the level say what a descriptor is; an illegal block is none."""
    assert type(decode(0x0000_0000_4000_0000 | low, level, geometry, format_)) is wanted


@pytest.mark.parametrize(
    ("geometry", "format_", "level", "word", "address"),
    [
        # Tables lose the bits below the granule, leaves those below their size.
        (K4, PA48, 0, 0x0000_FFFF_FFFF_FFFF, 0x0000_FFFF_FFFF_F000),
        (K4, PA48, 2, 0x0000_FFFF_FFFF_FFFD, 0x0000_FFFF_FFE0_0000),
        (K16, PA48, 3, 0x0000_FFFF_FFFF_FFFF, 0x0000_FFFF_FFFF_C000),
        # 64K: 15:12 are bits 51:48.
        (K64, LPA, 3, 0x0000_1234_5678_5003, 0x0005_1234_5678_0000),
        (K64, LPA, 2, 0x0000_1234_5678_F001, 0x000F_1234_4000_0000),
        (K64, PA48, 3, 0x0000_1234_5678_5003, 0x0000_1234_5678_0000),
        # DS=1: 49:48 in place, 9:8 are bits 51:50.
        (K4, LPA2, 3, 0x0003_1234_5678_9203, 0x000B_1234_5678_9000),
        (K4, LPA2, 1, 0x0001_1234_5678_9101, 0x0005_1234_4000_0000),
        (K16, LPA2, 0, 0x0002_0000_0000_4303, 0x000E_0000_0000_4000),
    ],
)
def test_addresses(geometry: Geometry, format_: AddressFormat, level: int, word: int, address: int) -> None:
    """The address bits of each format, each where it lives."""
    descriptor = decode(word, level, geometry, format_)
    assert not isinstance(descriptor, Invalid | Reserved)
    assert (descriptor.next_pa if isinstance(descriptor, Table) else descriptor.oa) == address


@settings(max_examples=60)
@given(
    format_=st.sampled_from(AddressFormat),
    pa=st.integers(0, (1 << 52) - 1),
    other=st.integers(0, (1 << 64) - 1),
)
def test_encoding_an_address_is_the_inverse(format_: AddressFormat, pa: int, other: int) -> None:
    """A page-aligned address survives encode and decode, and touches no other bit."""
    lo = 16 if format_ is LPA else 12
    pa &= (1 << format_.address_bits) - (1 << lo)
    word = other & ~format_.mask(lo) | format_.encode(pa)
    assert format_.address(word, lo) == pa
    assert word & ~format_.mask(lo) == other & ~format_.mask(lo)


@pytest.mark.parametrize("format_", AddressFormat)
def test_addresses_too_wide_are_refused(format_: AddressFormat) -> None:
    """Nothing is silently cut off."""
    with pytest.raises(ValueError, match="does not fit"):
        format_.encode(1 << format_.address_bits)


# Leaf words of Linux guests with 4K pages and LPA2, without address bits, and what each of them is for.
@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("user read-write", (0x00E8_0000_0000_0C43, {"ap": 1, "af": 1, "ng": 1, "dbm": 1, "pxn": 1})),
        ("user text", (0x0020_0000_0000_0CC3, {"ap": 3, "af": 1, "dbm": 0, "pxn": 1, "uxn": 0})),
        ("text faulted around", (0x0020_0000_0000_08C3, {"ap": 3, "af": 0, "ng": 1})),
        ("PROT_READ", (0x00E0_0000_0000_0CC3, {"ap": 3, "pxn": 1, "uxn": 1, "dbm": 0, "software": 1})),
        ("PROT_EXEC with EPAN", (0x00A0_0000_0000_0C83, {"ap": 2, "pxn": 1, "uxn": 0, "software": 1})),
        ("zero page", (0x0160_0000_0000_0CC3, {"ap": 3, "software": 2, "dbm": 0})),
        ("BTI", (0x0124_0000_0000_0CC3, {"gp": 1, "pxn": 1, "uxn": 0})),
        ("MTE", (0x00E8_0000_0000_0C47, {"attr_indx": 1})),
        ("contpte", (0x00F8_0000_0000_0C43, {"contiguous": 1, "dbm": 1})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_leaf_words_of_linux(word: str, wanted: tuple[int, dict[str, int]]) -> None:
    """The attribute bits of words seen in guests, field by field."""
    raw, fields = wanted
    page = decode(raw, 3, K4, LPA2)
    assert isinstance(page, Page), word
    assert {name: int(getattr(page, name)) for name in fields} == fields


def test_prot_none_is_invalid() -> None:
    """What Linux calls present and hardware does not."""
    assert decode(0x00E0_0000_0000_0C82, 3, K4, LPA2) == Invalid(0x00E0_0000_0000_0C82, 3)


def test_huge_page_is_a_block() -> None:
    """A transparent huge page at level 2."""
    block = decode(0x00E8_0000_4020_0C41, 2, K4, LPA2)
    assert block == Block(0x00E8_0000_4020_0C41, 2, 0x4020_0000)


@pytest.mark.parametrize(
    ("bit", "index"), [(6, 1), (51, 2), (53, 4), (54, 8), (7, 0), (52, 0), (55, 0), (5, 0)]
)
def test_permission_index_is_scattered(bit: int, index: int) -> None:
    """PIIndex is bits 54, 53, 51 and 6, in that order, and no other."""
    assert Page(1 << bit | 3, 3, 0).pi_index == index


def test_table_attributes_accumulate() -> None:
    """What tables hand down is ORed; bit 10, which new kernels set, is none of it."""
    table = decode(0x1800_0001_3FFF_F403, 0, K4, PA48)
    assert isinstance(table, Table)
    assert (table.pxn_table, table.uxn_table, table.ap_table, table.access_flag) == (True, True, 0, True)
    below = TableAttributes(ap_table=1).under(table).under(Table(1 << 62 | 1 << 63 | 3, 1, 0))
    assert below == TableAttributes(ap_table=3, uxn_table=True, pxn_table=True, ns_table=True)
    assert TableAttributes().under(Table(3 | 0x07F0 << 48, 0, 0)) == TableAttributes()


def test_fields_do_not_overlap() -> None:
    """The attribute fields of a leaf that are read together have no bit in common."""
    together = (
        Leaf.attr_indx, Leaf.ns, Leaf.ap, Leaf.sh, Leaf.af, Leaf.ng, Leaf.nt, Leaf.gp, Leaf.dbm,
        Leaf.contiguous, Leaf.pxn, Leaf.uxn, Leaf.software, Leaf.pbha,
    )  # fmt: skip
    assert sum(field.mask for field in together).bit_count() == sum(f.mask.bit_count() for f in together)
