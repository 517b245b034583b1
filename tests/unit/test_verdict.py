"""Tests of harness.verdict: what makes a run green."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import ExitStatus
from harness.spec import PageSize
from harness.verdict import CellResult, MatrixResult, Verdict

CELL = CellResult(
    id="4k",
    page_size_asked=PageSize.K4,
    page_size_in_force=PageSize.K4,
    kernel="k",
    cpu="max",
    accel="tcg",
    vcpus=1,
    memory_mib=256,
    verdict=Verdict.PASS,
    reason="",
    checks=(),
    duration_s=1.0,
    boot_s=1.0,
    rerun="granule smoke",
    console="",
)


def _matrix(*verdicts: Verdict, expected: int | None = None) -> MatrixResult:
    cells = tuple(replace(CELL, verdict=verdict) for verdict in verdicts)
    return MatrixResult(expected=len(cells) if expected is None else expected, cells=cells)


@pytest.mark.parametrize(
    ("matrix", "status"),
    [
        (_matrix(Verdict.PASS, Verdict.PASS), ExitStatus.PASSED),
        (_matrix(Verdict.PASS, Verdict.FAIL), ExitStatus.FAILED),
        (_matrix(Verdict.PASS, Verdict.INFRA), ExitStatus.INFRA),
        (_matrix(Verdict.FAIL, Verdict.INFRA), ExitStatus.FAILED),
        (_matrix(Verdict.INFRA, Verdict.WRONG_PAGE_SIZE), ExitStatus.FAILED),
    ],
)
def test_exit_status(matrix: MatrixResult, status: ExitStatus) -> None:
    """0 only if all passed; a failure outranks an infrastructure error."""
    assert matrix.exit_status is status


def test_an_empty_matrix_is_a_failure() -> None:
    """A run of no cells is not green."""
    assert _matrix().exit_status is ExitStatus.FAILED


def test_an_all_skipped_matrix_is_a_failure() -> None:
    """A run whose cells were all skipped is not green."""
    assert _matrix(Verdict.SKIP).exit_status is ExitStatus.FAILED


def test_a_matrix_that_lost_a_cell_is_a_failure() -> None:
    """Fewer cells run than expected is not green, though all that ran passed."""
    assert _matrix(Verdict.PASS, expected=2).exit_status is ExitStatus.FAILED


def test_every_verdict_but_pass_counts_against_a_run() -> None:
    """No verdict other than PASS can make a run green."""
    for verdict in set(Verdict) - {Verdict.PASS}:
        assert _matrix(Verdict.PASS, verdict).exit_status is not ExitStatus.PASSED, verdict
