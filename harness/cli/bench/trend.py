"""`granule bench trend`: how benchmarks drifted over the runs of a history file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.bench.history import read_history, trends
from harness.bench.text import print_trends
from harness.cli.options import parse_words
from harness.errors import ExitStatus
from harness.report.terminal import make_console

__all__ = ["trend"]


@click.command()
@click.argument("history", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--only", metavar="NAME,…", multiple=True, help="Benchmarks. Default: all.")
@click.option(
    "--threshold",
    type=click.FloatRange(0),
    metavar="PERCENT",
    help="End with 1 when the last run of a benchmark is dearer than its first by more than that.",
)
@click.pass_context
def trend(context: click.Context, history: Path, only: tuple[str, ...], threshold: float | None) -> None:
    """Show how benchmarks drifted over the runs that `granule bench --history` kept: first, last, each step.

    Runs of one kernel's name, page size, clock and program are one line.
    """
    found = [one for one in trends(read_history(history)) if not only or one.name in parse_words(only)]
    print_trends(found, make_console(sys.stdout))
    drifted = threshold is not None and any(
        one.percent is not None and one.percent > threshold for one in found
    )
    context.exit(ExitStatus.FAILED if drifted else ExitStatus.PASSED)
