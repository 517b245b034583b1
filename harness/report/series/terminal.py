"""The table of a series on a terminal, and beneath it what is new and what was not covered."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from harness.report.series.facts import About, Table, first_bad_lines, left_out_lines, summary, warning_lines
from harness.report.wording import safe
from harness.series.engine import SeriesResult
from harness.series.verdicts import Word

__all__ = ["print_series", "render_series"]

_STYLES = {
    Word.NEW: "bold red",
    Word.STILL: "red",
    Word.FLAKY: "bold yellow",
    Word.BASE: "yellow",
    Word.FIXED: "bold green",
    Word.PASS: "green",
}
_MAX_LINES = 40


def render_series(result: SeriesResult, about: About, *, width: int = 100) -> str:
    """The whole as plain text."""
    stream = io.StringIO()
    print_series(
        result, about, Console(file=stream, width=width, markup=False, highlight=False, no_color=True)
    )
    return stream.getvalue()


def print_series(result: SeriesResult, about: About, console: Console) -> None:
    """Print the table, then each first bad patch, new warnings, what was not covered, and one last line."""
    table = Table.of(result)
    console.print(f"Base: {safe(about.base)}. Series: {safe(about.series)}, sha256 {about.digest[:12]}.")
    console.print(f"{safe(about.compiler)}; {safe(about.qemu)}; configuration {safe(about.configuration)}.")
    console.print()
    console.print(_drawn(table))
    for title, lines in (
        ("First bad patch, page size and check:", first_bad_lines(result)),
        ("Warnings that the base does not have:", warning_lines(result)),
        ("Not covered:", left_out_lines(result)),
    ):
        if lines:
            console.print()
            console.print(title)
            for line in lines[:_MAX_LINES]:
                _hanging(console, line)
            if len(lines) > _MAX_LINES:
                console.print(f"  and {len(lines) - _MAX_LINES} more: see the report")
    console.print()
    style = "bold green" if not result.exit_status else "bold red"
    console.print(Text(f"{summary(result)} in {result.seconds:.0f} s", style=style), soft_wrap=True)


def _drawn(table: Table) -> Drawn:
    asked = table.result.asked
    drawn = Drawn(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    drawn.add_column("#", justify="right", no_wrap=True)
    drawn.add_column("patch", overflow="fold", min_width=16)
    for variant in asked.variants:
        drawn.add_column(variant.label, overflow="fold", min_width=12)
    for step in range(len(asked.patches) + 1):
        subject = asked.patches[step - 1].subject if step else "the base, as control"
        cells = [
            Text(safe(table.words(step, variant)), style=_STYLES.get(table.word(step, variant), ""))
            for variant in asked.variants
        ]
        drawn.add_row(str(step), Text(safe(subject)), *cells)
    return drawn


def _hanging(console: Console, text: str) -> None:
    for number, line in enumerate(Text(text).wrap(console, console.width - 4, overflow="fold")):
        line.rstrip()
        console.print(Text("    " if number else "  ") + line, soft_wrap=True)
