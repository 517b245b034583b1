"""Measuring many guests side by side. An interrupt kills the guests and is raised again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from harness.bench.measure import Guest, Seen, joined, run_guest
from harness.bench.result import Result
from harness.matrix.budget import MemoryBudget, guest_memory_mib
from harness.matrix.run import Bench
from harness.qemu.process import allow_starts, kill_all

__all__ = ["Plan", "measure_all"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how."""

    guests: tuple[Guest, ...]
    plugin: Path | None = None
    """Loaded in the second run of each guest; None: functions are not counted."""
    rounds: int = 1
    """By the clock: how often each guest is measured, in turns: A B A B."""


def measure_all(plan: Plan, bench: Bench, *, jobs: int, say: Say) -> tuple[Result, ...]:
    """Measure each guest; results come in the order of the guests. Raises what `run_guest` raises.

    Under the counter guests run side by side, each twice. By the clock they run one at a time.
    """
    exact = all(guest.cell.exact is not None for guest in plan.guests)
    budget = MemoryBudget(guest_memory_mib())

    def run(guest: Guest, plugin: Path | None) -> Seen:
        with budget.reserve(guest.cell.memory_mib):
            say(f"measuring {guest.cell.id}{', by function' if plugin is not None else ''}")
            return run_guest(guest, bench, plugin)

    pool = ThreadPoolExecutor(max_workers=jobs if exact else 1, thread_name_prefix="bench")
    pending: dict[int, list[Future[Seen]]] = {number: [] for number in range(len(plan.guests))}
    try:
        for turn in range(2 if exact else plan.rounds):
            for number, guest in enumerate(plan.guests):
                pending[number].append(pool.submit(run, guest, plan.plugin if exact and turn else None))
        seen = {number: [future.result() for future in futures] for number, futures in pending.items()}
    except BaseException:
        for futures in pending.values():
            for future in futures:
                future.cancel()
        kill_all()
        pool.shutdown(wait=True)
        allow_starts()
        raise
    finally:
        pool.shutdown(wait=True)
    if exact:
        return tuple(joined(guest, bench, *seen[number]) for number, guest in enumerate(plan.guests))
    return tuple(joined(guest, bench, _pooled(seen[number])) for number, guest in enumerate(plan.guests))


def _pooled(rounds: list[Seen]) -> Seen:
    """The samples of several rounds as those of one; a benchmark that failed in one of them failed."""
    first = rounds[0]
    benchmarks = []
    for samples in first.output.benchmarks:
        others = [
            next((one for one in seen.output.benchmarks if one.name == samples.name), samples)
            for seen in rounds[1:]
        ]
        every = (samples, *others)
        worst = next((one for one in every if one.outcome is not samples.outcome), samples)
        benchmarks.append(
            replace(
                worst,
                ticks=tuple(tick for one in every for tick in one.ticks),
                faults=tuple(fault for one in every for fault in one.faults),
                table_kib=tuple(size for one in every for size in one.table_kib),
            )
        )
    return replace(first, output=replace(first.output, benchmarks=tuple(benchmarks)))
