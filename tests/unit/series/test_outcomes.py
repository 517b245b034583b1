"""From cells to the outcome of each check."""

from __future__ import annotations

from typing import Any

from harness.series.outcomes import BOOT, check_name, outcomes_of
from harness.spec import Platform
from harness.verdict import CellResult, CheckResult, MatrixResult, Skipped, Verdict
from tests.unit.series.fakes import SUITE, cell


def run(*cells: CellResult, skipped: tuple[Skipped, ...] = ()) -> MatrixResult:
    """One run of the suite."""
    return MatrixResult(expected=len(cells), cells=cells, skipped=skipped)


def result(name: str, verdict: Verdict = Verdict.PASS, **more: Any) -> CheckResult:
    """A check's result."""
    return CheckResult(name=name, verdict=verdict, expectations=1, duration_s=0.0, **more)


def test_counts_over_runs() -> None:
    """Failures are counted of the runs that came to a result, with the cells that failed."""
    outcome = outcomes_of(SUITE, [run(cell("a", failing=("swap",))), run(cell("b"))])["swap"]
    assert (outcome.runs, outcome.failed, outcome.cells) == (2, 1, ("a",))
    assert outcome.said == "swap: wanted right, saw wrong"


def test_a_guest_that_does_not_boot() -> None:
    """Booting failed, and no check is blamed: they did not run."""
    dead = cell("a", verdict=Verdict.PANIC, reason="the kernel said: no", boot_s=None, checks=())
    outcomes = outcomes_of(SUITE, [run(dead)])
    assert outcomes[BOOT].always_fails
    assert not outcomes["mapping"].ran
    assert "the guest did not get so far" in outcomes["mapping"].said


def test_a_guest_that_dies_in_a_check() -> None:
    """The check that it did not outlive is blamed, and those after it are not."""
    dead = cell(
        "a",
        verdict=Verdict.OOPS,
        reason="the kernel said: Oops",
        checks=(result("page-size"), result("kernel-log", Verdict.FAIL)),
        console="[    1.0] pc : do_msync+0x1c/0x300\n",
    )
    outcomes = outcomes_of(SUITE, [run(dead)])
    assert outcomes["mapping"].always_fails
    assert outcomes["mapping"].place == "do_msync+0x1c/0x300"
    assert not outcomes["swap"].ran
    assert outcomes["kernel-log"].always_fails


def test_file_and_line_of_an_oops() -> None:
    """Where the diagnosis has them, the place is the line, with the function."""
    dead = cell(
        "a",
        verdict=Verdict.OOPS,
        checks=(result("kernel-log", Verdict.FAIL),),
        diagnosis=("do_msync+0x1c/0x300 is at mm/msync.c:61",),
    )
    assert outcomes_of(SUITE, [run(dead)])["kernel-log"].place == "mm/msync.c:61 (do_msync+0x1c/0x300)"


def test_wrong_page_size() -> None:
    """Another page size than was asked for is the failure of that check."""
    wrong = cell("a", verdict=Verdict.WRONG_PAGE_SIZE, reason="asked for 64K, in force is 4K", checks=())
    assert outcomes_of(SUITE, [run(wrong)])["page-size"].said == "asked for 64K, in force is 4K"


def test_this_machine_is_no_verdict() -> None:
    """A QEMU that crashed is a check that did not run."""
    broken = cell("a", verdict=Verdict.INFRA, reason="QEMU died", boot_s=None, checks=())
    outcomes = outcomes_of(SUITE, [run(broken)])
    assert not any(outcome.ran for outcome in outcomes.values())
    assert outcomes[BOOT].said == "QEMU died"


def test_skipped() -> None:
    """A check that says why it could not run did not run, for that reason; so does a suite without a cell."""
    checks = (result("page-size"), result("mapping"), result("swap", Verdict.SKIP, skip_reason="no ZRAM"))
    assert outcomes_of(SUITE, [run(cell("a", checks=checks))])["swap"].said == "no ZRAM"
    nothing = run(skipped=(Skipped(id="x", reason="no HYPERV"),))
    assert outcomes_of(SUITE, [nothing])["mapping"].said == "no HYPERV"


def test_names_on_another_platform() -> None:
    """What runs on either platform has the platform in its name."""
    assert check_name("kernel-log", Platform.HYPERV) == "hyperv:kernel-log"
    assert check_name("storvsc", Platform.HYPERV) == "storvsc"
    assert check_name("kernel-log", Platform.VIRT) == "kernel-log"
