"""The tables' numbers, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.kernels.kernel import Kernel
from harness.kernels.size import KernelSize
from harness.report.sizes.comparison import Comparison
from harness.report.sizes.sheet import guest_sheet, kb, signed_kb, signed_percent, size_sheet


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0"), (1024, "1"), (56213504, "54,896"), (None, "\u2013")]
)
def test_kb(size_bytes: int | None, text: str) -> None:
    """KB of 1024 bytes, rounded; a dash for what is not known."""
    assert kb(size_bytes) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(2201600, "+2,150"), (-12288, "-12"), (0, "0"), (-100, "0"), (100, "0"), (-800, "-1")],
)
def test_signed_kb(size_bytes: int, text: str) -> None:
    """A sign for what differs, none for what rounds to nothing."""
    assert signed_kb(size_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.917, "+3.9 %"), (-0.04, "0.0 %"), (0.06, "+0.1 %"), (-10.0, "-10.0 %"), (None, "\u2013")],
)
def test_signed_percent(value: float | None, text: str) -> None:
    """One decimal, as the kernel's developers quote it."""
    assert signed_percent(value) == text


def test_sizes(comparison: Comparison) -> None:
    """Image, compressed, text, data, gaps, bss and RAM, with differences against the base."""
    sheet = size_sheet(comparison)
    assert sheet.columns == ("Image", "gzip -9", "zstd -19", "text", "data", "gaps", "bss", "in RAM")
    base, _, boot = sheet.rows
    assert [kb(value) for value in base.values] == ["1,000", "400", "390", "500", "250", "250", "5", "1,050"]
    assert (base.against, boot.against) == ("", "base-4k")
    assert boot.differences()[:3] == ("+39", "+1", "+1")
    assert boot.percents() == (
        "+3.9 %", "+0.2 %", "+0.3 %", "+3.9 %", "+3.9 %", "+3.9 %", "0.0 %", "+3.7 %",
    )  # fmt: skip


def test_whether_growth_compresses_away(comparison: Comparison) -> None:
    """What an Image grew by is told beside what is left of it when compressed."""
    notes = size_sheet(comparison).notes
    assert "boot: +39 KB over base-4k; +1 after gzip -9, +1 after zstd -19" in notes
    assert not any(note.startswith("base-4k: ") for note in notes)


def test_sizes_by_symbols(comparison: Comparison, make_size: Callable[..., KernelSize]) -> None:
    """With a kernel that has no vmlinux the columns are others, and it is said that they are."""
    kernels = (*comparison.kernels, make_size("debian", 100, 40, sections=False))
    sheet = size_sheet(replace(comparison, kernels=kernels))
    assert sheet.columns[3:] == ("text", "rodata", "init", "data", "bss", "in RAM")
    assert [kb(value) for value in sheet.rows[-1].values[3:]] == ["50", "25", "1", "24", "7", "150"]
    assert any("not comparable with what `size` prints" in note for note in sheet.notes)


def test_a_combined_image(comparison: Comparison, make_size: Callable[..., KernelSize]) -> None:
    """Three kernels in one file have dashes for parts, and the sheet says what they are."""
    member: Kernel = comparison.kernels[0].kernel
    combined = make_size("combined", 2000, 900, sections=False, extents=False, members=(member, member))
    sheet = size_sheet(replace(comparison, kernels=(*comparison.kernels, combined)))
    row = sheet.rows[-1]
    assert [kb(value) for value in row.values] == ["2,000", "900", "890", *["\u2013"] * 5]
    assert row.percents() == ("+100.0 %", "+125.0 %", "+128.2 %", *["\u2013"] * 5)
    assert any("not boot-time selection inside one kernel" in note for note in sheet.notes)


def test_guests(comparison: Comparison) -> None:
    """What is lost and its parts; each guest against one of its page size."""
    sheet = guest_sheet(comparison)
    assert sheet is not None
    assert sheet.title == "Memory of a booted guest of 64 MiB, in KB"
    assert sheet.columns == ("MemTotal", "lost", "code", "rwdata", "rodata", "bss", "memmap", "other")
    first, _, _, last = sheet.rows
    assert [kb(value) for value in first.values] == ["64,536", "1,000", "10", "20", "30", "40", "100", "800"]
    assert (last.label, last.against) == ("boot 16K", "base-16k")
    assert (last.differences()[1], last.percents()[1]) == ("+100", "+12.5 %")


def test_a_guest_whose_log_says_nothing(comparison: Comparison) -> None:
    """Without the Memory line what is lost is known, its parts are dashes, and the reason is told."""
    silent = replace(comparison.guests[0], memory=replace(comparison.guests[0].memory, boot=None))
    sheet = guest_sheet(replace(comparison, guests=(silent,)))
    assert sheet is not None
    assert [kb(value) for value in sheet.rows[0].values[1:6]] == ["1,000", *["\u2013"] * 4]
    assert "base-4k: its log has no Memory line" in sheet.notes


def test_no_guests(comparison: Comparison) -> None:
    """Nothing is shown of guests that were not booted."""
    assert guest_sheet(replace(comparison, guests=())) is None
