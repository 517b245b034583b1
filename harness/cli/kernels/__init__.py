"""`granule kernels`: what exists, getting it, and building what does not."""

from __future__ import annotations

import click

from harness.cli.kernels.build import build
from harness.cli.kernels.fetch import fetch
from harness.cli.kernels.list import list_

__all__ = ["kernels"]


@click.group()
def kernels() -> None:
    """List, fetch and build kernels."""


for _command in (list_, fetch, build):
    kernels.add_command(_command)
