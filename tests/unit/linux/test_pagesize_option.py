"""Tests of harness.linux.pagesize_option: the rule, on command lines and CPUs of every kind."""

from __future__ import annotations

import pytest

from harness.linux.pagesize_option import option, page_size_due
from harness.spec import PageSize

K4, K16, K64 = PageSize
ALL = frozenset(PageSize)
NO_16K = frozenset({K4, K64})
ONLY_4K = frozenset({K4})
NO_64K = frozenset({K4, K16})


@pytest.mark.parametrize("size", list(PageSize))
def test_each_size_by_its_name(size: PageSize) -> None:
    """A size that the CPU has is what its name gives."""
    assert page_size_due(f"console=ttyAMA0 {option(size)} quiet", ALL) is size


@pytest.mark.parametrize(
    ("cmdline", "granules", "due"),
    [
        ("", ALL, K64),
        ("", NO_64K, K16),
        ("", ONLY_4K, K4),
        ("arm64.pagesize", ALL, K64),
        ("arm64.pagesize=", ALL, K64),
        ("arm64.pagesize=8k", ALL, K64),
        ("arm64.pagesize=4K", ALL, K64),
        ("ARM64.PAGESIZE=4k", ALL, K64),
        ("arm64.pagesize=4kb", ALL, K64),
        ("arm64.pagesize=4096", ALL, K64),
        ("arm64.pagesizes=4k", ALL, K64),
        ("xarm64.pagesize=4k", ALL, K64),
        ("arm64.pagesize=4k=16k", ALL, K64),
        ("arm64.pagesize=64k arm64.pagesize=4k", ALL, K4),
        ("arm64.pagesize=4k arm64.pagesize=8k", ALL, K4),
        ("arm64.pagesize=4k\tarm64.pagesize=16k\n", ALL, K16),
        ("arm64.pagesize=16k", NO_16K, K64),
        ("arm64.pagesize=4k arm64.pagesize=16k", NO_16K, K64),
        ("arm64.pagesize=16k arm64.pagesize=4k", NO_16K, K4),
        ("arm64.pagesize=64k", NO_64K, K16),
        ("arm64.pagesize=64k", ONLY_4K, K4),
    ],
)
def test_the_rule(cmdline: str, granules: frozenset[PageSize], due: PageSize) -> None:
    """The last recognised value counts, case matters, and all else is the largest size that the CPU has."""
    assert page_size_due(cmdline, granules) is due


def test_a_cpu_without_granules_is_refused() -> None:
    """Nothing is due where nothing boots."""
    with pytest.raises(ValueError, match="empty"):
        page_size_due("", frozenset())
