"""`granule hyperv calibrate`: what a real host says to a guest, held against what ours does."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from harness.cli.options import Setting, leave_out, machine_options
from harness.cli.progress import KernelProgress
from harness.errors import ExitStatus, InfraError, UsageError
from harness.hyperv.calibration import Conversation, Difference, differences, read_trace
from harness.hyperv.calibration.compare import name_of
from harness.matrix.cell import Cell
from harness.matrix.plan import plan
from harness.matrix.run import run_cell
from harness.paths import data_dir
from harness.qemu.machine import Machine
from harness.report.progress import Progress
from harness.report.terminal import make_console
from harness.report.wording import safe
from harness.smoke import HYPERV_CHECKS
from harness.spec import Platform

__all__ = ["calibrate"]

_NOT_HERE: Final = ("platforms", "features", "boot_time", "cold")
_DEFAULT: Final = "debian-4k"


@click.command()
@leave_out(*_NOT_HERE)
@machine_options
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--script", is_flag=True, help="Print the script that records a trace, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def calibrate(trace: Path | None, script: bool, as_json: bool, **options: Any) -> None:
    """Compare a VMBus trace of a guest on a real Hyper-V host with a guest of ours.

    The script records it on Azure or Windows. Give the kernel that ran there, or one of its page size and
    version: a guest with it is booted here, uses its devices, and both conversations are held side by side.
    What the trace does not tell of is not compared.

    \b
    granule hyperv calibrate --script >record.sh       # run in the guest: sh record.sh eth0 >vmbus.trace
    granule hyperv calibrate vmbus.trace --kernel debian-16k

    Exit status: 0 no difference, 1 differences, 2 no such trace, 3 this machine is at fault.
    """
    if script:
        click.echo((data_dir("guests") / "hyperv" / "record.sh").read_text(), nl=False)
        return
    if trace is None:
        raise UsageError("say which trace: granule hyperv calibrate FILE; --script prints what records one")
    there = read_trace(trace)
    console = make_console(sys.stderr if as_json else sys.stdout)
    kernels = options["kernels"] or (_DEFAULT,)
    setting = Setting.make(
        {**options, "kernels": kernels, "boot_time": None, "cold": False, "features": (),
         "platforms": (Platform.HYPERV.value,)},
        console, KernelProgress(), HYPERV_CHECKS,
    )  # fmt: skip
    todo = plan(setting.request, setting.store, setting.bench.qemu, setting.beside)
    if len(todo.cells) != 1:
        ids = ", ".join(cell.id for cell in todo.cells)
        raise UsageError(
            f"a trace is of one kernel at one page size, and this asks for {ids}: say --page-size"
        )
    here = _ours(todo.cells[0], setting, console)
    found = differences(there, here)
    if as_json:
        facts = {"schema": 1, "cell": todo.cells[0].id, "differences": [asdict(one) for one in found]}
        click.echo(json.dumps(facts, indent=1))
    else:
        _print(there, found, console)
    click.get_current_context().exit(ExitStatus.FAILED if found else ExitStatus.PASSED)


def _ours(cell: Cell, setting: Setting, console: Console) -> Conversation:
    """What a guest of ours and its host say while every device is used; raises InfraError where it fails."""
    ended: list[Machine] = []
    with Progress(console, expected=1) as progress:
        setting.kernel_progress.show_on(progress)
        kernel = setting.store.get(cell.kernel, beside=setting.beside)
        progress.cell_started(cell.id)
        result = run_cell(
            replace(cell, tag="-ours"), kernel, setting.bench,
            lambda check: progress.check_finished(cell.id, check), ended.append,
        )  # fmt: skip
        progress.cell_finished(result)
    if not ended or ended[-1].hyperv is None or not result.verdict.is_pass:
        raise InfraError(
            f"the guest to compare with ended as {result.verdict.value}: {result.reason}. Run it by itself: "
            f"{result.rerun}"
        )
    return ended[-1].hyperv.recorder.conversation


def _print(there: Conversation, found: tuple[Difference, ...], console: Console) -> None:
    kinds = ", ".join(dict.fromkeys(name_of(kind) for kind in there.interfaces.values()))
    console.print(
        f"{len(there.said)} messages of the trace; devices there: {kinds or 'not told'}", soft_wrap=True
    )
    if there.cut_off:
        console.print("The trace goes on after what was read of it.")
    if not found:
        console.print("No difference in what the trace tells of.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("driver", "what", "there", "here"):
        table.add_column(heading, overflow="fold")
    for one in found:
        table.add_row(one.driver, one.what, safe(one.there), safe(one.here))
    console.print(table)
