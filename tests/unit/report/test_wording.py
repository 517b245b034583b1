"""The summary line, word for word."""

from __future__ import annotations

import dataclasses

from harness.report.wording import summary_line
from harness.verdict import MatrixResult, Skipped, Verdict


def test_all_passed(passed: MatrixResult) -> None:
    """The line a person waits for."""
    assert summary_line(passed) == "3 of 3 cells PASS in 14.2 s"


def test_one_failed(passed: MatrixResult) -> None:
    """What is not PASS is counted by its verdict."""
    failed = dataclasses.replace(passed.cells[2], verdict=Verdict.FAIL)
    result = dataclasses.replace(passed, cells=(*passed.cells[:2], failed))
    assert summary_line(result) == "2 of 3 cells PASS, 1 FAIL in 14.2 s"


def test_missing_and_skipped_are_said(passed: MatrixResult) -> None:
    """A cell that never ran is not passed over."""
    result = dataclasses.replace(passed, cells=passed.cells[:2], skipped=(Skipped(id="a", reason="b"),))
    assert summary_line(result) == "2 of 3 cells PASS, 1 did not run, 1 skipped in 14.2 s"


def test_nothing_ran_is_no_pass() -> None:
    """An empty matrix does not read like a success."""
    assert "nothing was tested" in summary_line(MatrixResult(expected=0, cells=()))
