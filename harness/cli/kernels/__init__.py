"""`granule kernels`: what exists, getting it, building what does not, and how large it all is."""

from __future__ import annotations

import click

from harness.cli.kernels.build import build
from harness.cli.kernels.codegen import codegen
from harness.cli.kernels.fetch import fetch
from harness.cli.kernels.list import list_
from harness.cli.kernels.size import size
from harness.cli.kernels.weed import weed

__all__ = ["kernels"]


@click.group()
def kernels() -> None:
    """List, fetch, build, weed, measure and compare kernels."""


for _command in (list_, fetch, build, weed, size, codegen):
    kernels.add_command(_command)
