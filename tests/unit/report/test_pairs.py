"""Tests of harness.report.pairs: which cells stand side by side, and what differs."""

from __future__ import annotations

from collections.abc import Callable

from harness.report.pairs import pairs_of
from harness.spec import PageSize
from harness.verdict import CellResult, CheckResult, MatrixResult, Verdict


def _check(name: str, verdict: Verdict) -> CheckResult:
    return CheckResult(name=name, verdict=verdict, expectations=1, duration_s=0.1, skip_reason="why")


def _result(*cells: CellResult) -> MatrixResult:
    return MatrixResult(expected=len(cells), cells=cells)


def test_same_machine_and_size_are_a_pair(cell: Callable[..., CellResult]) -> None:
    """A boot-time cell is paired with the compile-time cell of its size and machine, and with no other."""
    boot = [cell(id=f"b{size}", page_size_asked=size, is_boot_time=True) for size in PageSize]
    compiled = [cell(id=f"c{size}", page_size_asked=size) for size in PageSize]
    large = cell(id="large", page_size_asked=PageSize.K64, memory_mib=3072)
    pairs = pairs_of(_result(*boot, *compiled, large))
    assert [(pair.boot_time.id, pair.compile_time.id) for pair in pairs] == [
        (f"b{size}", f"c{size}") for size in PageSize
    ]


def test_cells_that_were_asked_otherwise_are_no_pair(cell: Callable[..., CellResult]) -> None:
    """A cell that shows what a misspelt option gives is not compared with a kernel of that size."""
    assert pairs_of(_result(cell(is_boot_time=True, asking="none"), cell(id="c"))) == ()


def test_checks_that_differ_are_named(cell: Callable[..., CellResult]) -> None:
    """Another verdict, and a check that ran on one side only; equal ones and equal skips are not."""
    boot = cell(
        is_boot_time=True,
        checks=(
            _check("swap", Verdict.FAIL),
            _check("fork", Verdict.PASS),
            _check("thp", Verdict.SKIP),
            _check("mthp", Verdict.PASS),
        ),
    )
    compiled = cell(
        id="c",
        checks=(_check("swap", Verdict.PASS), _check("fork", Verdict.PASS), _check("thp", Verdict.SKIP)),
    )
    (pair,) = pairs_of(_result(boot, compiled))
    assert pair.differences == (
        "swap: FAIL at boot, PASS compiled in",
        "mthp: PASS at boot, absent compiled in",
    )


def test_nothing_differs(cell: Callable[..., CellResult]) -> None:
    """Twins have no differences."""
    (pair,) = pairs_of(_result(cell(is_boot_time=True), cell(id="c")))
    assert pair.differences == ()
