"""`granule tables diff`: what two guests map otherwise."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from harness.cli.tables.dump import surveyed
from harness.cli.tables.options import (
    half_option,
    halves,
    json_option,
    limit_option,
    source_options,
    table_options,
)
from harness.cli.tables.source import open_source
from harness.errors import ExitStatus
from harness.report.terminal import make_console
from harness.tables.difference import compare
from harness.tables.half import Half
from harness.tables.json import difference_json
from harness.tables.survey import Survey
from harness.tables.text import print_difference

__all__ = ["diff"]


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@half_option()
@limit_option
@json_option
@source_options
@table_options
def diff(
    before: str,
    after: str,
    half: str,
    limit: int,
    as_json: bool,
    vcpu: int | None,
    table_pa: int | None,
    **options: Any,
) -> None:
    """Say what B maps otherwise than A: added, removed, other attributes, addresses or leaf sizes.

    What software keeps for itself counts too, and so do the access flag and dirty state. Status 0: the same;
    1: they differ.

    \b
    granule tables diff before.snap after.snap
    granule tables diff debian-4k debian-4k --half user
    """
    wanted = halves(half)

    def read(name: str) -> dict[Half, Survey]:
        with open_source(name, options) as opened:
            return {one: surveyed(opened, one, vcpu, table_pa) for one in wanted}

    old, new = read(before), read(after)
    found = [compare(old[one], new[one]) for one in wanted]
    most = limit or None
    if as_json:
        click.echo(json.dumps([difference_json(one, most) for one in found], indent=2))
    else:
        console = make_console(sys.stdout)
        for number, one in enumerate(found):
            if number:
                console.print("\n")
            print_difference(one, console, most)
    differ = any(len(one) for one in found)
    click.get_current_context().exit(ExitStatus.FAILED if differ else ExitStatus.PASSED)
