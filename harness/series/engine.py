"""A series from its base to its table: builds and runs what is due, in the order that shows failures early.

What has been done is found again on disk, so that a run which was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from harness.errors import ExitStatus, InfraError
from harness.kernels.trees.patches import Patch
from harness.series.affected import Affected, Suite
from harness.series.logs import new_warnings
from harness.series.order import Mode, next_step
from harness.series.outcomes import outcomes_of
from harness.series.store import Results
from harness.series.values import BUILD, Built, Outcome, Outlook, Variant, Warning_
from harness.series.verdicts import FirstBad, Judged, Word, first_bad, judge
from harness.spec import PageSize
from harness.verdict import CellResult, MatrixResult

__all__ = ["CANNOT_TELL", "Asked", "Builder", "Engine", "Listening", "Runner", "SeriesResult", "Unit"]

CANNOT_TELL = 125
"""Exit status for `git bisect run`: this commit cannot be tested (git-bisect(1))."""


class Builder(Protocol):
    """See harness.series.building.KernelBuilder."""

    def key(self, step: int, size: PageSize | None) -> str:
        """Names the result."""

    def build(self, step: int, size: PageSize | None) -> Built:
        """The kernel of a step."""


class Runner(Protocol):
    """See harness.series.running.CellRunner."""

    def key(self, built: Built, variant: Variant, suite: Suite) -> str:
        """Names the result."""

    def run(self, built: Built, variant: Variant, suite: Suite) -> MatrixResult:
        """One run of a suite."""


class Listening(Protocol):
    """Hears how it goes on."""

    def started(self, what: str, left: str) -> None:
        """Something begins; `left`, how much there is after it, in words."""

    def ended(self, what: str, how: str) -> None:
        """It has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be done."""

    patches: tuple[Patch, ...]
    affected: tuple[Affected, ...]
    """For each patch."""
    exercised: tuple[bool, ...]
    """For each patch: something of what is asked drives what it changes."""
    suites: tuple[Suite, ...]
    groups: tuple[str, ...]
    """What the suites are made of, for people."""
    variants: tuple[Variant, ...]
    mode: Mode = Mode.EVERY
    repeat: int = 3
    """How often a check is run that fails for the first time."""
    budget_s: float | None = None

    @property
    def effective(self) -> tuple[int, ...]:
        """The steps that have a kernel of their own: the base, and after each patch that changes one."""
        return (0, *(step for step, one in enumerate(self.affected, start=1) if one.builds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A step at a page size, as far as it was tried."""

    built: Built
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    cells: tuple[CellResult, ...] = ()
    reused: int = 0
    """Builds and runs of it that were found on disk."""
    done: int = 0
    """Builds and runs that were made now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesResult:
    """All that was found."""

    asked: Asked
    units: Mapping[tuple[int, Variant], Unit]
    stopped: str = ""
    """Why it ended before all was done; empty where it did not."""
    seconds: float = 0.0

    def checks(self) -> tuple[str, ...]:
        """The names of all checks, as they run: the build first."""
        names = {BUILD: None}
        for unit in self.units.values():
            names |= dict.fromkeys(unit.outcomes)
        return tuple(names)

    def table(self) -> dict[tuple[Variant, str], tuple[Judged, ...]]:
        """The verdicts of each check at each page size, step by step."""
        inert = frozenset(range(len(self.asked.patches) + 1)) - set(self.asked.effective)
        return {
            (variant, check): self._judged(variant, check, inert)
            for variant in self.asked.variants
            for check in self.checks()
        }

    def _judged(self, variant: Variant, check: str, inert: frozenset[int]) -> tuple[Judged, ...]:
        steps = range(len(self.asked.patches) + 1)
        judged = judge([self.outcome(step, variant, check) for step in steps], inert)
        return tuple(
            Judged(word=Word.UNEXERCISED, outcome=one.outcome)
            if one.word is Word.PASS and step and not self.is_exercised(step)
            else one
            for step, one in enumerate(judged)
        )

    def is_exercised(self, step: int) -> bool:
        """True where something here drives what that patch changes, and it is part of the kernel."""
        if not self.asked.exercised[step - 1]:
            return False
        built = [
            self.units[step, variant].built
            for variant in self.asked.variants
            if (step, variant) in self.units
        ]
        sources = [path for path in self.asked.patches[step - 1].files if path.endswith((".c", ".S"))]
        return not sources or not built or any(set(sources) - set(one.left_out) for one in built)

    def outcome(self, step: int, variant: Variant, check: str) -> Outcome | None:
        """What was seen of a check; None where nothing was."""
        unit = self.units.get((step, variant))
        if unit is None:
            base = self.units.get((0, variant))
            no_base = base is not None and base.built.outlook is Outlook.FAILED
            return Outcome(said="the base does not build") if no_base else None
        if check == BUILD:
            return _of_build(unit.built)
        if not unit.built.is_built:
            return Outcome(unbuilt=True, said=unit.built.errors[0] if unit.built.errors else "")
        return unit.outcomes.get(check)

    def bad(self) -> tuple[FirstBad, ...]:
        """Each check that a patch broke."""
        return first_bad(self.table())

    def warnings(self, step: int, variant: Variant) -> tuple[Warning_, ...]:
        """Those that the base lacks and no earlier patch brought."""
        base, unit = self.units.get((0, variant)), self.units.get((step, variant))
        if base is None or unit is None or not base.built.is_built:
            return ()
        found = new_warnings(base.built.warnings, unit.built.warnings)
        for earlier in range(1, step):
            known = self.units.get((earlier, variant))
            if known is not None:
                found = new_warnings(known.built.warnings, found)
        return found

    def lost_options(self, step: int, variant: Variant) -> tuple[str, ...]:
        """Options of a full configuration that the base takes and the tree since this patch does not."""
        before, unit = self.units.get((0, variant)), self.units.get((step, variant))
        if before is None or unit is None or not before.built.is_built:
            return ()
        known = set(before.built.dropped)
        for earlier in range(1, step):
            if (earlier, variant) in self.units:
                known |= set(self.units[earlier, variant].built.dropped)
        return tuple(option for option in unit.built.dropped if option not in known)

    def grown_bytes(self, variant: Variant) -> int | None:
        """By how much the whole series makes the Image larger; None where either is not built."""
        ends = [self.units.get((step, variant)) for step in (0, self.asked.effective[-1])]
        sizes = [unit.built.image_bytes for unit in ends if unit is not None and unit.built.is_built]
        return sizes[1] - sizes[0] if len(sizes) == 2 else None

    @property
    def exit_status(self) -> int:
        """0 nothing new, 1 something is, 125 it cannot be told: as `git bisect run` takes it."""
        words = [one.word for column in self.table().values() for one in column[1:]]
        if Word.NEW in words:
            return ExitStatus.FAILED
        if len(self.asked.effective) == 1 and not self.stopped:
            return ExitStatus.PASSED
        bases = [self.units.get((0, variant)) for variant in self.asked.variants]
        told = any(base is not None and base.built.outlook is not Outlook.FAILED for base in bases)
        if self.stopped or Word.FLAKY in words or not told:
            return CANNOT_TELL
        if not any(word in (Word.PASS, Word.FIXED, Word.NOTHING) for word in words):
            return CANNOT_TELL
        return ExitStatus.PASSED

    @property
    def missing(self) -> tuple[tuple[int, Variant], ...]:
        """Steps and sizes that were to be tried and were not, because it was stopped."""
        if not self.stopped or self.asked.mode is not Mode.EVERY:
            return ()
        return tuple(
            (step, variant)
            for step in self.asked.effective
            for variant in self.asked.variants
            if (step, variant) not in self.units
        )


def _of_build(built: Built) -> Outcome:
    if built.outlook is Outlook.ABSENT:
        return Outcome(unbuilt=True, said=built.errors[0])
    said = built.errors[0] if built.errors else "it failed"
    if built.is_built:
        return Outcome(runs=1)
    return Outcome(runs=1, failed=1, said=said, place=built.place)


@dataclass(slots=True)
class Engine:
    """Does what is asked with a builder and a runner, and keeps results as they come."""

    asked: Asked
    builder: Builder
    runner: Runner
    results: Results
    listening: Listening
    clock: Callable[[], float] = time.monotonic
    reuse: bool = True
    """Take what is on disk; False does all anew, and keeps it."""
    on_interrupt: Callable[[SeriesResult], None] = lambda _so_far: None
    """Given what was found so far when it is interrupted, before that is raised again."""
    _units: dict[tuple[int, Variant], Unit] = field(default_factory=dict)
    _built: dict[tuple[int, PageSize | None], Built] = field(default_factory=dict)
    _took_s: dict[str, float] = field(default_factory=dict)
    _start_s: float = 0.0

    def run(self) -> SeriesResult:
        """All of it, or what the budget allows; raises UsageError where the base is not what was asked
        for.
        """
        self._start_s = self.clock()
        stopped = ""
        while (due := self._next()) is not None:
            step, variant = due
            late = self._out_of_time(step, variant)
            if late:
                stopped = late
                break
            try:
                self._units[due] = self._try(step, variant)
            except InfraError as error:
                stopped = f"this machine: {error}"
                break
            except KeyboardInterrupt:
                self.on_interrupt(self._result("an interrupt"))
                raise
        return self._result(stopped)

    def _result(self, stopped: str = "") -> SeriesResult:
        return SeriesResult(
            asked=self.asked, units=dict(self._units), stopped=stopped, seconds=self.clock() - self._start_s
        )

    def _next(self) -> tuple[int, Variant] | None:
        asked = self.asked
        if len(asked.effective) == 1:
            return None  # no patch makes another kernel
        # Where the base does not build, no patch can be told from it.
        variants = [one for one in asked.variants if not self._base_fails(one)]
        return next_step(asked.mode, variants, asked.effective, self._units.keys(), self._result().bad())

    def _base_fails(self, variant: Variant) -> bool:
        base = self._units.get((0, variant))
        return base is not None and base.built.outlook is Outlook.FAILED

    def _try(self, step: int, variant: Variant) -> Unit:
        built, reused = self._build(step, variant)
        if not built.is_built:
            return Unit(built=built, reused=int(reused), done=int(not reused))
        outcomes: dict[str, Outcome] = {}
        cells: list[CellResult] = []
        found = done = 0
        for suite in self.asked.suites:
            runs, again = self._run(step, variant, built, suite)
            outcomes |= outcomes_of(suite, runs)
            cells += [cell for run in runs for cell in run.cells]
            found, done = found + again, done + len(runs) - again
        return Unit(
            built=built,
            outcomes=outcomes,
            cells=tuple(cells),
            reused=found + int(reused),
            done=done + int(not reused),
        )

    def _build(self, step: int, variant: Variant) -> tuple[Built, bool]:
        size = variant.built
        if (step, size) in self._built:  # another page size of a kernel that takes it at boot
            return self._built[step, size], True
        key = self.builder.key(step, size)
        kept = self.results.built(key) if self.reuse else None
        if kept is None:
            what = f"{_name(step)} at {variant.label}: build"
            self.listening.started(what, self._left(step, variant))
            with self._timed("build" if step else "base"):
                built = self.builder.build(step, size)
            self.results.keep_built(key, built)
            self.listening.ended(what, built.outlook.value if built.is_built else "; ".join(built.errors[:1]))
        else:
            built = kept
        self._built[step, size] = built
        return built, kept is not None

    def _run(self, step: int, variant: Variant, built: Built, suite: Suite) -> tuple[list[MatrixResult], int]:
        """The runs of a suite: one, and as many as are to tell a flaky check where one fails anew."""
        key = self.runner.key(built, variant, suite)
        runs: list[MatrixResult] = []
        found = 0
        while len(runs) < (self._wanted_runs(step, variant, suite, runs) if runs else 1):
            kept = self.results.ran(key, len(runs)) if self.reuse else None
            if kept is not None:
                found += 1
            else:
                number = f", run {len(runs) + 1}" if runs else ""
                what = f"{_name(step)} at {variant.label}: {suite.platform.value}{number}"
                self.listening.started(what, self._left(step, variant))
                with self._timed(f"run {suite.platform.value}"):
                    kept = self._named_cells(self.runner.run(built, variant, suite), step, variant, len(runs))
                self.results.keep_ran(key, len(runs), kept)
                self.listening.ended(what, _words(suite, kept))
            runs.append(self._named_cells(kept, step, variant, len(runs)))
        return runs, found

    def _named_cells(self, result: MatrixResult, step: int, variant: Variant, number: int) -> MatrixResult:
        """With ids that tell patches and runs apart: a kernel in the cache is called Image."""
        prefix = f"{step:02}" if step else "base"
        cells = []
        for position, cell in enumerate(result.cells):
            memory = (
                f"-{cell.memory_mib}m" if position and cell.memory_mib != result.cells[0].memory_mib else ""
            )
            again = f"-run{number + 1}" if number else ""
            cells.append(replace(cell, id=f"{prefix}-{variant.token}-{cell.platform.value}{memory}{again}"))
        return replace(result, cells=tuple(cells))

    def _wanted_runs(self, step: int, variant: Variant, suite: Suite, runs: Sequence[MatrixResult]) -> int:
        """One run will do where nothing fails, or only what is known to fail every time just before."""
        outcomes = outcomes_of(suite, runs)
        failing = {name for name, outcome in outcomes.items() if outcome.failed}
        before = [unit for (at, which), unit in sorted(self._units.items()) if which == variant and at < step]
        known = (
            {name for name, outcome in before[-1].outcomes.items() if outcome.always_fails}
            if before
            else set()
        )
        return self.asked.repeat if failing - known else 1

    def _out_of_time(self, step: int, variant: Variant) -> str:
        budget_s = self.asked.budget_s
        if budget_s is None or step == 0:
            return ""
        left_s = budget_s - (self.clock() - self._start_s)
        if left_s > self._unit_s():
            return ""
        return (
            f"the budget of {budget_s:.0f} s: {_name(step)} at {variant.label} and what follows were left out"
        )

    def _unit_s(self) -> float:
        """What a step at a page size takes, by what others took; 0 before any did.

        The base's build is no measure: it compiles all of the kernel.
        """
        return sum(seconds for kind, seconds in self._took_s.items() if kind != "base")

    def _left(self, step: int, variant: Variant) -> str:
        if self.asked.mode is not Mode.EVERY:
            return ""
        every = len(self.asked.effective) * len(self.asked.variants)
        units = every - len(self._units)
        minutes = units * self._unit_s() / 60
        return f"{len(self._units) + 1} of {every}" + (
            f", some {minutes:.0f} min left" if minutes >= 1 else ""
        )

    def _timed(self, kind: str) -> _Timing:
        return _Timing(self, kind)


@dataclass(slots=True)
class _Timing:
    """Remembers how long the last work of a kind took."""

    engine: Engine
    kind: str
    start_s: float = 0.0

    def __enter__(self) -> None:
        self.start_s = self.engine.clock()

    def __exit__(self, *_error: object) -> None:
        self.engine._took_s[self.kind] = self.engine.clock() - self.start_s


def _name(step: int) -> str:
    return f"patch {step}" if step else "base"


def _words(suite: Suite, result: MatrixResult) -> str:
    outcomes = outcomes_of(suite, [result])
    failed = [name for name, outcome in outcomes.items() if outcome.failed]
    return (
        f"failed: {', '.join(failed)}"
        if failed
        else f"{sum(one.ran for one in outcomes.values())} checks pass"
    )
