"""`granule kernels list`."""

from __future__ import annotations

import sys

import click
from rich.table import Table

from harness.cache import Cache
from harness.kernels.store import KernelStore
from harness.report.terminal import make_console

__all__ = ["list_"]


@click.command(name="list")
def list_() -> None:
    """The kernels of the catalogue, and which of them are here."""
    table = Table(box=None, pad_edge=False)
    for title in ("NAME", "PAGES", "STATE", "RELEASE", "WHAT FOR"):
        table.add_column(title, no_wrap=title in ("NAME", "STATE"))
    for row in KernelStore(Cache()).list():
        pages = row.page_size.label if row.page_size else "boot-time"
        table.add_row(row.name, pages, row.state.value, row.release, row.purpose)
    make_console(sys.stdout).print(table)
