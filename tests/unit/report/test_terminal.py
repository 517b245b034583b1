"""The verdict table as people and log files get it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from harness.report.terminal import make_console, print_result, render_terminal
from harness.verdict import CellResult, CheckResult, Finding, MatrixResult, Verdict


def test_table_fits_eighty_columns(mixed: MatrixResult) -> None:
    """With the longest verdict and a long kernel name, each cell's line still holds all its columns."""
    lines = render_terminal(mixed).splitlines()
    rows = [line for line in lines if "16K" in line and "neoverse-n1" in line and "run again" not in line]
    assert len(rows) == len(mixed.cells)
    assert all(row.split()[0] == "debian-16k" for row in rows)
    assert any(row.rstrip().endswith("WRONG_PAGE_SIZE") for row in rows)
    assert max(len(line) for line in lines[:-1] if "run again" not in line) <= 80


def test_pass_is_short(passed: MatrixResult) -> None:
    """The table, what was skipped with its reason, and the summary; the summary is the last line."""
    lines = render_terminal(passed).rstrip().splitlines()
    table, skips, summary = 2 + 3, 2 + 3, 2
    assert len(lines) == table + skips + summary
    assert all("swap: no CONFIG_ZRAM" in line for line in lines[table + 2 : table + skips])
    assert lines[-1] == "3 of 3 cells PASS in 14.2 s"
    assert "2/2" in lines[2]


def test_what_was_chosen_at_boot(chosen: MatrixResult) -> None:
    """How a kernel was asked, its twin beside it with what differs, and the note, all in 80 columns."""
    text = render_terminal(chosen)
    assert "(none)" in text
    assert "  none: no arm64.pagesize at all\n" in text
    (pair,) = [line for line in text.splitlines() if "debian-16k" in line and "combined" in line]
    assert "PASS 2/2" in pair
    assert "page-size: PASS at boot, absent compiled in" in " ".join(text.split())
    assert "Note: combined is 3 kernels in one file.\n" in text
    assert max(len(line) for line in text.splitlines() if "run again" not in line) <= 80


def test_trouble_is_explained(mixed: MatrixResult) -> None:
    """Reason, finding, diagnosis, bundle and the command on a line of its own, not wrapped."""
    text = render_terminal(mixed)
    assert "because of PANIC" in text
    assert "block-ext4: mount status: wanted 0, saw 1: Invalid argument" in text
    assert "| vCPU 0: __no_granule_support+0x20/0x28" in text
    assert "kept in:   bundles/x" in text
    assert f"  run again: {mixed.cells[0].rerun}\n" in text
    assert "debian-4k is a 4K-only kernel" in text


def test_findings_are_bounded(cell: Callable[..., CellResult]) -> None:
    """A thousand findings of a megabyte in all do not flood the terminal; their number is said."""
    findings = tuple(Finding(what=f"page {n}", wanted="0", seen="x" * 1000) for n in range(1000))
    check = CheckResult(name="mmap", verdict=Verdict.FAIL, expectations=1000, duration_s=1, findings=findings)
    text = render_terminal(MatrixResult(expected=1, cells=(cell(verdict=Verdict.FAIL, checks=(check,)),)))
    assert "and 992 more findings" in text
    assert len(text) < 10_000


def test_hostile_text_does_not_reach_the_terminal(hostile: MatrixResult) -> None:
    """No escape sequence of a guest's is passed on, on a terminal with colours either."""
    stream = io.StringIO()
    print_result(hostile, Console(file=stream, width=80, markup=False, no_color=True, force_terminal=False))
    assert "\x1b" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()
    assert "␛[2J" in stream.getvalue()


def test_markup_of_a_kernel_name_is_text(cell: Callable[..., CellResult]) -> None:
    """`[red]` in a file's name is shown as it is."""
    stream = io.StringIO()
    print_result(MatrixResult(expected=1, cells=(cell(kernel="[red]x y"),)), make_console(stream, width=80))
    assert "[red]x" in stream.getvalue()


def test_no_color_is_honoured(mixed: MatrixResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set even a terminal gets no colour codes; without it, it does."""
    coloured = []
    for value in (None, "1"):
        if value:
            monkeypatch.setenv("NO_COLOR", value)
        else:
            monkeypatch.delenv("NO_COLOR", raising=False)
            monkeypatch.setenv("TERM", "xterm-256color")
        console = Console(file=io.StringIO(), width=80, force_terminal=True, markup=False)
        print_result(mixed, console)
        assert isinstance(console.file, io.StringIO)
        coloured.append("\x1b[1;31m" in console.file.getvalue() or "\x1b[32m" in console.file.getvalue())
    assert coloured == [True, False]


def test_missing_cell_is_in_the_summary(passed: MatrixResult) -> None:
    """Two of three cells that ran, both PASS, do not end in a line that reads like success."""
    text = render_terminal(dataclasses.replace(passed, cells=passed.cells[:2]))
    assert text.rstrip().endswith("2 of 3 cells PASS, 1 did not run in 14.2 s")
