"""`granule hyperv try`: a driver before and after a patch, at each page size."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from harness.cli.hyperv.trial_table import print_trials, trial_facts
from harness.cli.options import Setting, leave_out, machine_options, parse_checks
from harness.cli.progress import KernelProgress
from harness.errors import ExitStatus, UsageError
from harness.matrix.cell import Cell
from harness.matrix.plan import plan
from harness.report import write_reports, write_whole
from harness.report.bundle import claim_directory
from harness.report.progress import Progress
from harness.report.terminal import make_console
from harness.smoke import HYPERV_CHECKS
from harness.spec import Platform
from harness.trial import Change, Prepared, Trial, prepare, try_kernel
from harness.verdict import CellResult, MatrixResult, Skipped, Verdict

__all__ = ["try_change"]

# A patch changes modules of the kernel's own, and a machine that is Hyper-V is nothing else.
_NOT_HERE: Final = ("platforms", "features", "modules", "initrd", "vmlinux", "config", "boot_time", "cold")


@click.command(name="try")
@leave_out(*_NOT_HERE)
@machine_options
@click.option(
    "--patch", "patches", multiple=True, type=click.Path(exists=True, path_type=Path), metavar="FILE",
    help="A diff, a mailbox or a quilt directory. May be given again.",
)  # fmt: skip
@click.option(
    "--module", "directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="In place of --patch: a module's source with its Kbuild, in place of the kernel's own.",
)  # fmt: skip
@click.option(
    "--check", "checks", multiple=True, metavar="NAME,…",
    help="Only these checks, or others than Hyper-V's; granule smoke --list-checks names them.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write try.json, and report.json, junit.xml and report.html of all guests, there.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def try_change(
    patches: tuple[Path, ...], directory: Path | None, checks: tuple[str, ...], report: Path | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Rebuild what a patch to Hyper-V's drivers touches, and compare guests before and after.

    Modules are rebuilt by themselves, in seconds; a patch to built-in code or to other headers takes a whole
    kernel, of those that are built here. Both guests are on Hyper-V, with the same compiler, and the wire is
    judged in both. A driver that nothing exercised is named, and is no pass.

    \b
    granule hyperv try --patch netvsc.patch                     # 4K, 16K, 64K
    granule hyperv try --patch v3.mbox --kernel debian-16k
    granule hyperv try --module ~/storvsc -p 64k --check storvsc

    Exit status: 0 nothing is worse, 1 something fails that did not, or builds at some page sizes only, 2 it
    does not apply, does not build, or touches no code, 3 this machine is at fault.
    """
    if bool(patches) == (directory is not None):
        raise UsageError("say what is tried: --patch FILE, or --module DIR")
    change = Change.of_patches(patches) if directory is None else Change.of_module(directory)
    if directory is None and not (change.affected.modules or change.affected.beyond):
        raise UsageError(f"'{change.label}' changes no code: {', '.join(change.affected.idle)}")
    console = make_console(sys.stderr if as_json else sys.stdout)
    rest = {
        "modules": None,
        "initrd": None,
        "vmlinux": None,
        "config": None,
        "boot_time": None,
        "cold": False,
    }
    setting = Setting.make(
        {**options, **rest, "platforms": (Platform.HYPERV.value,), "features": ()},
        console, KernelProgress(), parse_checks(checks) if checks else HYPERV_CHECKS,
        (("granule", "smoke", "--platform", "hyperv"), ()),
    )  # fmt: skip
    request = replace(setting.request, platforms=(Platform.HYPERV,))
    todo = plan(request, setting.store, setting.bench.qemu)
    if report is not None:
        claim_directory(report)
    results: list[CellResult] = []
    with (
        Progress(console, expected=2 * len(todo.cells)) as progress,
        tempfile.TemporaryDirectory(prefix="granule-trial-") as scratch,
    ):
        setting.kernel_progress.show_on(progress)
        # All are built before one boots: a change that does not apply is told at once.
        prepared, refused = _prepare(change, todo.cells, setting, Path(scratch))
        skipped = [*todo.skipped, *refused]

        def on_result(result: CellResult) -> None:
            results.append(result)
            progress.cell_finished(result)

        trials = [
            try_kernel(
                change, one, setting.bench, on_cell=progress.cell_started,
                on_check=progress.check_finished, on_result=on_result,
            )
            for one in prepared
        ]  # fmt: skip
    facts = json.dumps(trial_facts(change, trials, skipped), indent=1)
    if as_json:
        click.echo(facts)
    else:
        print_trials(change, trials, skipped, console)
    if report is not None:
        _write(report, facts, results, skipped, setting, console)
    click.get_current_context().exit(_status(trials))


def _prepare(
    change: Change, cells: Sequence[Cell], setting: Setting, scratch: Path
) -> tuple[list[Prepared], list[Skipped]]:
    """Both forms of every kernel, and what cannot be tried.

    Raises UsageError where nothing can, or nothing builds.
    """
    prepared: list[Prepared] = []
    refused: list[Skipped] = []
    for cell in cells:
        try:
            prepared.append(
                prepare(change, cell, setting.store, setting.bench, scratch, setting.kernel_progress)
            )
        except UsageError as error:
            refused.append(Skipped(id=cell.id, reason=str(error)))
    if not prepared:
        raise UsageError("; ".join(dict.fromkeys(one.reason for one in refused)))
    if all(one.new is None for one in prepared):
        said = "; ".join(dict.fromkeys(one.not_built for one in prepared))
        raise UsageError(f"'{change.label}' does not build: {said}")
    return prepared, refused


def _write(
    directory: Path, facts: str, results: list[CellResult], skipped: list[Skipped], setting: Setting,
    console: Console,
) -> None:  # fmt: skip
    matrix = MatrixResult(
        expected=len(results), cells=tuple(results), skipped=tuple(skipped),
        host={"QEMU": setting.bench.qemu.version_text}, duration_s=sum(one.duration_s for one in results),
        caveats=("Each kernel is here twice: without the change (before) and with it (after).",),
    )  # fmt: skip
    written = (*write_reports(matrix, directory), write_whole(directory / "try.json", facts + "\n"))
    console.print(f"Reports: {', '.join(map(str, written))}", soft_wrap=True)


def _status(trials: list[Trial]) -> ExitStatus:
    cells = [one.cell for trial in trials for one in (trial.before, trial.after) if one is not None]
    if any(trial.is_worse for trial in trials):
        return ExitStatus.FAILED
    return ExitStatus.INFRA if any(cell.verdict is Verdict.INFRA for cell in cells) else ExitStatus.PASSED
