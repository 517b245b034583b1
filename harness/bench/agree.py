"""Two runs of one guest, and the plugin's counts of the second: a number is one that all of them agree on.

May import harness.bench, harness.errors, harness.linux and the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median_low
from typing import Final

from harness.bench.counts import Interval, read_intervals
from harness.bench.guest_output import GuestOutput, Outcome, Samples
from harness.bench.profile import ABORT, profile_of
from harness.bench.result import Row
from harness.errors import InfraError
from harness.linux.kallsyms import SymbolTable

__all__ = ["OUTSIDE", "agreed_rows"]

OUTSIDE: Final = 2
"""Instructions between the marks that lie before the first read: those that make it."""


def agreed_rows(
    first: GuestOutput, second: GuestOutput, counts: bytes, symbols: SymbolTable | None
) -> tuple[Row, ...]:
    """The first run's rows; each that the second run or its plugin does not bear out says how they differ.

    `counts`: what the plugin wrote in the second run, or nothing. Raises InfraError where it is damaged, or
    has not the samples that the guest took.
    """
    again = {samples.name: samples for samples in second.benchmarks}
    intervals = _by_benchmark(second, counts)
    rows = []
    for samples in first.benchmarks:
        row = Row(samples=samples, varied=_difference(samples, again.get(samples.name)))
        watched = intervals.get(samples.name)
        if watched and not row.no_number:
            chosen = watched[samples.ticks.index(median_low(samples.ticks))]
            wrong = _disagreement(samples, watched, symbols)
            row = replace(row, profile=profile_of(chosen, symbols), varied=wrong)
        rows.append(row)
    return tuple(rows)


def _difference(first: Samples, second: Samples | None) -> str:
    if second is None:
        return "the second run does not have it"
    if first == second:
        return ""
    if first.outcome is not Outcome.OK or second.outcome is not Outcome.OK:
        return f"{first.outcome.value} {first.reason}, then {second.outcome.value} {second.reason}"
    pairs = zip(first.ticks, second.ticks, strict=False)
    return next((f"{one} then {other}" for one, other in pairs if one != other), "in faults or page tables")


def _by_benchmark(output: GuestOutput, counts: bytes) -> dict[str, list[Interval]]:
    """The plugin's samples by benchmark; raises InfraError where it did not see as many as the guest took."""
    intervals = list(read_intervals(counts))
    taken = sum(len(samples.ticks) for samples in output.benchmarks)
    if intervals and len(intervals) != taken:
        raise InfraError(f"the plugin saw {len(intervals)} samples, and the guest took {taken}")
    found: dict[str, list[Interval]] = {}
    at = 0
    for samples in output.benchmarks:
        found[samples.name] = intervals[at : at + len(samples.ticks)]
        at += len(samples.ticks)
    return found


def _disagreement(samples: Samples, watched: Sequence[Interval], symbols: SymbolTable | None) -> str:
    """Where the counter and the plugin disagree; empty where they do not.

    The plugin sees an instruction that is executed after its fault a second time, and the counter sees time
    that passes while the guest is idle.
    """
    abort_va = symbols.address_of(ABORT) if symbols is not None else None
    for ticks, interval in zip(samples.ticks, watched, strict=True):
        more = interval.total - OUTSIDE - ticks
        if more < 0 or (abort_va is not None and more > interval.executed(abort_va)):
            return f"the counter says {ticks}, and {interval.total - OUTSIDE} instructions were executed"
    return ""
