"""Tests of harness.tables.words."""

from __future__ import annotations

import pytest

from harness.tables.words import address, chunk, count, grouped, leaf_name, leaf_sign, safe, short_size, size
from harness.vmsa import Geometry


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 bytes"), (96, "96 bytes"), (4096, "4 KiB"), (3 << 19, "1.5 MiB"), (1 << 47, "128 TiB")],
)
def test_sizes(size_bytes: int, words: str) -> None:
    """A size is said in the largest unit that has a whole part."""
    assert size(size_bytes) == words


def test_short_words() -> None:
    """Narrow places have sizes without a space and addresses in two halves."""
    assert short_size(3 << 19) == "1.5M"
    assert chunk(32 << 20) == "32M"
    assert leaf_sign(1 << 14, 128) == "16K\u00d7128"
    assert grouped(0xFFFF_8000_0000_1000) == "ffff8000_00001000"
    assert address(0x1000) == "0x0000000000001000"
    assert count(1, "leaf", "leaves") == "1 leaf"
    assert count(1234, "table") == "1,234 tables"


@pytest.mark.parametrize(
    ("granule_log2", "level", "contiguous", "words"),
    [
        (12, 3, False, "4K page"),
        (12, 3, True, "4K page in 64K"),
        (14, 3, True, "16K page in 2M"),
        (16, 2, False, "512M block"),
        (14, 2, True, "32M block in 1G"),
        (12, 1, False, "1G block"),
    ],
)
def test_leaf_names(granule_log2: int, level: int, contiguous: bool, words: str) -> None:
    """Leaves and their groups have the sizes of Linux's hugetlb documentation."""
    assert leaf_name(Geometry(granule_log2=granule_log2), level, contiguous=contiguous) == words


def test_safe() -> None:
    """A terminal is given nothing to act on."""
    assert "\x1b" not in safe("core\x1b[2J")
