"""Tests of harness.matrix.exact, with runs that are made up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.determinism.compare import Stream
from harness.determinism.conditions import Conditions
from harness.determinism.report import report_stream
from harness.determinism.seed import Seed
from harness.errors import UsageError
from harness.kernels.kernel import Kernel
from harness.matrix import exact
from harness.matrix.cell import Cell
from harness.matrix.exact import NEVER_EXACT, Witnessed, cell_of, changed_inputs, difference_from, run_exact
from harness.smoke import CHECKS
from harness.spec import Accel, PageSize
from harness.verdict import CellResult, CheckResult, Verdict

CELL = Cell(
    kernel="debian-16k",
    page_size=PageSize.K16,
    cpu="max,lpa2=off",
    accel=Accel.TCG,
    vcpus=1,
    memory_mib=384,
    checks=CHECKS[:2],
    timeout_s=77.0,
    boot_time=True,
    cmdline="quiet",
    kernel_options=("--modules", "m"),
    exact=Conditions.of(Seed(7)),
    left_out=(("block", NEVER_EXACT["block"]),),
)
PASSED = CheckResult(name="page-size", verdict=Verdict.PASS, expectations=1, duration_s=0.5)
LEFT_OUT = CheckResult(
    name="block", verdict=Verdict.SKIP, expectations=0, duration_s=0.0, skip_reason=NEVER_EXACT["block"]
)


def run_of(console: str, verdict: Verdict = Verdict.PASS, said: bytes = b"ready\n") -> Witnessed:
    """A run that printed this and ended so."""
    result = CellResult(
        id=CELL.id,
        page_size_asked=CELL.page_size,
        page_size_in_force=CELL.page_size,
        kernel="debian-16k (a package)",
        cpu=CELL.cpu,
        accel="tcg",
        vcpus=CELL.vcpus,
        memory_mib=CELL.memory_mib,
        verdict=verdict,
        reason="" if verdict.is_pass else "because",
        checks=(PASSED, LEFT_OUT),
        duration_s=1.0,
        boot_s=1.0,
        rerun=CELL.rerun,
        console=console,
    )
    streams = (Stream(name="console", content=console.encode()), Stream(name="shell", content=said))
    return Witnessed(result=result, streams=(*streams, report_stream(result)))


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    """What a record takes from a bench: QEMU's version and the initramfs."""
    (tmp_path / "initrd").write_bytes(b"initrd")
    guest = SimpleNamespace(initramfs=lambda _kernel: tmp_path / "initrd")
    return SimpleNamespace(guest=guest, qemu=SimpleNamespace(version_text="QEMU 7.2"))


KERNEL = Kernel(name="k", image=Path("k"), page_size=None, release="6.12", sha256="a" * 64, origin="a test")
RunThem = Callable[..., tuple[CellResult, int]]


@pytest.fixture
def run_them(monkeypatch: pytest.MonkeyPatch, bench: Any) -> RunThem:
    """Runs a cell whose runs are given; its result, and how many of them were made."""

    def run(*runs: Witnessed, cell: Cell = CELL) -> tuple[CellResult, int]:
        left = list(runs)
        monkeypatch.setattr(exact, "witness", lambda *_: left.pop(0))
        monkeypatch.setattr(
            exact, "replace", lambda what, **new: what if what is bench else replace(what, **new)
        )
        result = run_exact(cell, KERNEL, bench, lambda _check: None)
        return result, len(runs) - len(left)

    return run


def test_identical(run_them: RunThem) -> None:
    """Two runs that are the same to the byte are a PASS that is verified."""
    result, runs = run_them(run_of("boot\n"), run_of("boot\n"))
    assert (result.verdict, runs) == (Verdict.PASS, 2)
    assert result.exact is not None
    assert result.exact.is_verified


