"""Tests of harness.matrix.record and of how a dead guest is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.kernels.kernel import Kernel
from harness.linux.klog import KernelLog, LogEvent
from harness.matrix.cell import Cell
from harness.matrix.judge import TAINT_OF_MODULES, judge_gone, kernel_log
from harness.matrix.record import Record
from harness.smoke import CHECKS
from harness.spec import Accel, PageSize
from harness.verdict import CheckResult, Verdict

CELL = Cell(
    kernel="k",
    page_size=PageSize.K4,
    cpu="max",
    accel=Accel.TCG,
    vcpus=2,
    memory_mib=384,
    checks=CHECKS[:2],
)
KERNEL = Kernel(
    name="k", image=Path("/k"), page_size=PageSize.K4, release="6.12", sha256="0", origin="made up"
)


def _check(name: str, verdict: Verdict) -> CheckResult:
    return CheckResult(name=name, verdict=verdict, expectations=1, duration_s=0.0)


def _verdict(*checks: CheckResult) -> Verdict:
    record = Record()
    record.checks = list(checks)
    return record.result(CELL, KERNEL).verdict


def test_own_checks_that_pass_make_a_pass() -> None:
    """One of the cell's own checks has to pass."""
    assert _verdict(_check(CHECKS[0].name, Verdict.PASS)) is Verdict.PASS


def test_a_cell_in_which_nothing_of_its_own_passed_is_no_pass() -> None:
    """Power-off and kernel log alone do not make a green, nor does an empty list."""
    assert _verdict() is Verdict.FAIL
    assert _verdict(_check("power-off", Verdict.PASS), _check("kernel-log", Verdict.PASS)) is Verdict.FAIL
    assert _verdict(_check(CHECKS[0].name, Verdict.SKIP)) is Verdict.FAIL


def test_a_cell_without_its_cross_check_is_no_pass() -> None:
    """A check that is required and could not run makes the cell a SKIP with its reason, or leaves a FAIL."""
    cell = replace(CELL, checks=CHECKS)
    passed, failed = _check(CHECKS[0].name, Verdict.PASS), _check("guard", Verdict.FAIL)
    skipped = replace(_check("kernel-tables", Verdict.SKIP), skip_reason="no registers")
    record = Record()
    record.checks = [passed, skipped]
    result = record.result(cell, KERNEL)
    assert result.verdict is Verdict.SKIP
    assert result.reason == "kernel-tables could not run: no registers"
    record = Record()
    record.checks = [passed, skipped, failed]
    assert record.result(cell, KERNEL).verdict is Verdict.FAIL
    record = Record()
    record.checks = [passed, _check("block", Verdict.SKIP)]
    assert record.result(cell, KERNEL).verdict is Verdict.PASS


def test_one_failed_check_fails_the_cell_by_name() -> None:
    """The reason names the checks that failed."""
    record = Record()
    record.checks = [_check(CHECKS[0].name, Verdict.PASS), _check("guard", Verdict.FAIL)]
    result = record.result(CELL, KERNEL)
    assert result.verdict is Verdict.FAIL
    assert result.reason == "failed: guard"


def test_the_first_verdict_stays() -> None:
    """What ended the cell is not overwritten by what follows from it."""
    record = Record()
    record.end(Verdict.HANG, "first")
    record.end(Verdict.FAIL, "second")
    record.checks = [_check("guard", Verdict.FAIL)]
    assert (record.result(CELL, KERNEL).verdict, record.reason) == (Verdict.HANG, "first")


def _events(*lines: str) -> tuple[LogEvent, ...]:
    log = KernelLog()
    stamped = "".join(f"[    1.{number:06d}] {line}\n" for number, line in enumerate(lines))
    return (*log.feed(stamped.encode()), *log.finish())


OOPS = (
    "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000",
    "Internal error: Oops: 0000000096000045 [#1] SMP",
    "pc : vfs_read+0x10/0x20",
    "---[ end trace 0000000000000000 ]---",
)


@pytest.mark.parametrize(
    ("lines", "booted", "verdict"),
    [
        (OOPS, True, Verdict.OOPS),
        ((*OOPS, "Kernel panic - not syncing: Oops: Fatal exception"), False, Verdict.OOPS),
        (("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",), False, Verdict.PANIC),
        (("Kernel panic - not syncing: VFS: Unable to mount root fs on x",), False, Verdict.BOOT_FAILED),
        (("reboot: Restarting system",), False, Verdict.BOOT_FAILED),
        ((), False, Verdict.BOOT_FAILED),
        ((), True, Verdict.FAIL),
    ],
)
def test_verdict_on_a_guest_that_ended(lines: tuple[str, ...], booted: bool, verdict: Verdict) -> None:
    """What the kernel said first decides: an oops outranks the panic that follows it."""
    record = Record()
    record.boot_s = 1.0 if booted else None
    judge_gone(_events(*lines), "the guest ended by itself", record)
    assert record.verdict is verdict


def test_infra_yields_to_what_blames_the_kernel() -> None:
    """A failed check or an oops outranks the broken line that came of it; INFRA does not overwrite them."""
    record = Record()
    record.end(Verdict.INFRA, "the agent spoke nonsense")
    record.checks = [_check("guard", Verdict.FAIL)]
    assert record.result(CELL, KERNEL).verdict is Verdict.FAIL
    record = Record()
    record.end(Verdict.INFRA, "the agent spoke nonsense")
    judge_gone(_events(*OOPS), "", record)
    record.end(Verdict.INFRA, "and more of it")
    assert record.verdict is Verdict.OOPS


LOG = b"[    0.000000] Linux version 6.12.0 (x@y)\n"


def test_a_clean_log_is_one_that_was_seen() -> None:
    """The kernel-log check passes on a log with a banner and an untainted kernel, and on no other."""
    assert kernel_log((), LOG, 0).verdict is Verdict.PASS
    assert kernel_log((), b"", 0).verdict is Verdict.FAIL
    assert kernel_log((), LOG, 1 << 9).verdict is Verdict.FAIL
    assert (
        kernel_log(_events("WARNING: CPU: 0 PID: 1 at mm/x.c:1 f+0x0/0x10"), LOG, 0).verdict is Verdict.FAIL
    )


def test_a_users_module_may_taint_by_being_one() -> None:
    """Where modules of the user's are loaded on purpose, their taint is no finding, and a warning's is."""
    events = _events("driver: loading out-of-tree module taints kernel.")
    assert kernel_log(events, LOG, 1 << 12).verdict is Verdict.FAIL
    assert kernel_log(events, LOG, 1 << 12, TAINT_OF_MODULES).verdict is Verdict.PASS
    assert kernel_log(events, LOG, 1 << 12 | 1 << 9, TAINT_OF_MODULES).verdict is Verdict.FAIL


def test_a_cell_is_bad_as_soon_as_it_cannot_pass() -> None:
    """A failed check or a settled verdict makes it so; a skipped check does not."""
    record = Record(checks=[_check("guard", Verdict.PASS), _check("guard", Verdict.SKIP)])
    assert not record.is_bad
    assert Record(checks=[_check("guard", Verdict.FAIL)]).is_bad
    record.end(Verdict.INFRA, "the monitor is silent")
    assert record.is_bad


def test_what_became_of_the_snapshot_is_in_the_provenance() -> None:
    """The file, or why there is none, is told; where none was asked for, nothing is."""
    record = Record(snapshot="none: QEMU had ended")
    assert record.result(CELL, KERNEL).provenance["snapshot"] == "none: QEMU had ended"
    assert "snapshot" not in Record().result(CELL, KERNEL).provenance
