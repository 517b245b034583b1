"""Tests of harness.cli.exact: what the options ask for, and what is said of the runs."""

from __future__ import annotations

import io
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from harness.cli.exact import exact_options, print_exact, said_of, with_exact
from harness.determinism.conditions import Conditions, explored
from harness.determinism.record import RunRecord
from harness.determinism.seed import Seed
from harness.errors import UsageError
from harness.matrix.cell import Request
from harness.verdict import CellResult, MatrixResult, Verdict


def _asked(*words: str) -> Request:
    asked: list[Request] = []

    @click.command()
    @click.option("--vcpus", default=2)
    @exact_options
    def command(vcpus: int, deterministic: str | None, explore: int | None) -> None:
        asked.append(with_exact(Request(vcpus=vcpus), deterministic, explore))

    done = CliRunner().invoke(command, words)
    if done.exception is not None:
        raise done.exception
    return asked[0]


def test_an_ordinary_run() -> None:
    """Without the options a request stays as it was."""
    assert _asked() == Request(vcpus=2)


@pytest.mark.parametrize(
    ("words", "seed"), [((), None), (("7",), Seed(7)), (("0x10",), Seed(16)), (("--vcpus", "1"), None)]
)
def test_deterministic(words: tuple[str, ...], seed: Seed | None) -> None:
    """The seed may be left out; one vCPU then, and every run made twice."""
    asked = _asked("--deterministic", *words)
    assert (asked.exact, asked.vcpus, asked.explored) == ((Conditions.of(seed),), 1, False)


def test_vcpus_that_were_asked_for() -> None:
    """Whoever asks for two vCPUs has them."""
    assert _asked("--deterministic", "--vcpus", "2").vcpus == 2


def test_explore() -> None:
    """N seeds from the first on, which is 1 or that of --deterministic."""
    assert _asked("--explore", "3").exact == tuple(explored(Seed(1), 3))
    assert _asked("--explore", "3").explored
    assert _asked("--deterministic", "9", "--explore", "2").exact == tuple(explored(Seed(9), 2))


def test_no_seed() -> None:
    """What is no number is refused."""
    with pytest.raises(UsageError, match="not a seed"):
        _asked("--deterministic", "seven")


def test_what_is_said_of_a_run(exact_cell: CellResult, exact_record: RunRecord) -> None:
    """Identical, run once, or the first difference: a reader can tell which."""
    assert said_of(exact_cell) == "4k-k: identical, twice (console 5 bytes)"
    assert "identical" not in said_of(replace(exact_cell, exact=replace(exact_record, runs=1)))
    said = said_of(
        replace(exact_cell, exact=replace(exact_record, difference="the console differs\n  1 a\n  2 b"))
    )
    assert "NOT identical" in said
    assert "2 b" in said


def test_seeds_that_fail_are_named(exact_cell: CellResult, exact_record: RunRecord) -> None:
    """After an exploration the seeds that did not pass are listed, and no other."""
    cells = tuple(
        replace(
            exact_cell,
            id=f"4k-{seed}",
            verdict=verdict,
            reason="[brackets]",
            rerun=f"granule smoke --deterministic {seed} --explore 1",
            exact=replace(exact_record, conditions=Conditions.of(Seed(seed))),
        )
        for seed, verdict in ((41, Verdict.PASS), (42, Verdict.OOPS))
    )
    said = _printed(cells)
    assert "2 cells explored, 1 did not pass" in said
    assert "seed 42: OOPS, [brackets]" in said
    assert "seed 41" not in said
    assert _printed((replace(exact_cell, exact=None),)) == ""


def _printed(cells: tuple[CellResult, ...]) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_exact(MatrixResult(expected=len(cells), cells=cells), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
