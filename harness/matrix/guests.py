"""Where the guests of a run come from: clones of a template that was booted once, or a boot for each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from harness.cache import Cache
from harness.deadline import Deadline
from harness.qemu.clone import ClonePool
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.template import NoTemplate, Templates
from harness.spec import MachineSpec

__all__ = ["BringUp", "Guests", "Started"]

BringUp = Callable[[Machine], None]
"""Brings a machine to its shell, or raises; what it raises reaches whoever asked for the guest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A guest at its shell."""

    machine: Machine
    how: str
    """For reports: that it is a clone, or why it was booted."""
    seconds: float
    """From the request until its shell answered; for the first clone the boot of its template included."""


class Guests:
    """The guests of a run, for several threads; a context manager.

    Arguments: `cold`, boot every guest anew; `total_mib`, host memory for all of them; `ahead`, how many
    clones of each template may wait to be taken.
    """

    def __init__(self, cache: Cache, qemu: Qemu, *, cold: bool, total_mib: int, ahead: int = 0) -> None:
        self._qemu = qemu
        self._cleanup = contextlib.ExitStack()
        self._clones: ClonePool | None = None
        if not cold:
            templates = self._cleanup.enter_context(Templates(cache, qemu))
            self._clones = self._cleanup.enter_context(ClonePool(templates, total_mib=total_mib, ahead=ahead))

    def __enter__(self) -> Guests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the clones that wait; guests that were handed out live on."""
        self._cleanup.close()

    def start(self, spec: MachineSpec, bring_up: BringUp, deadline: Deadline, *, cold: str = "") -> Started:
        """A guest at its shell; close its machine when done.

        `bring_up` runs on the machine that boots: the guest itself, or what becomes its template; where there
        is a template already it does not run. It closes nothing. `cold`: why this guest is to boot. Raises
        what `bring_up` raises, and InfraError; the machine is closed then, its transcript still readable.
        """
        start_s = time.monotonic()
        why = cold or ("a run that repeats begins with its boot" if spec.exact is not None else "")
        if self._clones is None:
            why = why or "--cold"
        elif not why:
            try:
                machine = self._clones.clone(spec, bring_up, deadline)
            except NoTemplate as error:
                why = str(error)
            else:
                return Started(machine=machine, how="clone", seconds=time.monotonic() - start_s)
        machine = Machine(spec, self._qemu)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(machine.close)
            bring_up(machine)
            on_failure.pop_all()
        return Started(machine=machine, how=f"boot ({why})", seconds=machine.age_s)
