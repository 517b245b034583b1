"""Tests of harness.linux.kpageflags: the bits of include/uapi/linux/kernel-page-flags.h."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.kpageflags import PageFlag, parse_kpageflags


@pytest.mark.parametrize(
    ("name", "bit"),
    [
        ("LRU", 5),
        ("BUDDY", 10),
        ("MMAP", 11),
        ("ANON", 12),
        ("COMPOUND_HEAD", 15),
        ("COMPOUND_TAIL", 16),
        ("HUGE", 17),
        ("NOPAGE", 20),
        ("THP", 22),
        ("ZERO_PAGE", 24),
        ("PGTABLE", 26),
        ("RESERVED", 32),
    ],
)
def test_bits(name: str, bit: int) -> None:
    """Each flag is the bit that the header gives KPF_NAME."""
    assert PageFlag[name] == 1 << bit


def test_compound() -> None:
    """Head and tail are parts of a compound page, and nothing else is."""
    assert PageFlag.COMPOUND_HEAD.is_compound
    assert (PageFlag.COMPOUND_TAIL | PageFlag.THP).is_compound
    assert not PageFlag.HUGE.is_compound


@given(st.binary(max_size=200))
def test_total(raw: bytes) -> None:
    """Whatever the bytes, whole words are taken."""
    words = parse_kpageflags(raw)
    assert struct.pack(f"<{len(words)}Q", *words) == raw[: len(raw) // 8 * 8]
