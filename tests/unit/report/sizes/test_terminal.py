"""The tables as people see them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

from harness.kernels.size import KernelSize
from harness.report.sizes.comparison import Comparison
from harness.report.sizes.terminal import print_comparison
from harness.report.terminal import make_console


def _printed(comparison: Comparison, width: int = 80) -> list[str]:
    stream = io.StringIO()
    print_comparison(comparison, make_console(stream, width=width))
    return stream.getvalue().splitlines()


def test_a_kernel_in_three_lines(comparison: Comparison) -> None:
    """Sizes, differences in KB, and percent stand below each other, within 80 columns."""
    lines = _printed(comparison)
    at = next(number for number, line in enumerate(lines) if line.startswith("boot "))
    assert lines[at].split()[:4] == ["boot", "1,039", "401", "391"]
    assert lines[at + 1].split()[:4] == ["vs", "base-4k", "+39", "+1"]
    assert lines[at + 2].split()[:4] == ["+3.9", "%", "+0.2", "%"]
    assert max(map(len, lines)) <= 80


def test_numbers_are_never_cut(comparison: Comparison) -> None:
    """A narrow terminal wraps lines; no digit is lost."""
    assert not any("\u2026" in line for line in _printed(comparison, 30))


def test_why_there_is_no_guest(comparison: Comparison) -> None:
    """What could not be booted is told, with and without other guests."""
    told = replace(comparison, without_guest=("no guest 16k-x: no granule",))
    assert _printed(told, 200).count("no guest 16k-x: no granule") == 1
    assert _printed(replace(told, guests=()), 200).count("no guest 16k-x: no granule") == 1


def test_a_name_is_text(comparison: Comparison, make_size: Callable[..., KernelSize]) -> None:
    """What a terminal would act on in a file's name is made visible."""
    odd = Comparison(kernels=(make_size("a\x1b[31mb", 10, 20),), base="a\x1b[31mb")
    assert "\x1b" not in "\n".join(_printed(odd))
