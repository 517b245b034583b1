"""`granule bench` itself: which guests are measured, what is held against what, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.bench.compare import Comparison, compare, worst
from harness.bench.files import GuestFiles, build_plugin, guest_files
from harness.bench.guest_output import Outcome
from harness.bench.history import append_history
from harness.bench.measure import KERNEL_WORDS, Guest
from harness.bench.page import render_page
from harness.bench.reasons import reasons_for
from harness.bench.result import Clock, Result, render_results, told_apart
from harness.bench.run import Plan, measure_all
from harness.bench.text import print_comparison, print_reasons, print_result
from harness.cli.options import Setting, leave_out, machine_options, parse_words
from harness.cli.progress import KernelProgress
from harness.determinism.conditions import Conditions
from harness.errors import ExitStatus, InfraError, UsageError
from harness.kernels.kernel import Kernel
from harness.matrix.cell import Cell, Request
from harness.matrix.matrix import default_jobs
from harness.matrix.plan import plan
from harness.qemu.probe import resolve_accel
from harness.report import write_whole
from harness.report.terminal import make_console
from harness.smoke import Check
from harness.smoke.check import BASE_MEMORY_MIB
from harness.smoke.page_size import page_size
from harness.spec import Accel, PageSize

__all__ = ["bench", "pairs_of", "report_option", "show", "status_of", "write_report"]

WHY = ("fork", "munmap")
ROUNDS = 3

report_option = click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    default="granule-bench",
    show_default=True,
    metavar="DIR",
    help="Where bench.json and bench.html go.",
)


@click.group(invoke_without_command=True)
@leave_out("vcpus", "features", "platforms")
@machine_options
@click.option(
    "--vs",
    metavar="NAME|PATH,…",
    multiple=True,
    help="Kernels to hold against those of --kernel, at each page size that both have.",
)
@click.option("--only", metavar="NAME,…", multiple=True, help="Benchmarks. Default: all that there are.")
@click.option(
    "--clock",
    type=click.Choice([clock.value for clock in Clock]),
    help="Default: instructions under TCG, time under KVM.",
)
@click.option("--samples", type=click.IntRange(1, 10_000), metavar="N", help="Of each benchmark. Default: 9.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=ROUNDS,
    show_default=True,
    metavar="N",
    help="By time: how often each guest is measured, in turns.",
)
@click.option(
    "--bytes",
    "large_bytes",
    type=click.IntRange(4 << 20),
    metavar="N",
    help="What stands for 1 GiB. Default: 1 GiB, or what the guest's memory allows.",
)
@click.option(
    "--memory",
    type=click.IntRange(128),
    default=BASE_MEMORY_MIB,
    show_default=True,
    metavar="MIB",
    help="Guest RAM.",
)
@click.option(
    "--functions/--no-functions",
    default=True,
    show_default=True,
    help="Count by function too, in the second run. Needs gcc.",
)
@click.option(
    "--why",
    metavar="NAME,…",
    multiple=True,
    default=WHY,
    help="Benchmarks to take apart on the terminal; the web page has all. Default: fork,munmap.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0),
    metavar="PERCENT",
    help="End with 1 when a benchmark became dearer by more than that.",
)
@click.option(
    "--history",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append the numbers there, for `granule bench trend`.",
)
@click.option("--jobs", "-j", type=click.IntRange(1), help="Guests at once. Default: one per processor.")
@report_option
@click.pass_context
def bench(context: click.Context, /, **options: Any) -> None:
    """Count what kernels do for a fork, a fault, a system call: to the instruction under TCG.

    Each guest is run twice, and a benchmark whose two runs differ has no number. Without --vs kernels of
    several page sizes are held against the first.

    \b
    granule bench --kernel trimmed --page-size 4k,64k
    granule bench --kernel ~/linux-before --vs ~/linux-after --threshold 0.5
    granule bench --kernel trimmed --vs ~/linux-boot-time --page-size 4k,16k,64k --only fork,munmap

    Exit status: 0 measured; 1 a benchmark failed its own check, or --threshold; 3 runs were not equal.
    """  # fmt: skip
    if context.invoked_subcommand is None:
        context.exit(_measure(options))


def _measure(options: dict[str, Any]) -> int:
    console, progress = make_console(sys.stdout), KernelProgress()
    err = make_console(sys.stderr)
    checks = (Check(run=page_size, memory_mib=dict.fromkeys(PageSize, options["memory"])),)
    options |= {"vcpus": 1, "features": (), "platforms": ("virt",)}
    setting = Setting.make(options, err, progress, checks)
    clock = _clock(options)
    request = _request(setting.request, clock)
    files = guest_files(setting.bench.cache)
    plugin = (
        build_plugin(setting.bench.cache) if clock is Clock.INSTRUCTIONS and options["functions"] else None
    )
    first = _guests(request, setting, files, options, err)
    others = parse_words(options["vs"])
    second = _guests(replace(request, kernels=others), setting, files, options, err) if others else ()
    pairs = pairs_of(first, second)
    progress.close()
    results = measure_all(
        Plan(guests=(*first, *second), plugin=plugin, rounds=options["rounds"]),
        setting.bench,
        jobs=options["jobs"] or default_jobs(),
        say=lambda line: err.print(f"granule: {line}", soft_wrap=True),
    )
    results = told_apart(results)
    comparisons = tuple(compare(results[one], results[other]) for one, other in pairs)
    write_report(options["report"], results, comparisons, err)
    if options["history"] is not None:
        append_history(options["history"], results)
    show(results, comparisons, parse_words(options["why"]), console)
    return status_of(results, comparisons, options["threshold"], console)


def _clock(options: dict[str, Any]) -> Clock:
    accel = resolve_accel(Accel(options["accel"]))
    if options["clock"] is None:
        return Clock.INSTRUCTIONS if accel is Accel.TCG else Clock.TIME
    return Clock(options["clock"])


def _request(request: Request, clock: Clock) -> Request:
    exact = (Conditions.of(None),) if clock is Clock.INSTRUCTIONS else ()
    return replace(request, exact=exact, cmdline=f"{KERNEL_WORDS} {request.cmdline}".strip())


def _guests(
    request: Request, setting: Setting, files: GuestFiles, options: dict[str, Any], err: Console
) -> tuple[Guest, ...]:
    """The guests of a request, their kernels fetched or built; raises UsageError when there is none."""
    found = plan(request, setting.store, setting.bench.qemu, setting.beside)
    for skipped in found.skipped:
        err.print(f"granule: not measured: {skipped.id}: {skipped.reason}", soft_wrap=True)
    return tuple(
        Guest(
            cell=cell,
            kernel=_kernel(cell, setting),
            files=files,
            names=parse_words(options["only"]),
            samples=options["samples"],
            large_bytes=options["large_bytes"],
        )
        for cell in found.cells
    )


def _kernel(cell: Cell, setting: Setting) -> Kernel:
    named = cell.kernel in setting.store.catalogue.names
    kernel = setting.store.get(cell.kernel, beside=None if named else setting.beside)
    setting.bench.guest.prepare(kernel.running(cell.page_size))
    return kernel


def pairs_of(first: tuple[Guest, ...], second: tuple[Guest, ...]) -> tuple[tuple[int, int], ...]:
    """Which result is held against which, by number; raises UsageError where --vs has no counterpart."""
    if not second:
        return tuple((0, other) for other in range(1, len(first)))
    sizes = [guest.cell.page_size for guest in first]
    if len(first) == len(second) == 1:
        return ((0, 1),)
    found = tuple(
        (sizes.index(guest.cell.page_size), len(first) + number)
        for number, guest in enumerate(second)
        if guest.cell.page_size in sizes
    )
    if not found:
        raise UsageError("the kernels of --kernel and --vs have no page size in common: name one of each")
    return found


def write_report(
    directory: Path, results: tuple[Result, ...], comparisons: tuple[Comparison, ...], err: Console
) -> None:
    """Write bench.json and bench.html, each whole or not at all; raises InfraError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "bench.json", render_results(results))
        write_whole(directory / "bench.html", render_page(results, comparisons))
    except OSError as error:
        raise InfraError(f"cannot write to {directory}: {error.strerror or error}") from error
    err.print(f"granule: wrote {directory}/bench.json and bench.html", soft_wrap=True)


def show(
    results: Iterable[Result], comparisons: tuple[Comparison, ...], why: tuple[str, ...], console: Console
) -> None:
    """Print the comparisons, or the results where there is nothing to compare."""
    if not comparisons:
        for result in results:
            print_result(result, console)
    for comparison in comparisons:
        print_comparison(comparison, console)
        for name in why:
            reasons = reasons_for(comparison.base, comparison.other, name)
            if reasons is not None and reasons.functions:
                print_reasons(reasons, comparison, console)


def status_of(
    results: tuple[Result, ...],
    comparisons: tuple[Comparison, ...],
    threshold: float | None,
    console: Console,
) -> int:
    """The command's exit status; what is over the threshold is printed."""
    dearer = worst(comparisons, threshold) if threshold is not None else ()
    for line in dearer:
        console.print(f"over the threshold of {threshold:g} %: {line}", soft_wrap=True)
    rows = [row for result in results for row in result.rows]
    if dearer or any(row.samples.outcome is Outcome.FAIL for row in rows):
        return ExitStatus.FAILED
    return ExitStatus.INFRA if any(row.varied for row in rows) else ExitStatus.PASSED
