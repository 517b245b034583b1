"""What a person sees of a weeding: what was turned off and why, what stays broken, what it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.terminal import make_console
from harness.report.wording import safe
from harness.weed.failures import Failure
from harness.weed.verdicts import Dropped, Outcome, Proof

__all__ = ["print_outcome"]

_MAX_NAMES = 12


def print_outcome(outcome: Outcome, stream: TextIO) -> None:
    """Print the table, then what stays broken, the notes, and a line that sums it up."""
    console = make_console(stream)
    for note in outcome.notes:
        console.print(Text(safe(note)))
    if outcome.dropped:
        console.print(_dropped(outcome.dropped))
    if outcome.stuck:
        console.print()
        console.print(_stuck(outcome))
    for words, names in (
        ("Off with several of them together", outcome.together),
        ("Off for a while, and builds", outcome.turned_back_on),
    ):
        if names:
            console.print(Text(f"{words}: {_names(names)}"))
    console.print()
    _sum_up(outcome, console)


def _dropped(dropped: Iterable[Dropped]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, width in (("OPTION OFF", 14), ("FILE", 14), ("FIRST ERROR", 24), ("WHAT ELSE IT TAKES", 12)):
        table.add_column(title, overflow="fold", min_width=width)
    for each in dropped:
        option = f"{each.option}={each.value}"
        if each.instead_of:
            option += f"\n(it holds {each.instead_of} on)"
        if each.proof is Proof.NONE:
            option += "\n(not proven)"
        first = each.failures[0]
        more = len({failure.object for failure in each.failures}) - 1
        file = (first.source or first.object) + (f"\nand {more} more" if more else "")
        error = f"{first.kind.value}: {_error(first)}"
        hints = [f"\n{name} is defined in {place}" for name, place in list(each.defined_in.items())[:3]]
        takes = [f"{name} (broken too)" if name in each.broken_too else name for name in each.takes]
        cells = (option, file, error + "".join(hints), _names(takes) or "nothing")
        table.add_row(*(Text(_safe_lines(cell)) for cell in cells))
    return table


def _stuck(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, width in (("STILL BROKEN", 14), ("OPTION", 8), ("FILE", 14), ("FIRST ERROR", 24)):
        table.add_column(title, overflow="fold", min_width=width)
    for stuck in outcome.stuck[:200]:
        failure = stuck.failure
        cells = (
            stuck.why.value,
            stuck.option or "-",
            failure.source or failure.object,
            f"{failure.kind.value}: {_error(failure)}",
        )
        table.add_row(*(Text(_safe_lines(cell)) for cell in cells))
    return table


def _sum_up(outcome: Outcome, console: Console) -> None:
    spent = outcome.spent
    parts = [
        f"keep-going build {spent.keep_going_s:.0f} s",
        f"later rounds {spent.rounds_s:.0f} s",
        f"proofs {spent.proof_s:.0f} s",
        f"last build {spent.last_s:.0f} s",
    ]
    head = f"{len(outcome.dropped)} options off in {spent.rounds} rounds: {', '.join(parts)}"
    if not outcome.is_complete:
        head = f"Not finished. So far {head}"
    elif outcome.stuck:
        head = f"It does not build: {len(outcome.stuck)} failures stay. {head}"
    console.print(Text(head), soft_wrap=True)
    if outcome.only and outcome.is_complete:
        where = ", ".join(outcome.only)
        console.print(
            Text(f"Only {where} was built: nothing was linked, and there is no Image."), soft_wrap=True
        )
    if outcome.image is not None:
        console.print(Text(f"Image: {outcome.image} (config, vmlinux, modules beside it)"), soft_wrap=True)


def _error(failure: Failure) -> str:
    """The error without the file's name, which stands beside it."""
    return failure.error.removeprefix(f"{failure.source}:") if failure.source else failure.error


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _safe_lines(text: str) -> str:
    return "\n".join(safe(line) for line in text.split("\n"))
