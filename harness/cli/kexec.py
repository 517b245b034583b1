"""`granule kexec`: one kernel starts the next, whatever their page sizes."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from harness.cli.options import Setting, machine_options, program
from harness.cli.progress import KernelProgress
from harness.errors import ExitStatus, InfraError, UsageError
from harness.kexec import Stage, run_chain, run_crash
from harness.kexec.chain import OnCheck
from harness.matrix.cell import Cell
from harness.matrix.plan import plan
from harness.report import write_reports
from harness.report.bundle import claim_directory, keep_bundles
from harness.report.progress import Progress
from harness.report.terminal import make_console, print_result
from harness.smoke import CHECKS
from harness.verdict import MatrixResult, Skipped

__all__ = ["kexec"]

MEMORY_MIB: Final = 512
"""A Debian Image has 37 MiB, and while it is being loaded there are three copies of it."""
CRASH_KERNEL_MIB: Final = 192
FIRST_CHECKS: Final = ("page-size",)
HOP_CHECKS: Final = ("page-size", "user-tables", "kernel-tables")
# A capture kernel has the reserved memory only, and user-tables fills more with its mappings.
CAPTURE_CHECKS: Final = ("page-size", "kernel-tables")
NOT_OURS: Final = ("kernels", "page_sizes", "platforms")


def _machine(command: Any) -> Any:
    """The options of every guest, but for those that FROM and TO take the place of."""
    command = machine_options(command)
    parameters: list[click.Parameter] = command.__click_params__
    parameters[:] = [one for one in parameters if one.name not in NOT_OURS]
    return command


@click.command()
@click.argument("first", metavar="FROM")
@click.argument("others", metavar="[TO]…", nargs=-1)
@click.option("--crash", is_flag=True, help="FROM panics, TO (or FROM again) captures its memory.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="With --crash: where the dump goes. Default: vmcore.",
)  # fmt: skip
@click.option(
    "--crash-kernel", "crash_kernel_mib", type=click.IntRange(64), metavar="MIB", show_default=True,
    default=CRASH_KERNEL_MIB, help="With --crash: memory that FROM reserves for TO (crashkernel=).",
)  # fmt: skip
@click.option(
    "--memory", type=click.IntRange(256), default=MEMORY_MIB, show_default=True, metavar="MIB",
    help="Guest RAM.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write report.json, junit.xml, report.html and consoles there.",
)  # fmt: skip
@_machine
def kexec(
    first: str, others: tuple[str, ...], crash: bool, output: Path | None, crash_kernel_mib: int,
    memory: int, report: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Boot FROM and start each TO from the one before by kexec, with a verdict for each kernel.

    Each is asked for its page size in force, and its tables are held against the rules. What a kernel may
    not start, by its build or by policy, is a SKIP with the reason that it gave. With --crash FROM is made
    to panic, and its memory, as TO has it in /proc/vmcore, goes to a file for `granule tables`.

    \b
    granule kexec trimmed-4k trimmed-64k trimmed-16k trimmed-4k
    granule kexec debian-4k debian-16k
    granule kexec --crash trimmed-64k trimmed-4k -o vmcore
    granule tables check vmcore
    """
    names = (first, *others)
    if crash and len(names) > 2:
        raise UsageError("with --crash there is one kernel that crashes, FROM, and one that captures, TO")
    if not crash and output is not None:
        raise UsageError("--output is where a crash dump goes: it goes with --crash")
    if not crash and not others:
        raise UsageError("name the kernel that FROM is to start: granule kexec FROM TO")
    names = (first, first) if len(names) == 1 else names
    console = make_console(sys.stdout)
    setting = Setting.make({**options, **dict.fromkeys(NOT_OURS, ())}, console, KernelProgress(), CHECKS)
    command = _command(names, crash=crash, output=output, crash_kernel_mib=crash_kernel_mib, memory=memory,
                       options=options)  # fmt: skip
    cells, skipped = _cells(setting, names, memory, command, CAPTURE_CHECKS if crash else HOP_CHECKS)
    if crash:
        cells = [_reserving(cells[0], crash_kernel_mib), *cells[1:]]
    if report is not None:
        claim_directory(report)
    start_s = time.monotonic()
    with Progress(console, expected=len(cells)) as progress:
        setting.kernel_progress.show_on(progress)
        stages = [_stage(cell, setting) for cell in cells]
        with _shown(progress, cells) as on_check:
            if crash:
                target = output or Path("vmcore")
                results = run_crash(stages[0], stages[1], target, setting.bench, on_check).cells
            else:
                results = run_chain(stages, setting.bench, on_check)
        for result in results:
            progress.cell_finished(result)
    found = MatrixResult(
        expected=len(cells), cells=tuple(results), skipped=tuple(skipped),
        host={"QEMU": setting.bench.qemu.version_text}, duration_s=time.monotonic() - start_s,
    )  # fmt: skip
    _finish(found, setting, report)


