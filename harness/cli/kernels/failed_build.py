"""What a person sees of a build that failed: each file with its first error and the option it is built by."""

from __future__ import annotations

from typing import TextIO

from rich.table import Table
from rich.text import Text

from harness.errors import UsageError
from harness.kernels.kbuild.build import BuildFailed
from harness.linux.kconfig import read_config
from harness.report.terminal import make_console
from harness.report.wording import safe
from harness.weed.log_summary import summarise

__all__ = ["print_failed_build"]

_MAX_ROWS = 40


def print_failed_build(failed: BuildFailed, stream: TextIO) -> None:
    """Print a row for each file that failed; nothing where the log names none, or it cannot be read."""
    try:
        rows = summarise(failed.log, failed.source, failed.output, read_config(failed.output / ".config"))
    except (OSError, UsageError):
        return
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, width in (("FILE", 14), ("OPTION", 12), ("FIRST ERROR", 24)):
        table.add_column(title, overflow="fold", min_width=width)
    for row in rows[:_MAX_ROWS]:
        cells = (row.file, row.option or "none: core code", f"{row.kind.value}: {row.error}")
        table.add_row(*(Text(safe(cell)) for cell in cells))
    console = make_console(stream)
    console.print(table)
    if len(rows) > _MAX_ROWS:
        console.print(f"and {len(rows) - _MAX_ROWS} more files: see {failed.log}", soft_wrap=True)
