"""One kernel on Hyper-V without a change and with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.kernels.store import KernelStore
from harness.matrix.cell import Cell
from harness.matrix.judge import TAINT_OF_MODULES
from harness.matrix.record import Record
from harness.matrix.run import Bench, run_cell
from harness.qemu.machine import Machine
from harness.trial.change import Change, DoesNotBuild
from harness.trial.compare import Comparison, compare
from harness.trial.outcome import Outcome
from harness.verdict import CellResult, CheckResult, Verdict

__all__ = ["AFTER", "BEFORE", "Prepared", "Trial", "prepare", "try_kernel"]

BEFORE: Final = "-before"
AFTER: Final = "-after"
"""End the names of the two cells."""

OnCell = Callable[[str], None]
OnCheck = Callable[[str, CheckResult], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A kernel in both forms, built and not booted."""

    cell: Cell
    old: Kernel
    new: Kernel | None
    """None where the change does not build."""
    not_built: str = ""
    """The compiler's words then."""
    modules: tuple[str, ...] = ()
    """What was rebuilt by itself; empty where the whole kernel was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of a change under one kernel."""

    cell: Cell
    before: Outcome | None
    after: Outcome | None
    """None, and `before` with it, where the change does not build."""
    not_built: str = ""
    """The compiler's words then."""
    modules: tuple[str, ...] = ()
    """What was rebuilt by itself; empty where the whole kernel was."""
    elsewhere: tuple[str, ...] = ()
    """Drivers of Hyper-V's that the change touches and that no device here speaks to."""

    @property
    def comparison(self) -> Comparison | None:
        """Of the two guests; None where there are none."""
        if self.before is None or self.after is None:
            return None
        return compare(self.before, self.after)

    @property
    def not_exercised(self) -> tuple[str, ...]:
        """Changed drivers that did nothing on the wire that is judged: of them nothing is said."""
        if self.after is None:
            return ()
        idle = tuple(name for name in self.modules if not self.after.crossed(name))
        return (*idle, *self.elsewhere)

    @property
    def is_worse(self) -> bool:
        """It does not build, or something fails that did not."""
        return self.comparison is None or self.comparison.is_worse


def prepare(
    change: Change, cell: Cell, store: KernelStore, bench: Bench, scratch: Path, progress: Progress = quiet
) -> Prepared:
    """Build what a trial boots, into a directory that has to last as long as it.

    Raises UsageError where the change does not apply or cannot be tried on this kernel, InfraError.
    """
    kernel = store.get(cell.kernel)
    old = change.without(kernel, store, bench.cache, scratch, progress)
    try:
        new = change.applied(kernel, store, bench.cache, scratch, progress)
    except DoesNotBuild as error:
        return Prepared(cell=cell, old=old, new=None, not_built=str(error))
    return Prepared(cell=cell, old=old, new=new, modules=change.modules_in(new))


def try_kernel(
    change: Change,
    prepared: Prepared,
    bench: Bench,
    *,
    on_cell: OnCell = lambda _cell_id: None,
    on_check: OnCheck = lambda _cell_id, _check: None,
    on_result: Callable[[CellResult], None] = lambda _result: None,
) -> Trial:
    """Boot both; where there is one only, the other's result says that it does not build."""
    cell, new = prepared.cell, prepared.new
    allowed = cell.allowed_taint | TAINT_OF_MODULES  # modules that were built here bring it about

    def outcome(tried: Kernel, tag: str) -> Outcome:
        one = replace(cell, tag=tag, allowed_taint=allowed)
        ended: list[Machine] = []
        on_cell(one.id)
        result = run_cell(one, tried, bench, lambda check: on_check(one.id, check), ended.append)
        on_result(result)
        return Outcome.of(result, ended[-1] if ended else None)

    if new is None:
        record = Record()
        record.end(Verdict.FAIL, f"does not build: {prepared.not_built}")
        on_result(record.result(replace(cell, tag=AFTER), prepared.old))
        return Trial(cell=cell, before=None, after=None, not_built=prepared.not_built)
    return Trial(
        cell=cell, before=outcome(prepared.old, BEFORE), after=outcome(new, AFTER), modules=prepared.modules,
        elsewhere=change.affected.elsewhere,
    )  # fmt: skip