def _cells(
    setting: Setting,
    names: Sequence[str],
    memory_mib: int,
    command: tuple[str, ...],
    later: tuple[str, ...] = HOP_CHECKS,
) -> tuple[list[Cell], list[Skipped]]:
    """One cell for each kernel, and those that cannot be: a CPU without the granule is known before.

    `later`: the checks of all but the first.
    """
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    for number, name in enumerate(names):
        wanted = later if number else FIRST_CHECKS
        checks = tuple(dataclasses.replace(one, memory_mib={}) for one in CHECKS if one.name in wanted)
        request = dataclasses.replace(setting.request, kernels=(name,), checks=checks)
        try:
            found = plan(request, setting.store, setting.bench.qemu, setting.beside)
        except UsageError as error:
            # FROM has to be, and so has something for it to start.
            if (
                number == 0
                or (number == len(names) - 1 and len(cells) < 2)
                or "nothing to run" not in str(error)
            ):
                raise
            skipped.append(Skipped(id=f"hop{number}-{name}", reason=str(error)))
            continue
        if len(found.cells) != 1:
            ids = ", ".join(cell.id for cell in found.cells)
            raise UsageError(
                f"'{name}' stands for {len(found.cells)} guests ({ids}): name one kernel and CPU"
            )
        (cell,) = found.cells
        tag = f"-hop{number}" if number else "-first"
        cells.append(dataclasses.replace(cell, memory_mib=memory_mib, tag=tag, command=(command, ())))
    return cells, skipped


def _reserving(cell: Cell, crash_kernel_mib: int) -> Cell:
    words = f"{cell.cmdline} crashkernel={crash_kernel_mib}M".strip()
    return dataclasses.replace(cell, cmdline=words)


def _stage(cell: Cell, setting: Setting) -> Stage:
    named = cell.kernel in setting.store.catalogue.names
    kernel = setting.store.get(cell.kernel, beside=None if named else setting.beside)
    return Stage.of(cell, kernel, setting.bench)


@contextmanager
def _shown(progress: Progress, cells: Sequence[Cell]) -> Iterator[OnCheck]:
    """Tells the display of cells and checks."""
    started: set[str] = set()

    def on_check(cell_id: str, check: Any) -> None:
        if cell_id not in started:
            started.add(cell_id)
            progress.cell_started(cell_id)
        progress.check_finished(cell_id, check)

    started.add(cells[0].id)
    progress.cell_started(cells[0].id)
    yield on_check


def _command(names: Sequence[str], *, crash: bool, output: Path | None, crash_kernel_mib: int, memory: int,
             options: dict[str, Any]) -> tuple[str, ...]:  # fmt: skip
    """The command that does all of this again: a hop cannot be run by itself."""
    words = [program(), "kexec", *(("--crash",) if crash else ()), *names]
    words += ["-o", str(output)] if output is not None else []
    words += ["--crash-kernel", str(crash_kernel_mib)] if crash_kernel_mib != CRASH_KERNEL_MIB else []
    words += ["--memory", str(memory)] if memory != MEMORY_MIB else []
    for name in ("cmdline", "modules", "initrd", "vmlinux", "config"):
        words += [f"--{name}", str(options[name])] if options[name] else []
    words += ["--cpu", ",".join(options["cpus"])] if options["cpus"] else []
    words += ["--with", ",".join(options["features"])] if options["features"] else []
    words += ["--timeout", f"{options['timeout_s']:g}"] if options["timeout_s"] is not None else []
    words += [f"--{name}" for name in ("force", "offline") if options[name]]
    return tuple(words)


def _finish(found: MatrixResult, setting: Setting, report: Path | None) -> None:
    """Print the verdicts, write reports where they are wanted, and end with the exit status."""
    status = found.exit_status
    written: tuple[Path, ...] = ()
    if report is not None:
        try:
            found = keep_bundles(found, report, program=program())
            written = write_reports(found, report)
        except InfraError as error:
            click.echo(f"granule: {error}", err=True)
            status = status or ExitStatus.INFRA
    print_result(found, setting.console)
    for cell in found.cells:
        for check in cell.checks:
            if check.name in ("kexec", "crash", "vmcore") and check.output:
                for line in check.output.splitlines():
                    setting.console.print(f"{cell.id}: {check.name}: {line}", soft_wrap=True)
    if written:
        setting.console.print(f"Reports: {', '.join(str(path) for path in written)}", soft_wrap=True)
    click.get_current_context().exit(status)
