"""`granule smoke`: the verdict table."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.cli.exact import exact_options, print_exact, with_exact
from harness.cli.options import (
    Setting,
    guest_kind_options,
    machine_options,
    matrix_options,
    parse_checks,
    parse_words,
    program,
)
from harness.cli.progress import KernelProgress
from harness.errors import ExitStatus, InfraError
from harness.matrix.asking import ASKINGS, BY_SIZE, LACKING, parse_askings
from harness.matrix.matrix import default_jobs, run_matrix
from harness.matrix.plan import plan
from harness.matrix.post_mortem import PostMortem
from harness.report import write_reports
from harness.report.bundle import FAILED, claim_directory, keep_bundles
from harness.report.progress import Progress
from harness.report.terminal import make_console, print_result
from harness.smoke import EVERY_CHECK, Check
from harness.spec import GuestKind
from harness.verdict import MatrixResult

__all__ = ["run_and_report", "smoke"]


@click.command()
@machine_options
@guest_kind_options
@matrix_options
@exact_options
@click.option(
    "--check", "checks", multiple=True, metavar="NAME,…", help="Only these checks; --list-checks names them."
)
@click.option(
    "--allow-missing",
    multiple=True,
    metavar="KERNEL,…",
    help="Kernels whose absence is a skip and not an error.",
)
@click.option(
    "--ask",
    "askings",
    multiple=True,
    metavar="WAY,…",
    help="How boot-time kernels are asked for their page size; --list-ways names the ways. Default: by size "
    "where --page-size is given, else all.",
)
@click.option("--list-ways", is_flag=True, help="Print the ways of asking and the page size due, and end.")
@click.option("--list-checks", is_flag=True, help="Print the checks and what each one claims, and end.")
def smoke(
    checks: tuple[str, ...],
    jobs: int | None,
    report: Path,
    snapshot: bool,
    snapshot_limit: int,
    deterministic: str | None,
    explore: int | None,
    allow_missing: tuple[str, ...],
    askings: tuple[str, ...],
    list_ways: bool,
    list_checks: bool,
    **options: Any,
) -> None:
    """Boot kernels at each page size, run the smoke checks in them, and print a verdict for each.

    A boot-time kernel (one Image that takes its page size from arm64.pagesize=) is asked for each size, and
    then in the ways in which people get that wrong. With compile-time kernels beside it, each size is printed
    once more as a pair.

    Without options: Debian's packaged 4K and 16K kernels, and a trimmed 64K one built from Debian's kernel
    source. Reports go to granule-report/; a cell that fails keeps its console and command line there.
    """
    if list_checks:
        for check in EVERY_CHECK:
            click.echo(f"{check.name:16} {check.about}{_only(check)}")
        return
    if list_ways:
        click.echo(f"{BY_SIZE:16} each page size by its name: the size asked for")
        click.echo(f"{LACKING:16} a size that the CPU has no granule for: the largest that it has")
        for asking in ASKINGS:
            click.echo(f"{asking.name:16} {asking.about}")
        return
    missing = frozenset(name for value in allow_missing for name in value.split(","))
    console = make_console(sys.stdout)
    setting = Setting.make(options, console, KernelProgress(), parse_checks(checks))
    request = with_exact(setting.request, deterministic, explore)
    ways = parse_askings(parse_words(askings))
    if not ways:
        ways = (BY_SIZE,) if request.page_sizes or request.exact else parse_askings(("all",))
    request = dataclasses.replace(request, askings=ways)
    setting = dataclasses.replace(setting, request=request)
    run_and_report(setting, report, jobs, missing, print_exact, snapshots=snapshot_limit if snapshot else 0)


def _only(check: Check) -> str:
    """Where a check runs, unless that is in the micro guest on any platform."""
    words = [] if check.platform is None else [f"--platform {check.platform.value}"]
    if GuestKind.MICRO not in check.guests:
        words.append(f"--guest {','.join(guest.value for guest in check.guests)}")
    return f" [{' '.join(words)}]" if words else ""


def run_and_report(
    setting: Setting,
    report: Path,
    jobs: int | None,
    allow_missing: frozenset[str],
    show: Callable[[MatrixResult, Console], None] | None = None,
    *,
    snapshots: int = 0,
) -> None:
    """Run the setting's matrix, print it (`show` first), write its reports, and end with its exit status.

    `snapshots`: how many guests of cells that do not pass are kept.
    """
    post_mortem = PostMortem(report / FAILED, limit=snapshots) if snapshots else None
    bench = dataclasses.replace(setting.bench, post_mortem=post_mortem)
    todo = plan(setting.request, setting.store, setting.bench.qemu, setting.beside)
    claim_directory(report)
    with Progress(setting.console, expected=len(todo.cells)) as progress:
        setting.kernel_progress.show_on(progress)
        result = run_matrix(
            todo, setting.store, bench, progress,
            jobs=jobs or default_jobs(), beside=setting.beside, allow_missing=allow_missing,
            on_interrupt=lambda so_far: _keep(so_far, report),
        )  # fmt: skip
    result, written = _write(result, report)
    if show is not None:
        show(result, setting.console)
    print_result(result, setting.console)
    if post_mortem is not None and post_mortem.left_out:
        left_out = ", ".join(post_mortem.left_out)
        setting.console.print(f"No snapshot, because {snapshots} were kept: {left_out}", soft_wrap=True)
    if written:
        setting.console.print(f"Reports: {', '.join(str(path) for path in written)}", soft_wrap=True)
    status = result.exit_status
    click.get_current_context().exit(status if status or written else ExitStatus.INFRA)


def _keep(so_far: MatrixResult, report: Path) -> None:
    _write(so_far, report)


def _write(result: MatrixResult, report: Path) -> tuple[MatrixResult, tuple[Path, ...]]:
    """The result with its bundles' places, and the files written: none where the disk does not take them."""
    try:
        result = keep_bundles(result, report, program=program())
        return result, write_reports(result, report)
    except InfraError as error:
        # The verdicts are worth more than the files.
        click.echo(f"granule: {error}", err=True)
        return result, ()
