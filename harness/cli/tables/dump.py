"""`granule tables dump`: everything that is mapped, in rows."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from harness.cli.tables.options import (
    half_option,
    halves,
    json_option,
    limit_option,
    source_options,
    table_options,
)
from harness.cli.tables.source import Source, open_source
from harness.report.terminal import make_console
from harness.tables.half import Half, view_of
from harness.tables.json import survey_json
from harness.tables.survey import Survey, survey
from harness.tables.text import print_survey

__all__ = ["dump", "surveyed"]


@click.command()
@click.argument("source")
@half_option()
@limit_option
@json_option
@source_options
@table_options
def dump(
    source: str,
    half: str,
    limit: int,
    as_json: bool,
    vcpu: int | None,
    table_pa: int | None,
    **options: Any,
) -> None:
    """List what is mapped, by Linux's regions: neighbouring leaves that hardware treats alike share a row.

    A row says the addresses, their size, the physical address, leaves, what EL1 and EL0 may do, and the type
    of memory. `4K page in 64K` is a page of a contiguous group.

    \b
    granule tables dump debian-16k
    granule tables dump guest.snap --half both --json
    """
    with open_source(source, options) as opened:
        found = [surveyed(opened, one, vcpu, table_pa) for one in halves(half)]
    most = limit or None
    if as_json:
        click.echo(json.dumps([survey_json(one, most) for one in found], indent=2))
        return
    console = make_console(sys.stdout)
    for number, one in enumerate(found):
        if number:
            console.print("\n")
        print_survey(one, console, most)


def surveyed(source: Source, half: Half, vcpu: int | None, table_pa: int | None) -> Survey:
    """A half of a guest, read whole while the guest is open."""
    view = view_of(source.snapshot, vcpu=vcpu, table_pa=table_pa, half=half)
    return survey(
        view.listed(half), source.snapshot.tables(), origin=source.label, half=half.value, notes=view.notes
    )
