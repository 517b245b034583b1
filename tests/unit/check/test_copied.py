"""Tests of harness.check.copied."""

from __future__ import annotations

import pytest

from harness.check.copied import CopiedTables


def _counting(pa: int, size_bytes: int) -> bytes | None:
    return bytes((pa + at) // 4 & 0xFF for at in range(size_bytes)) if pa < 0x8000 else None


@pytest.mark.parametrize(("pa", "size_bytes"), [(0x1000, 8), (0x1FF8, 16), (0x0, 0x3000), (0x1234, 1)])
def test_what_was_read_can_be_read_again(pa: int, size_bytes: int) -> None:
    """Reads within and across granules are the memory's, before and after it is closed."""
    copy = CopiedTables(_counting, 4096)
    assert copy.read(pa, size_bytes) == _counting(pa, size_bytes)
    copy.close()
    assert copy.read(pa, size_bytes) == _counting(pa, size_bytes)


def test_what_was_not_read_is_not_there_any_more() -> None:
    """After it is closed nothing new is read, and a read that needs some is no half answer."""
    copy = CopiedTables(_counting, 4096)
    copy.read(0x1000, 8)
    copy.close()
    assert copy.read(0x1800, 8) is not None
    assert copy.read(0x3000, 8) is None
    assert copy.read(0x1FF8, 16) is None


def test_what_is_not_memory_is_none() -> None:
    """Beyond memory there is nothing, before and after."""
    copy = CopiedTables(_counting, 4096)
    assert copy.read(0x9000, 8) is None
    copy.close()
    assert copy.read(0x9000, 8) is None
