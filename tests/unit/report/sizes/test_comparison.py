"""What is held against what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.kernels.size import KernelSize
from harness.report.sizes.comparison import Comparison, Parts, SizedGuest, percent
from harness.spec import PageSize


@pytest.mark.parametrize(
    ("value", "base", "expected"),
    [(1039, 1000, 3.9), (961, 1000, -3.9), (5, 5, 0.0), (0, 4, -100.0), (1, 0, None)],
)
def test_percent(value: int, base: int, expected: float | None) -> None:
    """The difference in percent of the base, and nothing where that is 0."""
    assert percent(value, base) == (None if expected is None else pytest.approx(expected))


def test_sections_need_every_vmlinux(comparison: Comparison, make_size: Callable[..., KernelSize]) -> None:
    """One kernel without a vmlinux makes all be told by symbols: a column never has two meanings."""
    assert comparison.parts is Parts.SECTIONS
    mixed = replace(comparison, kernels=(*comparison.kernels, make_size("debian", 9, 9, sections=False)))
    assert mixed.parts is Parts.SYMBOLS


def test_a_kernel_without_parts_decides_nothing(
    comparison: Comparison, make_size: Callable[..., KernelSize]
) -> None:
    """A combined Image, which has no parts, leaves the others theirs."""
    odd = make_size("combined", 9, 9, sections=False, extents=False)
    assert replace(comparison, kernels=(*comparison.kernels, odd)).parts is Parts.SECTIONS
    assert Comparison(kernels=(odd,), base="combined").parts is Parts.NONE


def _against(comparison: Comparison) -> list[str]:
    found = [comparison.against(one) for one in comparison.guests]
    return ["" if one is None else one.label for one in found]


def test_guests_of_one_page_size(comparison: Comparison) -> None:
    """A guest is held against one of its page size: the base's, else the kernel's that was named first."""
    assert _against(comparison) == ["", "base-4k", "base-4k", "base-16k"]


def test_guests_when_the_base_has_every_page_size(comparison: Comparison) -> None:
    """A boot-time base is held against by each guest at its own page size."""
    assert _against(replace(comparison, base="boot")) == ["boot 4K", "boot 16K", "", ""]


def test_the_only_guest_of_its_page_size(comparison: Comparison) -> None:
    """A guest that is alone at its page size is held against the base's."""
    alone = replace(comparison, guests=comparison.guests[:2])
    assert _against(alone) == ["", "base-4k"]
    assert _against(replace(comparison, guests=comparison.guests[1:2])) == [""]


def test_a_guest_says_its_page_size_once(make_guest: Callable[..., SizedGuest]) -> None:
    """The page size is added to a label that does not end with it."""
    assert make_guest("trimmed-64k", PageSize.K64, 1).label == "trimmed-64k"
    assert make_guest("trimmed-64k", PageSize.K4, 1).label == "trimmed-64k 4K"
    assert make_guest("boot", PageSize.K64, 1).label == "boot 64K"
