"""`granule kernels`: what exists, and getting it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.table import Table

from harness.build.disks import prepare_disks
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.cli.progress import KernelProgress
from harness.kernels.store import KernelStore
from harness.report.terminal import make_console
from harness.spec import PageSize

__all__ = ["kernels"]


@click.group()
def kernels() -> None:
    """List, fetch and build kernels."""


@kernels.command(name="list")
def list_() -> None:
    """The kernels of the catalogue, and which of them are here."""
    table = Table(box=None, pad_edge=False)
    for title in ("NAME", "PAGES", "STATE", "RELEASE", "WHAT FOR"):
        table.add_column(title, no_wrap=title in ("NAME", "STATE"))
    for row in KernelStore(Cache()).list():
        pages = row.page_size.label if row.page_size else "boot-time"
        table.add_row(row.name, pages, row.state.value, row.release, row.purpose)
    make_console(sys.stdout).print(table)


@kernels.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--refresh", is_flag=True, help="Look for a newer one in the archive.")
@click.option("--offline", is_flag=True, help="Take only what is in the cache.")
def fetch(names: tuple[str, ...], refresh: bool, offline: bool) -> None:
    """Fetch or build kernels now, and all their guests need, so that later runs can be --offline."""
    progress = KernelProgress()
    cache = Cache()
    store = KernelStore(cache, offline=offline, progress=progress)
    guest = MicroGuest(cache, offline=offline, progress=progress)
    for name in (member for given in names for member in store.expand(given)):
        kernel = store.get(name, refresh=refresh)
        progress.close()
        click.echo(f"{name}: {kernel.release}, sha256 {kernel.sha256[:16]}, {kernel.origin}")
        guest.prepare(kernel)
        for size in PageSize if kernel.page_size is None else (kernel.page_size,):
            progress(0, None, f"making the disks for {size.label}")
            prepare_disks(cache, size)
        progress.close()


@kernels.command()
@click.option(
    "--tree",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A kernel source tree; it is never written to.",
)
@click.option(
    "--like", required=True, metavar="NAME", help="Catalogue kernel whose fragments to use: trimmed-16k."
)
def build(tree: Path, like: str) -> None:
    """Build a source tree of yours with the fragments of a catalogue kernel; prints the Image's path."""
    progress = KernelProgress()
    kernel = KernelStore(Cache(), progress=progress).build_tree(like, tree)
    progress.close()
    click.echo(f"{kernel.release}, sha256 {kernel.sha256[:16]}", err=True)
    click.echo(str(kernel.image))
