"""The values of this package for a terminal: lines that may be cut, copied and searched.

Colour says nothing that the letters do not, and appears on a terminal without NO_COLOR only. Lines are
wrapped by nobody: an address must survive a copy. May import rich and this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.text import Text

from harness.tables.difference import Difference, Side
from harness.tables.explain import AccessInWords, Explanation, StepInWords
from harness.tables.survey import Row, Survey, Totals
from harness.tables.words import address, chunk, count, safe, size
from harness.vmsa import Right, Translation

__all__ = ["print_difference", "print_explanation", "print_survey"]

_MAX_ODD: Final = 20


def _say(console: Console, text: str | Text, style: str = "") -> None:
    console.print(Text(text, style=style) if isinstance(text, str) else text, soft_wrap=True)


def print_survey(survey: Survey, console: Console, limit: int | None = None) -> None:
    """The map of a half: regions with their rows, what was odd, totals."""
    regime = survey.regime
    _say(
        console,
        f"{safe(survey.origin)}: the {survey.half} half, {regime.name.value}, granule "
        f"{chunk(1 << regime.geometry.granule_log2)}, {regime.iasize_bits} bits, first table at "
        f"{regime.table_pa:#x}",
        "bold",
    )
    for note in survey.notes:
        _say(console, f"note: {safe(note)}")
    for region, rows in groupby(survey.rows(limit), lambda row: survey.region_of(row.va)):
        shown = list(rows)
        _say(console, "")
        span = f"{address(region.start_va)}-{address(region.end_va - 1)}"
        _say(
            console,
            Text.assemble((f"{region.name}  ", "bold"), (f"{span}  {size(region.size_bytes)}", "dim")),
        )
        for row in shown:
            _say(console, _row(row))
    left_out = len(survey.found) - (len(survey.found) if limit is None else min(limit, len(survey.found)))
    if left_out:
        _say(console, f"\n... and {count(left_out, 'more row')}: --limit 0 shows all")
    if not len(survey.found):
        _say(console, "\nnothing is mapped")
    _print_odd(survey, console)
    _say(console, "")
    for line in _totals(survey.totals):
        _say(console, line)


def _row(row: Row) -> Text:
    el1, el0 = str(row.rights.privileged), str(row.rights.user)
    style = ""
    if row.is_write_exec:
        style = "bold red"
    elif Right.EXECUTE in row.rights.privileged | row.rights.user:
        style = "yellow"
    elif Right.WRITE not in row.rights.privileged | row.rights.user:
        style = "cyan"
    return Text.assemble(
        f"  {address(row.va)}-{address(row.end_va - 1)} {size(row.size_bytes):>10}  {row.pa:#014x}  ",
        f"{row.leaves:>6} x {row.leaf:<16}  ",
        (f"{el1} {el0}", style),
        "  ",
        (str(row.memory), "magenta" if row.is_device else ""),
    )


def _print_odd(survey: Survey, console: Console) -> None:
    odd = survey.anomalies
    for anomaly in odd[:_MAX_ODD]:
        what = f"level {anomaly.level} at {address(anomaly.va)}: {anomaly.kind.value}"
        _say(console, f"odd: {what} ({anomaly.pa:#x})", "red")
    if len(odd) > _MAX_ODD:
        _say(console, f"odd: and {len(odd) - _MAX_ODD} more", "red")


def _totals(totals: Totals) -> Iterator[str]:
    yield (
        f"{count(totals.leaves, 'leaf', 'leaves')} map {size(totals.mapped_bytes)}; "
        f"{count(totals.tables, 'table')} take {size(totals.table_bytes)}"
    )
    for share in totals.shares:
        part = 100 * share.mapped_bytes / totals.mapped_bytes
        yield f"  {share.leaf:<18} {share.leaves:>9,}  {size(share.mapped_bytes):>10}  {part:5.1f} %"


def print_explanation(explained: Explanation, console: Console) -> None:
    """Every step of one translation."""
    name = f"  {safe(explained.symbol)}" if explained.symbol else ""
    _say(console, f"{address(explained.va)}{name} -> {_outcome(explained)}", "bold")
    _say(console, "")
    for line in explained.which:
        _say(console, f"  {line}")
    for step in explained.steps:
        _print_step(step, console)
    _say(console, "")
    _say(
        console, "mapped" if explained.is_mapped else "not mapped", "green" if explained.is_mapped else "red"
    )
    for line in explained.result:
        _say(console, f"  {safe(line)}")
    for access in explained.accesses:
        _say(console, f"  {_access(access)}")


def _outcome(explained: Explanation) -> str:
    outcome = explained.outcome
    if isinstance(outcome, Translation):
        return f"{outcome.pa:#x}"
    return f"{outcome.kind.value}, level {outcome.level}"


def _print_step(step: StepInWords, console: Console) -> None:
    _say(console, "")
    _say(
        console,
        Text.assemble(
            (f"level {step.level}", "bold"),
            f"  table at {step.table_pa:#x}, VA bits {step.va_bits}: entry {step.index} of {step.entries}",
        ),
    )
    word = "nothing" if step.word is None else f"{step.word:#0{18 if step.word < 1 << 64 else 34}x}"
    _say(console, f"  {step.pa:#x} holds {word}: {step.kind}")
    width = max((len(f"{field.place} {field.name}") for field in step.fields), default=0)
    for field in step.fields:
        place = f"{field.place} {field.name}".ljust(width)
        value = str(field.value) if field.value < 10 else hex(field.value)
        _say(console, Text.assemble("    ", (place, "cyan"), f" = {value}: {field.meaning}"))
    if step.hands_down:
        _say(console, f"  hands down {', '.join(step.hands_down)}")


def _access(access: AccessInWords) -> str:
    who = f"EL{access.el}{' with PAN' if access.pan else ''}"
    if access.fault is None:
        return f"{who} may {access.kind}"
    fault = access.fault
    why = f": {access.refused_by}" if access.refused_by else ""
    return f"{who} may not {access.kind} ({fault.kind.value}, level {fault.level}, FSC {fault.fsc:#04x}){why}"


def print_difference(difference: Difference, console: Console, limit: int | None = None) -> None:
    """What differs, by range, and how much of what."""
    before, after = difference.before, difference.after
    _say(console, f"- {safe(before.origin)}: {_line(before.totals)}")
    _say(console, f"+ {safe(after.origin)}: {_line(after.totals)}")
    for region, changes in groupby(difference.changes(limit), lambda change: change.region):
        _say(console, "")
        _say(console, region, "bold")
        for change in changes:
            bits = change.only_attributes
            which = f" (bits {', '.join(map(str, bits))})" if bits else ""
            span = f"{address(change.va)}-{address(change.va + change.size_bytes - 1)}"
            _say(console, f"  {span} {size(change.size_bytes):>10}  {', '.join(change.kinds)}{which}")
            if change.before is not None:
                _say(console, f"    - {_side(change.before)}", "red")
            if change.after is not None:
                _say(console, f"    + {_side(change.after)}", "green")
    left_out = len(difference) - (len(difference) if limit is None else min(limit, len(difference)))
    if left_out:
        _say(console, f"\n... and {count(left_out, 'more range')}: --limit 0 shows all")
    _say(console, "")
    if not len(difference):
        _say(console, f"the {after.half} halves are the same")
    for words, (ranges, size_bytes) in difference.counts().items():
        _say(console, f"{words}: {count(ranges, 'range')}, {size(size_bytes)}")


def _line(totals: Totals) -> str:
    return f"{count(totals.leaves, 'leaf', 'leaves')}, {size(totals.mapped_bytes)}"


def _side(side: Side) -> str:
    rights = f"{side.rights.privileged} {side.rights.user}"
    return f"{side.pa:#014x}  {side.leaf:<16}  {rights}  {side.memory}  {side.word:#018x}"
