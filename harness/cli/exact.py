"""Runs that repeat, for `granule smoke`: their options, and what is said of them beside the verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console

from harness.determinism.conditions import Conditions, explored
from harness.determinism.seed import Seed
from harness.matrix.cell import Request
from harness.verdict import CellResult, MatrixResult

__all__ = ["exact_options", "print_exact", "said_of", "with_exact"]

F = TypeVar("F", bound=Callable[..., Any])

FIRST_EXPLORED = Seed(1)
EXPLORE_LIMIT = 10000


def exact_options(command: F) -> F:
    """Gives a command `--deterministic` and `--explore`."""
    command = click.option(
        "--explore",
        type=click.IntRange(1, EXPLORE_LIMIT),
        metavar="N",
        help="Run each cell under N seeds: other entropy, KASLR on or off, another number of instructions "
        "between timer interrupts. Says which seeds fail; `granule replay` repeats each. From seed 1 on, or "
        "from that of --deterministic.",
    )(command)
    return click.option(
        "--deterministic",
        is_flag=False,
        flag_value="",
        metavar="[SEED]",
        help="Run each cell so that it repeats to the byte, twice, and compare. TCG, one vCPU unless --vcpus "
        "is given, no disks and no network; with a SEED the kernel moves itself (KASLR).",
    )(command)


def with_exact(request: Request, deterministic: str | None, explore: int | None) -> Request:
    """A request with those options; raises UsageError for a seed that is none."""
    if deterministic is None and explore is None:
        return request
    seed = Seed.parse(deterministic) if deterministic else None
    if explore is None:
        conditions: tuple[Conditions, ...] = (Conditions.of(seed),)
    else:
        conditions = tuple(explored(seed or FIRST_EXPLORED, explore))
    given = click.get_current_context().get_parameter_source("vcpus") is not ParameterSource.DEFAULT
    return replace(
        request,
        exact=conditions,
        explored=explore is not None,
        vcpus=request.vcpus if given else 1,
    )


def print_exact(result: MatrixResult, console: Console) -> None:
    """Say of each cell whether its run repeated, and of explored ones which seeds failed."""
    cells = [cell for cell in result.cells if cell.exact is not None]
    # Seeds that passed and were run once are told as a number, below.
    for cell in cells:
        if cell.exact is None or cell.exact.runs < 2:
            continue
        console.print(said_of(cell), soft_wrap=True, markup=False, highlight=False)
    explored_cells = [cell for cell in cells if "--explore" in cell.rerun.split()]
    if explored_cells:
        failed = [cell for cell in explored_cells if not cell.verdict.is_pass]
        console.print(
            f"{len(explored_cells)} cells explored, {len(failed)} did not pass{':' if failed else ''}",
            soft_wrap=True,
        )
        for cell in failed:
            seed = cell.exact.conditions.seed.value if cell.exact is not None else 0
            line = f"  seed {seed}: {cell.verdict.value}, {cell.reason}"
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    if cells:
        console.print("`granule replay REPORT.JSON CELL` repeats one of them.", soft_wrap=True)


def said_of(cell: CellResult) -> str:
    """A line on whether a cell's run repeated, with the first difference below it if it did not."""
    record = cell.exact
    if record is None:
        return f"{cell.id}: not run so that it repeats"
    if record.difference:
        return f"{cell.id}: two runs were NOT identical: {record.difference}"
    if record.runs < 2:
        return f"{cell.id}: run once"
    sizes = ", ".join(f"{one.name} {one.size_bytes} bytes" for one in record.streams)
    return f"{cell.id}: identical, twice ({sizes})"
