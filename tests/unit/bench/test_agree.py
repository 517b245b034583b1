"""Two runs and a plugin's counts: when they bear a number out, and what is said when they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.bench.agree import OUTSIDE, agreed_rows
from harness.bench.guest_output import GuestOutput, Outcome, Samples
from harness.errors import InfraError
from harness.linux.kallsyms import SymbolTable
from harness.spec import PageSize

from .conftest import MakeRow
from .plugin_file import NOP, TEXT, interval

SYMBOLS = SymbolTable([(TEXT, "_text"), (TEXT + 0x100, "do_mem_abort"), (TEXT + 0x200, "_end")])
ENTRY = TEXT + 0x100


def _output(*benchmarks: Samples) -> GuestOutput:
    return GuestOutput(
        page_size=PageSize.K4, clock_hz=10**9, large_bytes=1 << 26, release="", version="", first=True,
        benchmarks=benchmarks,
    )  # fmt: skip


def _varied(first: Samples, second: Samples | None, counts: bytes = b"") -> str:
    again = _output() if second is None else _output(second)
    (row,) = agreed_rows(_output(first), again, counts, SYMBOLS)
    return row.varied


def test_equal_runs(row: MakeRow) -> None:
    """Two equal runs are a number."""
    fork = row("fork", (10, 12)).samples
    assert _varied(fork, fork) == ""


def test_one_instruction(row: MakeRow) -> None:
    """One instruction in one sample is a difference, and is shown."""
    assert _varied(row("fork", (10, 12)).samples, row("fork", (10, 13)).samples) == "12 then 13"


def test_other_differences(row: MakeRow) -> None:
    """Other faults, another outcome and a benchmark that is not there are differences too."""
    fork = row("fork", (10,)).samples
    assert _varied(fork, replace(fork, faults=(1,))) == "in faults or page tables"
    failed = replace(fork, outcome=Outcome.FAIL, reason="wrong")
    assert _varied(fork, failed) == "ok , then fail wrong"
    assert "does not have it" in _varied(fork, None)


def test_the_plugin_agrees(row: MakeRow) -> None:
    """Counts that are the counter's, and one more for each abort, agree; the middle sample's are kept."""
    fork = row("fork", (30, 10, 20)).samples
    counts = b"".join(interval(5, (TEXT, ticks + OUTSIDE - 5, NOP), (ENTRY, 1, NOP)) for ticks in fork.ticks)
    (agreed,) = agreed_rows(_output(fork), _output(fork), counts, SYMBOLS)
    assert agreed.varied == ""
    assert agreed.profile is not None
    assert agreed.profile.functions == {"_text": 17, "do_mem_abort": 1}


@pytest.mark.parametrize("executed", [9, 12])
def test_the_plugin_disagrees(row: MakeRow, executed: int) -> None:
    """Fewer instructions than the counter's, as of an idle guest, or more than aborts explain, are none."""
    fork = row("fork", (10, 10)).samples
    right, wrong = (
        interval(0, (TEXT, count + OUTSIDE - 1, NOP), (ENTRY, 1, NOP)) for count in (10, executed)
    )
    assert (
        _varied(fork, fork, right + wrong)
        == f"the counter says 10, and {executed} instructions were executed"
    )


def test_lost_samples(row: MakeRow) -> None:
    """A plugin that did not see each sample is an error of ours."""
    fork = row("fork", (10, 12)).samples
    with pytest.raises(InfraError, match="saw 1 samples, and the guest took 2"):
        _varied(fork, fork, interval(10))


def test_a_failed_benchmark_has_samples_too(row: MakeRow) -> None:
    """The samples of one that failed stand before those of the next, which keeps its own."""
    failed = row("bad", (99,), outcome=Outcome.FAIL, reason="wrong").samples
    fork = row("fork", (10,)).samples
    both = _output(failed, fork)
    _, kept = agreed_rows(both, both, interval(99 + OUTSIDE) + interval(10 + OUTSIDE), SYMBOLS)
    assert kept.varied == ""
    assert kept.profile is not None
    assert kept.profile.user == 10 + OUTSIDE
