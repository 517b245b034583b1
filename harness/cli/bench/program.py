"""`granule bench program`: the benchmarks as one static program, for a machine of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from harness.bench.files import guest_files
from harness.cache import Cache
from harness.saving import replacing, saving_to

__all__ = ["program"]


@click.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
def program(target: Path) -> None:
    """Write the benchmarks' program to FILE: static, for arm64 Linux of any page size.

    Run it as root on an idle machine, and give what it prints to `granule bench import`.
    """
    with Cache() as cache:
        source = guest_files(cache).program
        with saving_to(target), replacing(target) as file, source.open("rb") as data:
            shutil.copyfileobj(data, file)
        target.chmod(0o755)
    click.echo(f"granule: wrote {target}", err=True)
