"""`granule tables map`: a picture of the address space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.tables.dump import surveyed
from harness.cli.tables.options import BOTH, half_option, source_options, table_options
from harness.cli.tables.source import openers
from harness.errors import InfraError, UsageError
from harness.tables.half import Half
from harness.tables.page import render_page
from harness.tables.picture import picture
from harness.tables.svg import render_svg
from harness.tables.words import count

__all__ = ["map_"]

_WRITERS = {".svg": render_svg, ".html": render_page, ".htm": render_page}


@click.command("map")
@click.argument("sources", metavar="[SOURCE…]", nargs=-1)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), default="tables.svg",
    show_default=True, metavar="FILE", help="Where it goes: an .svg, or an .html page with the numbers too.",
)  # fmt: skip
@half_option()
@source_options
@table_options
def map_(
    sources: tuple[str, ...],
    output: Path,
    half: str,
    vcpu: int | None,
    table_pa: int | None,
    **options: Any,
) -> None:
    """Draw what is mapped, a column for each SOURCE: regions, rights, leaf sizes, how RAM is mapped.

    Without SOURCE: 4K, 16K and 64K kernels, those of `granule smoke`, side by side. The file needs no script
    and no network, and follows the reader's light or dark.

    \b
    granule tables map -o sizes.html
    granule tables map before.snap after.snap -o change.svg
    """
    write = _WRITERS.get(output.suffix.lower())
    if write is None:
        raise UsageError(f"{output} is neither an .svg nor an .html: the ending says what to draw")
    if half == BOTH:
        raise UsageError("a picture is of one half: --half kernel or --half user")
    if not output.parent.is_dir():
        raise UsageError(f"there is no directory {output.parent} to put {output.name} in")
    columns = []
    for _, opener in openers(sources, options):
        with opener() as source:
            columns.append(surveyed(source, Half(half), vcpu, table_pa))
    try:
        output.write_text(write(picture(columns)), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InfraError(f"cannot write {output}: {error.strerror}") from error
    click.echo(f"granule: {output} shows {count(len(columns), 'guest')}", err=True)
