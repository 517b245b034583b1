"""Real cells whose runs repeat: identical to the byte, another with another seed, replayed from a report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.replay import replay as replay_command
from harness.determinism.conditions import Conditions, explored
from harness.determinism.record import RunRecord
from harness.determinism.seed import Seed
from harness.errors import UsageError
from harness.kernels.store import KernelStore
from harness.matrix.cell import Cell, Request
from harness.matrix.exact import cell_of, difference_from, run_exact, witness
from harness.matrix.plan import plan
from harness.matrix.run import Bench
from harness.report.json import load_report, render_json
from harness.smoke import CHECKS, Check
from harness.smoke.check import BASE_MEMORY_MIB
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import Accel
from harness.verdict import CellResult, CheckResult, MatrixResult, Verdict

QUICK = tuple(check for check in CHECKS if check.name in ("page-size", "fork"))
# Of a panic that depends on one random bit, every seed of these is spared once in 65536 kernels.
SEEDS = 16


@pytest.fixture
def repeating_qemu(granule_bench: Bench) -> None:
    """Skips with a QEMU under which runs part after the first stop: see docs/determinism.md."""
    if granule_bench.qemu.version[0] > 7:
        pytest.skip(f"runs do not repeat with QEMU {granule_bench.qemu.version_text}: QEMU 7.2 is needed")


def _quiet(_check: CheckResult) -> None:
    pass


def _cell(
    bench: Bench,
    kernels: KernelStore,
    kernel: str,
    conditions: Conditions,
    checks: tuple[Check, ...],
    vcpus: int = 1,
) -> Cell:
    wanted = Request(kernels=(kernel,), accel=Accel.TCG, vcpus=vcpus, exact=(conditions,), checks=checks)
    cells = plan(wanted, kernels, bench.qemu).cells
    return next(cell for cell in cells if cell.memory_mib == BASE_MEMORY_MIB)


def _record(result: CellResult) -> RunRecord:
    assert result.exact is not None, result.reason
    return result.exact


def _report(result: CellResult, path: Path) -> Path:
    path.write_text(render_json(MatrixResult(expected=1, cells=(result,))))
    return path


@pytest.mark.usefixtures("repeating_qemu")
@pytest.mark.parametrize("kernel", ["debian-16k", "trimmed-64k"])
def test_a_full_cell_repeats(granule_bench: Bench, granule_kernels: KernelStore, kernel: str) -> None:
    """Two runs of all checks of an ordinary cell give the same console, answers and report, to the byte."""
    cell = _cell(granule_bench, granule_kernels, kernel, Conditions.of(Seed(7)), CHECKS)
    result = run_exact(cell, granule_kernels.get(kernel), granule_bench, _quiet)
    assert result.verdict is Verdict.PASS, result.reason
    assert _record(result).is_verified, _record(result).difference
    assert {one.name: one.size_bytes > 500 for one in _record(result).streams} == {
        "console": True,
        "shell": True,
        "report": True,
    }
    passed = {check.name for check in result.checks if check.verdict.is_pass}
    assert {"page-size", "fork", "swap", "kernel-tables", "power-off", "kernel-log"} <= passed
    skipped = {check.name: check.skip_reason for check in result.checks if check.verdict is Verdict.SKIP}
    assert {"block", "network", "user-tables"} <= skipped.keys(), "left out, and said to be"


@pytest.mark.usefixtures("repeating_qemu")
def test_another_seed_is_another_run(granule_bench: Bench, granule_kernels: KernelStore) -> None:
    """Seeds reach the guest: under two of them it says other things, and under one the same."""
    kernel = granule_kernels.get("debian-16k")
    check = Check(run=_say_entropy, label="entropy")
    said = []
    for seed in (1, 1, 2):
        cell = _cell(granule_bench, granule_kernels, "debian-16k", Conditions.of(Seed(seed)), (check,))
        run = witness(cell, kernel, granule_bench, _quiet)
        assert run.result.verdict is Verdict.PASS, run.result.reason
        said.append((run.streams, next(one.output for one in run.result.checks if one.name == "entropy")))
    assert said[0] == said[1]
    assert said[0][1] != said[2][1]
    assert said[0][0][0] != said[2][0][0], "the console"


def _say_entropy(subject: Subject, evidence: Evidence) -> None:
    """The guest has random numbers, a time of day and a place in memory."""
    done = subject.sh("cat /proc/sys/kernel/random/uuid; date; grep -m1 ' _text$' /proc/kallsyms")
    evidence.holds("what is random", done.ok, wanted="read", seen=done.text)
    evidence.note(done.text)


def _panic_by_chance(subject: Subject, evidence: Evidence) -> None:
    """The guest does not panic, which it does under half of all seeds."""
    done = subject.sh(
        "read -r x </proc/sys/kernel/random/uuid; case $x in [0-7]*) echo c >/proc/sysrq-trigger; esac"
    )
    evidence.holds("the guest", done.ok, wanted="alive", seen=done.text)


@pytest.mark.usefixtures("repeating_qemu")
def test_a_failure_is_replayed_from_its_report(
    granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path
) -> None:
    """A seed under which a cell fails is found, written to a report, and fails the same way from there."""
    kernel, check = granule_kernels.get("debian-16k"), Check(run=_panic_by_chance, label="chance")
    for conditions in explored(Seed(1), SEEDS):
        cell = _cell(granule_bench, granule_kernels, "debian-16k", conditions, (check,))
        result = run_exact(replace(cell, explored=True), kernel, granule_bench, _quiet)
        if not result.verdict.is_pass:
            break
    assert result.verdict in (Verdict.OOPS, Verdict.PANIC), result.reason
    assert _record(result).is_verified, _record(result).difference
    (loaded,) = load_report(_report(result, tmp_path / "report.json")).cells
    again = witness(cell_of(loaded, _record(loaded), (check,)), kernel, granule_bench, _quiet)
    assert again.result.verdict is result.verdict
    assert again.result.reason == result.reason
    assert difference_from(loaded, _record(loaded), again) == ()


@pytest.mark.usefixtures("repeating_qemu")
def test_the_replay_command(granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path) -> None:
    """`granule replay` ends with 0 for the same run, 1 with the difference, 2 naming a changed input."""
    cell = _cell(granule_bench, granule_kernels, "debian-16k", Conditions.of(None), QUICK)
    result = run_exact(cell, granule_kernels.get("debian-16k"), granule_bench, _quiet)
    path = _report(result, tmp_path / "report.json")
    done = CliRunner().invoke(replay_command, [str(path), result.id, "--offline"])
    assert (done.exit_code, "identical" in done.output) == (0, True), done.output

    document = json.loads(path.read_text())
    told = document["cells"][0]
    told["console"] = told["console"].replace("Linux version", "Linux Version", 1)
    told["exact"]["streams"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    done = CliRunner().invoke(replay_command, [str(path), "--offline"])
    assert done.exit_code == 1, done.output
    assert "DIFFERENT" in done.output
    assert "Linux Version" in done.output, "the line as it was reported"
    assert "Linux version" in done.output, "and as it is now"

    told["exact"]["kernel_sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    done = CliRunner().invoke(replay_command, [str(path), "--offline"])
    assert isinstance(done.exception, UsageError)
    assert "the kernel's sha256 was" in str(done.exception)


def test_two_vcpus_are_told_apart(granule_bench: Bench, granule_kernels: KernelStore) -> None:
    """On two vCPUs a run may repeat or not, and the verdict says which: PASS only for what was identical."""
    cell = _cell(granule_bench, granule_kernels, "debian-16k", Conditions.of(Seed(7)), QUICK, vcpus=2)
    result = run_exact(cell, granule_kernels.get("debian-16k"), granule_bench, _quiet)
    assert _record(result).runs == 2
    assert result.verdict is (Verdict.PASS if _record(result).is_verified else Verdict.INFRA), result.reason
    assert _record(result).is_verified or "two runs were not identical" in result.reason
