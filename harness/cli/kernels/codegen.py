"""`granule kernels codegen`: is what a compiler makes of a tree the same with a patch that is turned off?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from harness.errors import ExitStatus
from harness.kernels.codegen import Comparison, compare_builds
from harness.report.terminal import make_console
from harness.report.wording import safe

__all__ = ["codegen"]

_MAX_ROWS = 60


@click.command()
@click.argument("base", type=click.Path(exists=True, path_type=Path))
@click.argument("patched", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON value on stdout.")
def codegen(base: Path, patched: Path, as_json: bool) -> None:
    """Compare what was compiled: the functions that differ between two builds, wherever they moved.

    BASE and PATCHED are build directories (make O=) of one configuration and compiler, or two objects:
    the tree without a series and with it, its new option off. Functions are compared by their
    instructions and by what those refer to; a function that moved is the same. Line numbers, as WARN()
    keeps them, are data.

    \b
    granule kernels codegen build-base build-patched
    granule kernels codegen build-base/mm/mmap.o build-patched/mm/mmap.o

    Exit status: 0 every function is the same; 1 some differ, or objects came or went.
    """
    found = compare_builds(base, patched)
    if as_json:
        click.echo(json.dumps({**asdict(found), "is_same_code": found.is_same_code}, indent=1))
    else:
        _print(found)
    click.get_current_context().exit(ExitStatus.PASSED if found.is_same_code else ExitStatus.FAILED)


def _print(found: Comparison) -> None:
    console = make_console(sys.stdout)
    code = [one for one in found.changed if one.is_code]
    if code:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("OBJECT", "FUNCTION", "BASE", "PATCHED"):
            table.add_column(
                title, overflow="fold", justify="right" if title in ("BASE", "PATCHED") else "left"
            )
        for one in code[:_MAX_ROWS]:
            sizes = ("-" if size is None else str(size) for size in (one.before_bytes, one.after_bytes))
            table.add_row(Text(safe(one.object)), Text(safe(one.name)), *sizes)
        console.print(table)
        if len(code) > _MAX_ROWS:
            console.print(f"and {len(code) - _MAX_ROWS} functions more: see --json")
        console.print()
    for words, names in (
        ("only in the base", found.only_before),
        ("only with the patches", found.only_after),
    ):
        if names:
            console.print(
                f"{words}: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}", soft_wrap=True
            )
    objects = found.identical + len({one.object for one in found.changed})
    data = len({one.object for one in found.changed if not one.is_code})
    console.print(
        f"{found.identical} of {objects} objects are the same; {len(code)} functions in "
        f"{len({one.object for one in code})} objects differ, and data in {data}",
        soft_wrap=True,
    )
