"""Tests of harness.linux.maps on lines of real kernels, and on anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.maps import parse_maps, parse_maps_line

MAPS = b"""\
00400000-0049d000 r-xp 00000000 00:02 8                                  /bin/probe
ffffa7d8c000-ffffa7d8d000 ---p 00000000 00:00 0
ffffa7d90000-ffffa7d92000 rw-s 00001000 00:01 5                          /memfd:held (deleted)
fffffffdf000-1000000000000 rw-p 00000000 00:00 0                         [stack]
"""


def test_lines() -> None:
    """Addresses, rights, offset, inode and a name with blanks are read as proc(5) has them."""
    code, none, shared, stack = parse_maps(MAPS)
    assert (code.start_va, code.end_va, code.name) == (0x400000, 0x49D000, "/bin/probe")
    assert (code.readable, code.writable, code.executable, code.shared) == (True, False, True, False)
    assert not none.accessible
    assert none.name == ""
    assert (shared.offset_bytes, shared.inode, shared.shared) == (0x1000, 5, True)
    assert shared.name == "/memfd:held (deleted)"
    assert str(stack) == "0xfffffffdf000-0x1000000000000 rw- [stack]"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "00400000-0049d000 r-xp 00000000 00:02",
        "0049d000-00400000 r-xp 00000000 00:02 8",
        "00400000-00400000 r-xp 00000000 00:02 8",
        "00400000-0049d000 rwzp 00000000 00:02 8",
        "Rss: 4 kB",
    ],
)
def test_what_is_no_range(line: str) -> None:
    """Another line, and a range without an address in it, are not taken."""
    assert parse_maps_line(line) is None


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_total(before: bytes, after: bytes) -> None:
    """Whatever the bytes, the lines that are of the format are found among them."""
    found = parse_maps(before + b"\n" + MAPS + after)
    assert set(parse_maps(MAPS)[:3]) <= set(found)
    assert all(vma.start_va < vma.end_va for vma in found)
