"""`scripts/bench NAME`: each benchmark is a module of its name, whose docstring explains its figures."""

from __future__ import annotations

import inspect
import sys

import click

from benchmarks import boot, build, clones, debian, hyperv, selector, tables
from harness.errors import GranuleError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure granule, side by side with others in one run, because machines drift.

    Kernels that are needed are fetched or built first. Figures are medians; those of a busy machine are to be
    read against each other only.
    """


for module, command in (
    (boot, boot.boot),
    (build, build.build),
    (clones, clones.clones),
    (debian, debian.debian),
    (hyperv, hyperv.hyperv),
    (selector, selector.selector),
    (tables, tables.tables),
):
    about = (inspect.getdoc(module) or "").replace("\n\n", "\n\n\b\n")
    command.help = f"{command.help}\n\n\b\n{about}"
    bench.add_command(command)

if __name__ == "__main__":
    try:
        bench(prog_name="scripts/bench")
    except GranuleError as error:
        sys.exit(f"scripts/bench: {error}")
