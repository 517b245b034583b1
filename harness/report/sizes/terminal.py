"""The tables of a comparison on a terminal, in a log or in a pipe: numbers are never cut to fit."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from harness.report.sizes.comparison import Comparison
from harness.report.sizes.sheet import Row, Sheet, guest_sheet, kb, size_sheet
from harness.report.terminal import make_console
from harness.report.wording import safe

__all__ = ["print_comparison"]


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print both tables, each with its notes below."""
    for number, sheet in enumerate(filter(None, (size_sheet(comparison), guest_sheet(comparison)))):
        if number:
            console.print()
        _print_sheet(sheet, console)
    if not comparison.guests:
        for line in comparison.without_guest:
            console.print(safe(line))


def _print_sheet(sheet: Sheet, console: Console) -> None:
    console.print(sheet.title, style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("", no_wrap=True)
    for title in sheet.columns:
        table.add_column(title.replace(" ", "\n"), justify="right", vertical="bottom", no_wrap=True)
    for row in sheet.rows:
        for line in _lines(row):
            table.add_row(*line)
    wanted = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    make_console(console.file, width=max(wanted, console.width)).print(table)
    console.print()
    for note in sheet.notes:
        console.print(safe(note))


def _lines(row: Row) -> list[tuple[str, ...]]:
    lines = [(safe(row.label), *map(kb, row.values))]
    if row.against:
        lines.append((f"  vs {safe(row.against)}", *row.differences()))
        lines.append(("", *row.percents()))
    return lines
