"""`granule cache`: what is kept, and making room."""

from __future__ import annotations

import datetime
import sys

import click
from rich.filesize import decimal
from rich.table import Table

from harness.cache import Cache
from harness.errors import UsageError
from harness.report.terminal import make_console

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """List and prune what granule has fetched and built."""


@cache.command(name="list")
def list_() -> None:
    """What the cache holds; everything in it can be fetched or built again."""
    kept = Cache()
    table = Table(box=None, pad_edge=False)
    for title in ("KIND", "WHAT", "SIZE", "LAST USED"):
        table.add_column(title, justify="right" if title == "SIZE" else "left")
    entries = kept.list()
    for entry in entries:
        used = datetime.datetime.fromtimestamp(entry.last_used, datetime.UTC)
        table.add_row(entry.kind, entry.label, decimal(entry.size_bytes), used.strftime("%Y-%m-%d %H:%M"))
    console = make_console(sys.stdout)
    console.print(table)
    console.print(
        f"{len(entries)} entries, {decimal(sum(entry.size_bytes for entry in entries))}, in {kept.root}"
    )


@cache.command()
@click.option(
    "--older-than", "days", type=click.FloatRange(0), metavar="DAYS", help="Only what was not used since."
)
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind; see `granule cache list`."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(days: float | None, kinds: tuple[str, ...], yes: bool) -> None:
    """Remove entries; one that a run is using stays."""
    if not yes and not _confirmed():
        click.echo("nothing removed")
        return
    done = Cache().prune(older_than_days=days, kinds=kinds or None)
    for entry in done.in_use:
        click.echo(f"in use, left alone: {entry.kind} {entry.label}")
    click.echo(
        f"removed {len(done.removed)} entries, {decimal(sum(entry.size_bytes for entry in done.removed))}"
    )


def _confirmed() -> bool:
    """What the user answers; raises UsageError where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on whether to remove what is not in use: give --yes")
    return click.confirm("Remove what is not in use?")
