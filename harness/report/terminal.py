"""What a person sees of a run: the verdict table, what went wrong, and one last line that sums it up.

Colour only marks verdicts, and only on a terminal without NO_COLOR. Nothing is drawn that a log file or a
terminal of 80 columns could not hold; commands to copy are never wrapped by us.

May import rich, harness.report.pairs, harness.report.wording, harness.verdict and the standard library.
"""

from __future__ import annotations

import io
from typing import IO, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.pairs import Pair, pairs_of
from harness.report.wording import checks_passed, in_force, kernel_name, safe, summary_line
from harness.verdict import CellResult, MatrixResult, Verdict

__all__ = ["make_console", "print_result", "render_terminal", "verdict_text"]

MAX_FINDINGS: Final = 8
MAX_DIAGNOSIS_LINES: Final = 24
MAX_FIELD_CHARS: Final = 600


def make_console(stream: IO[str] | None = None, *, width: int | None = None) -> Console:
    """A console on a stream (stdout when None) that takes guest text for text: no markup, no emoji."""
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def render_terminal(result: MatrixResult, *, width: int = 80) -> str:
    """The whole report as plain text, at most `width` columns but for commands and paths."""
    stream = io.StringIO()
    print_result(result, Console(file=stream, width=width, markup=False, highlight=False, no_color=True))
    return stream.getvalue()


def print_result(result: MatrixResult, console: Console) -> None:
    """Print the table, then each cell that did not pass, then skipped cells, then the summary."""
    if result.cells:
        console.print(_table(result.cells))
    for name, words in _askings(result.cells).items():
        _print_hanging(console, f"{name}: {words}", indent=2)
    pairs = pairs_of(result)
    if pairs:
        console.print()
        console.print(_pair_table(pairs))
    for cell in result.cells:
        if not cell.verdict.is_pass:
            _print_trouble(cell, console)
    left_out = [f"{safe(cell.id)}: {safe(cell.reason)}" for cell in result.skipped]
    left_out += [
        f"{safe(cell.id)}: {safe(check.name)}: {safe(check.skip_reason)}"
        for cell in result.cells
        for check in cell.checks
        if check.verdict is Verdict.SKIP
    ]
    if left_out:
        console.print()
        console.print("Skipped:")
        for line in left_out:
            _print_hanging(console, line, indent=2)
    if result.caveats:
        console.print()
        for caveat in result.caveats:
            _print_hanging(console, f"Note: {safe(caveat)}.", indent=0)
    console.print()
    style = "bold green" if not result.exit_status else "bold red"
    console.print(Text(summary_line(result), style=style), soft_wrap=True)


def verdict_text(verdict: Verdict) -> Text:
    """A verdict, coloured; its word alone says all."""
    if verdict.is_pass:
        return Text(verdict.value, style="green")
    if verdict is Verdict.SKIP:
        return Text(verdict.value, style="dim")
    return Text(verdict.value, style="bold yellow" if verdict is Verdict.INFRA else "bold red")


def _table(cells: tuple[CellResult, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("kernel", overflow="fold", min_width=8)
    table.add_column("asked", no_wrap=True)
    table.add_column("in\nforce", no_wrap=True)
    table.add_column("cpu", overflow="fold", min_width=6, max_width=16)
    table.add_column("accel", no_wrap=True)
    table.add_column("MiB", justify="right", no_wrap=True)
    table.add_column("checks", justify="right", no_wrap=True)
    table.add_column("boot\ns", justify="right", no_wrap=True)
    table.add_column("total\ns", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for cell in cells:
        asking = f"\n({safe(cell.asking)})" if cell.asking else ""
        table.add_row(
            Text(f"{kernel_name(cell)}{asking}"),
            cell.page_size_asked.label,
            in_force(cell),
            Text(safe(cell.cpu)),
            Text(safe(cell.accel) or "?"),
            str(cell.memory_mib),
            checks_passed(cell),
            "-" if cell.boot_s is None else f"{cell.boot_s:.1f}",
            f"{cell.duration_s:.1f}",
            verdict_text(cell.verdict),
        )
    return table


def _askings(cells: tuple[CellResult, ...]) -> dict[str, str]:
    """What the command line said, by the name of that way of asking."""
    return {
        safe(cell.asking): _cut(safe(cell.provenance.get("page size asked by", "?")))
        for cell in cells
        if cell.asking
    }


def _pair_table(pairs: tuple[Pair, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for title in (
        "pages",
        "MiB",
        "at boot",
        "",
        "boot\ns",
        "compiled in",
        "",
        "boot\ns",
        "checks that differ",
    ):
        table.add_column(title, overflow="fold")
    for pair in pairs:
        ours, theirs = pair.boot_time, pair.compile_time
        table.add_row(
            ours.page_size_asked.label,
            str(ours.memory_mib),
            *_half(ours),
            *_half(theirs),
            Text("\n".join(safe(line) for line in pair.differences) or "none"),
        )
    return table


def _half(cell: CellResult) -> tuple[Text, Text, str]:
    boot = "-" if cell.boot_s is None else f"{cell.boot_s:.1f}"
    return Text(kernel_name(cell)), Text.assemble(verdict_text(cell.verdict), f" {checks_passed(cell)}"), boot


def _print_trouble(cell: CellResult, console: Console) -> None:
    console.print()
    console.print(Text.assemble(verdict_text(cell.verdict), " ", (safe(cell.id), "bold")), soft_wrap=True)
    if cell.reason:
        _print_hanging(console, safe(cell.reason), indent=2)
    findings = [(check.name, str(finding)) for check in cell.checks for finding in check.findings]
    for name, finding in findings[:MAX_FINDINGS]:
        _print_hanging(console, f"- {safe(name)}: {_cut(safe(finding))}", indent=2)
    if len(findings) > MAX_FINDINGS:
        _print_hanging(console, f"- and {len(findings) - MAX_FINDINGS} more findings", indent=2)
    silent = [check for check in cell.checks if not check.verdict.is_pass and not check.findings]
    for check in silent[:MAX_FINDINGS]:
        said = f" ({_cut(safe(check.skip_reason))})" if check.skip_reason else ""
        _print_hanging(console, f"- {safe(check.name)}: {check.verdict.value}{said}", indent=2)
    for line in cell.diagnosis[:MAX_DIAGNOSIS_LINES]:
        _print_hanging(console, f"| {_cut(safe(line))}", indent=2)
    if cell.bundle:
        console.print(Text(f"  kept in:   {safe(cell.bundle)} (README.txt: what to do next)"), soft_wrap=True)
        snapshot = cell.provenance.get("snapshot", "")
        if snapshot:
            console.print(Text(f"  snapshot:  {safe(snapshot)}"), soft_wrap=True)
    console.print(Text(f"  run again: {safe(cell.rerun)}"), soft_wrap=True)


def _print_hanging(console: Console, text: str, *, indent: int) -> None:
    # Not rich's Padding, which fills lines with blanks that end up in log files.
    for number, line in enumerate(Text(text).wrap(console, console.width - indent - 2, overflow="fold")):
        line.rstrip()
        console.print(Text(" " * (indent + (2 if number else 0))) + line, soft_wrap=True)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_FIELD_CHARS else f"{text[:MAX_FIELD_CHARS]} ... ({len(text)} characters)"
