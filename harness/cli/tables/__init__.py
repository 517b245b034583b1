"""`granule tables`: page tables of a guest, a snapshot or a core, for people and programs."""

from __future__ import annotations

import click

from harness.cli.tables.check import check
from harness.cli.tables.core import core
from harness.cli.tables.diff import diff
from harness.cli.tables.dump import dump
from harness.cli.tables.map import map_
from harness.cli.tables.save import save
from harness.cli.tables.walk import walk

__all__ = ["tables"]

EPILOG = """
SOURCE is a kernel, which is booted, stopped, looked at and ended: a name of `granule kernels list`, or an
Image or build tree. Or it is a file: what `granule tables save` wrote, an ELF core of QEMU's
dump-guest-memory, or a flat dump of memory.

\b
Start with:
  granule tables dump debian-16k                 what the kernel maps, region by region
  granule tables save debian-16k guest.snap      keep a guest, to look at it again and again
  granule tables walk guest.snap _text           every step of one translation, in words
  granule tables check guest.snap                hold every leaf against the rules
  granule tables diff before.snap after.snap     what changed
  granule tables core guest.snap guest.core      a core for gdb, and how to call it
  granule tables map -o map.html                 a picture of 4K, 16K and 64K kernels side by side

Exit status: 0 mapped, sound or the same; 1 a fault, a finding or a difference; 2 what was asked cannot be;
3 this machine is at fault.
"""


@click.group(epilog=EPILOG)
def tables() -> None:
    """Explain, list, check, compare and draw the page tables of a guest."""


for _command in (walk, dump, check, diff, map_, save, core):
    tables.add_command(_command)
