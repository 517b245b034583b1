"""`granule report`: what an earlier run found, printed again; or as text for a cover letter."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.errors import UsageError
from harness.report import load_report
from harness.report.series.document import load_series
from harness.report.series.mail import render_mail
from harness.report.series.terminal import print_series
from harness.report.terminal import make_console, print_result

__all__ = ["report"]


@click.command()
@click.argument("path", metavar="REPORT", type=click.Path(exists=True, path_type=Path))
@click.option("--mail", is_flag=True, help="Of a series: plain text to paste below a cover letter.")
def report(path: Path, mail: bool) -> None:
    """Print what an earlier run found: of `granule series`, or of any command that writes a report.

    REPORT is the directory, or the series.json or report.json in it. With --mail it is at most 25 lines of 72
    columns: base and series, compiler and QEMU, verdicts by page size, what is new against the base, and
    what was not covered.

    \b
    granule report granule-series
    granule report --mail granule-series >>cover-letter.txt
    """
    found = _found(path)
    if found.name == "report.json" or not found.name.startswith("series"):
        if mail:
            raise UsageError(f"--mail is for a series' report, and {path} holds none (series.json)")
        print_result(load_report(found), make_console(sys.stdout))
        return
    result, about = load_series(found)
    if mail:
        click.echo(render_mail(result, about), nl=False)
    else:
        print_series(result, about, make_console(sys.stdout))


def _found(path: Path) -> Path:
    if path.is_file():
        return path
    for name in ("series.json", "report.json"):
        if (path / name).is_file():
            return path / name
    raise UsageError(f"{path} holds neither series.json nor report.json: no report was written there")
