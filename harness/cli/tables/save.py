"""`granule tables save`: keep a guest in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.tables.options import source_options
from harness.cli.tables.source import open_source
from harness.snapshot import save as save_snapshot
from harness.tables.words import size

__all__ = ["save"]


@click.command()
@click.argument("source")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@source_options
def save(source: str, file: Path, **options: Any) -> None:
    """Write the registers and memory of SOURCE to FILE, for the other commands to open.

    \b
    granule tables save debian-4k guest.snap
    granule tables save --base 80000000 --registers regs.json memory.bin guest.snap
    """
    with open_source(source, options) as opened:
        save_snapshot(opened.snapshot, file)
    click.echo(f"granule: {file} holds {size(file.stat().st_size)}", err=True)