@pytest.mark.parametrize("other", [run_of("boot!\n"), run_of("boot\n", said=b"READY\n")])
def test_not_identical(run_them: RunThem, other: Witnessed) -> None:
    """Runs that pass and differ are no PASS, blame no kernel, and show where they part."""
    result, _ = run_them(run_of("boot\n"), other)
    assert result.verdict is Verdict.INFRA
    assert "two runs were not identical" in result.reason
    assert result.exact is not None
    assert not result.exact.is_verified
    assert "line 1" in result.exact.difference


def test_a_failure_stays(run_them: RunThem) -> None:
    """Whichever of two runs fails is the result, and its streams are the ones a replay is to give."""
    passed, failed = run_of("boot\n"), run_of("oops\n", Verdict.OOPS)
    for runs in ((passed, failed), (failed, passed)):
        result, _ = run_them(*runs)
        assert result.verdict is Verdict.OOPS
        assert result.exact is not None
        assert result.exact.changed(failed.streams) == ()
        assert result.exact.difference


def test_explored_seeds_that_pass_run_once(run_them: RunThem) -> None:
    """Under --explore only a seed that does not pass is run a second time."""
    explored = replace(CELL, explored=True)
    result, runs = run_them(run_of("boot\n"), run_of("boot\n"), cell=explored)
    assert runs == 1
    assert result.exact is not None
    assert not result.exact.is_verified
    failed = run_of("oops\n", Verdict.OOPS)
    assert run_them(failed, failed, cell=explored)[1] == 2


def test_no_record_without_a_guest(run_them: RunThem) -> None:
    """A cell that could not be run is not run again, and has nothing to replay."""
    result, runs = run_them(run_of("", Verdict.INFRA), run_of(""))
    assert (result.exact, runs) == (None, 1)


def test_the_cell_comes_back(run_them: RunThem) -> None:
    """From a result alone comes a cell that runs the same; what only names it may differ."""
    result, _ = run_them(run_of("boot\n"), run_of("boot\n"))
    assert result.exact is not None
    again = cell_of(result, result.exact)
    assert replace(again, force=CELL.force) == CELL


def test_a_check_that_is_not_known(run_them: RunThem) -> None:
    """A report of a granule with other checks is refused by the check's name."""
    result, _ = run_them(run_of("boot\n"), run_of("boot\n"))
    assert result.exact is not None
    with pytest.raises(UsageError, match="no check 'page-size'"):
        cell_of(result, result.exact, CHECKS[1:])


def test_changed_inputs(run_them: RunThem, bench: Any, tmp_path: Path) -> None:
    """Kernel, initramfs and QEMU are compared by what they are now."""
    record = run_them(run_of("boot\n"), run_of("boot\n"))[0].exact
    assert record is not None
    assert record.initrd_sha256 == hashlib.sha256(b"initrd").hexdigest()
    assert changed_inputs(record, KERNEL, PageSize.K4, bench) == ()
    other = replace(KERNEL, sha256="b" * 64)
    assert "kernel" in "".join(changed_inputs(record, other, PageSize.K4, bench))
    bench.qemu.version_text = "QEMU 8"
    (tmp_path / "initrd").write_bytes(b"other")
    assert len(changed_inputs(record, KERNEL, PageSize.K4, bench)) == 2


def test_differences_from_a_report(run_them: RunThem) -> None:
    """A console that differs is shown line by line; of the shell's line there is the checksum only."""
    run = run_of("one\ntwo\n")
    result, _ = run_them(run, run)
    assert result.exact is not None
    assert difference_from(result, result.exact, run) == ()
    (console,) = difference_from(result, result.exact, run_of("one\n2\n"))
    assert "line 2" in console
    assert "1 two" in console
    (shell,) = difference_from(result, result.exact, run_of("one\ntwo\n", said=b"READY\n"))
    assert "the shell differs: 6 bytes then, 6 bytes now" in shell


def test_checks_that_never_repeat_exist() -> None:
    """Every name in the table is one of our checks'."""
    assert set(NEVER_EXACT) <= {check.name for check in CHECKS}
