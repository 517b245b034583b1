"""`granule repro`: a failing cell as a directory for somebody who has QEMU and no granule."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import UsageError
from harness.report import load_report
from harness.report.repro import refusal_of, write_repro

__all__ = ["repro"]


@click.command()
@click.argument("cell_id", metavar="CELL")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The directory to make.",
)
@click.option(
    "--report",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Where the cell's report.json is. Default: granule-series, else granule-report.",
)
def repro(cell_id: str, output: Path, report: Path | None) -> None:
    """Make a directory that shows a failure again with QEMU and a shell only: kernel, initramfs, run.sh.

    CELL is the id of a cell that did not pass, as reports name it. Not for Hyper-V, whose host is part of
    granule, nor for distributions' guests.

    \b
    granule repro 05-16k-virt -o oops-at-16k
    oops-at-16k/run.sh
    """
    found = _report(report)
    cells = {cell.id: cell for cell in load_report(found).cells}
    if cell_id not in cells:
        able = [name for name, cell in cells.items() if not refusal_of(cell)]
        raise UsageError(
            f"{found} has no cell '{cell_id}'. Of those in it these can be shown so: "
            f"{', '.join(able[:20]) or 'none, since all passed or need their host'}"
        )
    write_repro(cells[cell_id], output)
    click.echo(str(output / "run.sh"))


def _report(given: Path | None) -> Path:
    places = [given] if given is not None else [Path("granule-series"), Path("granule-report")]
    for place in places:
        path = place / "report.json" if place.is_dir() else place
        if path.is_file():
            return path
    raise UsageError(f"there is no report.json in {' or '.join(map(str, places))}: say where with --report")
