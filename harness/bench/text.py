"""The tables on a terminal: benchmark by benchmark, and where the instructions went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from harness.bench.compare import Comparison, Difference
from harness.bench.history import Trend
from harness.bench.reasons import Part, Reasons
from harness.bench.result import Clock, Result
from harness.report.terminal import make_console
from harness.report.wording import safe

__all__ = [
    "how_sure",
    "number",
    "percent",
    "print_comparison",
    "print_reasons",
    "print_result",
    "print_trends",
    "what_it_is",
]


def what_it_is(clock: Clock) -> str:
    """The line that stands over every table."""
    if clock is Clock.INSTRUCTIONS:
        return "Instructions, not time: cache and TLB misses cost more than their count says."
    return "Time, in nanoseconds."


def number(value: float | None) -> str:
    """A number of a table: whole ones whole, small ones to a digit."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.1f}"


def signed(value: float | None) -> str:
    """A difference."""
    return "-" if value is None else f"{'+' if value > 0 else ''}{number(value)}" if value else "0"


def percent(value: float | None) -> str:
    """A difference in percent, one digit as the author's table has it, more where that would be 0."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    return f"{value:+.1f} %" if abs(value) >= 0.05 else f"{value:+.4f} %"


def how_sure(comparison: Comparison, difference: Difference) -> str:
    """The interval of a difference, or that it is exact, or why there is none."""
    for title, reason in (
        (comparison.base.title, difference.base_reason),
        (comparison.other.title, difference.other_reason),
    ):
        if reason:
            return f"{title}: {reason}"
    if comparison.is_exact:
        return "exact" if comparison.base.verified and comparison.other.verified else "measured once"
    change = difference.change
    if change is None:
        return "too few samples"
    sure = "" if change.is_clear else ", not clear"
    return f"{change.low:+.1f} to {change.high:+.1f} %, p {change.p_value:.3f}{sure}"


def print_result(result: Result, console: Console) -> None:
    """One result by itself."""
    console.print(safe(result.title), style="bold")
    console.print(what_it_is(result.clock))
    rows = []
    for name in result.names:
        row = result.row(name)
        if row is not None:
            sure = row.no_number or ("exact" if result.verified else "")
            rows.append((safe(name), number(result.value(name)), safe(f"per {row.samples.unit}"), safe(sure)))
    _print_table(("benchmark", result.clock.unit, "", ""), rows, console)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """One comparison: what else differs first, then benchmark by benchmark."""
    console.print(safe(comparison.title), style="bold", soft_wrap=True)
    for line in comparison.headlines:
        console.print(f"NOTE: {safe(line)}", soft_wrap=True)
    console.print(what_it_is(comparison.base.clock))
    if comparison.base.large_bytes < 1 << 30:
        console.print(f"The large area is {comparison.base.large_bytes >> 20} MiB, scaled from 1 GiB.")
    if comparison.noise_percent is not None:
        console.print(f"Noise floor of the base: {comparison.noise_percent:.1f} %.")
    rows = [
        (
            safe(one.name),
            number(one.base),
            number(one.other),
            signed(one.more),
            percent(one.percent),
            safe(how_sure(comparison, one)),
            safe(f"per {one.unit}"),
        )
        for one in comparison.differences
    ]
    titles = ("benchmark", comparison.base.title, comparison.other.title, "more", "percent", "", "")
    _print_table(titles, rows, console)


def print_reasons(reasons: Reasons, comparison: Comparison, console: Console) -> None:
    """A benchmark's gainers and losers."""
    heading = f"{reasons.name}, by function ({comparison.title}), for one operation"
    console.print(safe(heading), style="bold", soft_wrap=True)
    rows = [_part(part) for part in reasons.shown]
    if reasons.rest:
        rows.append((f"({len(reasons.functions) - len(reasons.shown)} others)", "", "", signed(reasons.rest)))
    rows.append(
        ("total", number(reasons.base_total), number(reasons.other_total),
         signed(reasons.other_total - reasons.base_total))
    )  # fmt: skip
    rows += [_part(part) for part in reasons.beside]
    _print_table(("function", comparison.base.title, comparison.other.title, "more"), rows, console)


def _part(part: Part) -> tuple[str, str, str, str]:
    return safe(part.name), number(part.base), number(part.other), signed(part.more)


def _print_table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]], console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for index, title in enumerate(titles):
        is_text = index == 0 or not title
        table.add_column(safe(title), justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    wanted = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    make_console(console.file, width=max(wanted, console.width)).print(table)
    console.print()


def print_trends(trends: Iterable[Trend], console: Console) -> None:
    """A line for each benchmark: first and last number, and the drift between them."""
    rows = [
        (
            safe(one.title),
            safe(one.name),
            str(len(one.values)),
            number(one.values[0]),
            number(one.values[-1]),
            percent(one.percent),
            percent(one.last_percent),
            safe(f"{one.clock}, program {one.program_sha256[:8]}"),
        )
        for one in trends
    ]
    titles = ("kernel", "benchmark", "runs", "first", "last", "drift", "last step", "")
    _print_table(titles, rows, console)
