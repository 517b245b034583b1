"""Tests of harness.linux.pagemap: words as the kernel's documentation has them, records as the probe has."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.pagemap import PagemapWord, parse_pagemap, parse_pages


def test_a_present_page() -> None:
    """Of a present page bits 54:0 are its frame."""
    word = PagemapWord(0xA180_0000_0004_1234)
    assert (word.present, word.swapped, word.file, word.exclusive) == (True, False, True, True)
    assert word.soft_dirty
    assert word.pfn == 0x41234


def test_a_page_in_swap() -> None:
    """Of a page in swap they are the area in 4:0 and the offset above it."""
    word = PagemapWord(1 << 62 | 77 << 5 | 3)
    assert (word.present, word.swapped) == (False, True)
    assert (word.swap_type, word.swap_offset) == (3, 77)


def test_words() -> None:
    """Words are 8 bytes, least significant first; a piece of one at the end is none."""
    assert parse_pagemap(struct.pack("<QQ", 1, 2) + b"\0" * 7) == (PagemapWord(1), PagemapWord(2))


def test_pages() -> None:
    """Records are sorted by address; an address counts once, and a page of which nothing is known not."""
    records = ((0x3000, 1 << 63 | 7, 9), (0x1000, 1 << 62, 0), (0x3000, 1 << 63, 1), (0x2000, 0, 5))
    pages = parse_pages(b"".join(struct.pack("<QQQ", *one) for one in records) + b"rest")
    assert pages.va.tolist() == [0x1000, 0x3000]
    assert pages.present.tolist() == [False, True]
    assert pages.swapped.tolist() == [True, False]
    assert pages.pfn.tolist() == [0, 7]
    assert pages.flags.tolist() == [0, 9]


@given(st.binary(max_size=1000))
def test_total(raw: bytes) -> None:
    """Whatever the bytes, there are words and pages, and addresses are in order."""
    assert len(parse_pagemap(raw)) == len(raw) // 8
    pages = parse_pages(raw)
    assert len(pages) <= len(raw) // 24
    assert bool(np.all(pages.va[1:] > pages.va[:-1]))
