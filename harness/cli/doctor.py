"""`granule doctor`: what this host has and lacks."""

from __future__ import annotations

import sys

import click
from rich.table import Table
from rich.text import Text

from harness.doctor import Condition, examine
from harness.errors import ExitStatus
from harness.report.terminal import make_console

__all__ = ["doctor"]

STYLES = {Condition.GOOD: "green", Condition.LACKING: "red", Condition.NOTE: "yellow"}


@click.command()
def doctor() -> None:
    """Look this host over: what granule needs, what is there, and the command that mends what is not."""
    console = make_console(sys.stdout)
    table = Table(box=None, pad_edge=False)
    for title in ("", "WHAT", "SEEN", "MEND WITH"):
        table.add_column(title)
    symptoms = tuple(examine())
    for symptom in symptoms:
        style = STYLES[symptom.condition]
        table.add_row(Text(symptom.condition.value, style=style), symptom.what, symptom.seen, symptom.mend)
    console.print(table)
    lacking = [symptom for symptom in symptoms if symptom.condition is Condition.LACKING]
    console.print(f"{len(lacking)} things lacking" if lacking else "nothing lacking")
    click.get_current_context().exit(ExitStatus.INFRA if lacking else ExitStatus.PASSED)
