"""Clones: machines that go on from a template instead of booting, started now or ahead of time.

A clone is an ordinary `Machine`. Its RAM is a copy-on-write map of the template's file, its disks are private
copies of the same images, and its random numbers and time of day are its own. What it shares with every clone
of its template is what a boot decides once: KASLR, the pointer authentication keys and stack canaries of
processes that ran before, and the monotonic clock, which goes on from where the template was stopped. Nothing
else identifies a micro guest: it has no machine-id, each has a network of its own, and a host key for SSH is
made in the clone that somebody wants to log in to.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType

from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, GranuleError
from harness.qemu.machine import Machine
from harness.qemu.state import CannotMigrate
from harness.qemu.template import Boot, NoTemplate, Obstacle, Template, Templates
from harness.spec import MachineSpec

__all__ = ["OVERHEAD_MIB", "ClonePool", "start_clone"]

MONITOR_S = 10.0
FRESH_S = 60.0
OVERHEAD_MIB = 150
"""What a QEMU process takes beside its guest's RAM: its own text and data, and the translated code."""
# How long the next clone leaves the processors to the one that was just handed out.
GRACE_S = 0.1


def start_clone(template: Template, *, running: bool = True) -> Machine:
    """A machine at the template's ready shell, with entropy and time of its own; close it when done.

    `running`: False leaves its vCPUs stopped, as the pool keeps it. Raises CannotMigrate when this QEMU
    cannot load the template, LaunchError, or ChannelError.
    """
    machine = Machine(template.spec, template.qemu, saved=template.saved)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(machine.close)
        machine.qmp.execute("cont", Deadline.after(MONITOR_S))
        machine.shell.renew(Deadline.after(FRESH_S))
        if not running:
            machine.qmp.execute("stop", Deadline.after(MONITOR_S))
        on_failure.pop_all()
    return machine


@dataclass(eq=False, slots=True)
class _Wish:
    """A clone to be started ahead, from that moment of the monotonic clock on."""

    template: Template
    from_s: float


class ClonePool:
    """Clones within a bound of memory, some of them started before they are wanted. A context manager.

    Arguments: `total_mib`, host memory for all machines of this pool, running or waiting (a machine larger
    than all of it is alone); `ahead`, how many clones of each template wait at most.
    """

    def __init__(self, templates: Templates, *, total_mib: int, ahead: int = 1) -> None:
        self._templates = templates
        self._total_mib = total_mib
        self._ahead = ahead
        self._used_mib = 0
        self._waiting: dict[str, deque[Machine]] = {}
        self._wanted: list[_Wish] = []
        self._starting: list[str] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._start_ahead, name="clone-pool", daemon=True)
        self._thread.start()

    def __enter__(self) -> ClonePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the clones that wait, and start no more; those handed out live on."""
        with self._changed:
            self._closed = True
            idle = [machine for machines in self._waiting.values() for machine in machines]
            self._waiting.clear()
            self._changed.notify_all()
        for machine in idle:
            machine.close()
        self._thread.join()

    def clone(self, spec: MachineSpec, boot: Boot, deadline: Deadline) -> Machine:
        """A running clone of that machine, whose template is made with `boot` where there is none.

        A template that QEMU cannot load is made anew, once. Raises NoTemplate when the machine has to be
        booted, DeadlineExceeded when other machines of the pool leave no memory for it, what `boot` raises,
        and what `start_clone` raises.
        """
        try:
            return self.take(self._template(spec, boot, deadline), deadline)
        except CannotMigrate:
            self._templates.forget(self._templates.get(spec, boot))
        try:
            return self.take(self._template(spec, boot, deadline), deadline)
        except CannotMigrate as error:
            raise NoTemplate(Obstacle.UNMIGRATABLE, str(error)) from error

    def _template(self, spec: MachineSpec, boot: Boot, deadline: Deadline) -> Template:
        # A boot takes memory as a clone does; a template that is there takes none, and is had at once.
        with self.room(spec.memory_mib, deadline) if not self._templates.has(spec) else nullcontext():
            return self._templates.get(spec, boot)

    def prepare(self, template: Template) -> None:
        """Have a clone of the template started in the background, where there is memory to spare."""
        self._wish(template, 0)

    def _wish(self, template: Template, delay_s: float) -> _Wish:
        with self._changed:
            wish = _Wish(template, time.monotonic() + delay_s)
            self._wanted.append(wish)
            self._changed.notify_all()
        return wish

    def _hasten(self, wish: _Wish) -> None:
        with self._changed:
            wish.from_s = 0
            self._changed.notify_all()

    def take(self, template: Template, deadline: Deadline) -> Machine:
        """A running clone: one that waits, or else a new one. Another is started in its place."""
        machine = self._ready(template.key, deadline)
        while machine is not None:
            try:
                machine.qmp.execute("cont", Deadline.after(MONITOR_S))
                # Its time of day stood still with it.
                machine.shell.renew(Deadline.after(FRESH_S))
            except ChannelError:  # it died while it waited
                machine.close()
                machine = self._ready(template.key, deadline)
            else:
                break
        else:
            machine = self._start(template, deadline, running=True)
        wish = self._wish(template, GRACE_S)
        machine.when_closed(lambda: self._hasten(wish))
        return machine

    def waiting(self, template: Template) -> int:
        """How many clones of the template wait to be taken."""
        with self._changed:
            return len(self._waiting.get(template.key, ()))

    def drop(self, template: Template) -> None:
        """Kill the clones of the template that wait, and start none until it is wanted again."""
        with self._changed:
            self._wanted = [wish for wish in self._wanted if wish.template.key != template.key]
            self._changed.wait_for(lambda: template.key not in self._starting)
            idle = self._waiting.pop(template.key, deque())
        for machine in idle:
            machine.close()

    @contextlib.contextmanager
    def room(self, guest_mib: int, deadline: Deadline) -> Iterator[None]:
        """Memory for a machine that is not the pool's, such as one that boots; raises DeadlineExceeded."""
        need_mib = self._reserve(guest_mib, deadline)
        try:
            yield
        finally:
            self._release(need_mib)

    def _ready(self, key: str, deadline: Deadline) -> Machine | None:
        """A clone that waits, or that is being started for us to have; None when there is neither."""
        with self._changed:
            while key in self._starting and not self._waiting.get(key) and not deadline.expired():
                self._changed.wait(deadline.left_s())
            machines = self._waiting.get(key)
            return machines.popleft() if machines else None

    def _start(self, template: Template, deadline: Deadline, *, running: bool) -> Machine:
        need_mib = self._reserve(template.spec.memory_mib, deadline)
        try:
            machine = start_clone(template, running=running)
        except BaseException:
            self._release(need_mib)
            raise
        machine.when_closed(lambda: self._release(need_mib))
        return machine

    def _need_mib(self, guest_mib: int) -> int:
        return min(guest_mib + OVERHEAD_MIB, self._total_mib)

    def _reserve(self, guest_mib: int, deadline: Deadline) -> int:
        """Hold memory for a machine, at the cost of clones that only wait; returns how much, in MiB."""
        need_mib = self._need_mib(guest_mib)
        while True:
            with self._changed:
                if self._used_mib + need_mib <= self._total_mib:
                    self._used_mib += need_mib
                    return need_mib
                idle = next((machines.popleft() for machines in self._waiting.values() if machines), None)
                if idle is None:
                    if deadline.expired():
                        raise DeadlineExceeded(
                            f"no memory for a guest of {guest_mib} MiB: others hold {self._used_mib} of the "
                            f"{self._total_mib} MiB that guests may have. Close some, or give it more time."
                        )
                    self._changed.wait(deadline.left_s())
            if idle is not None:
                idle.close()  # it releases what it holds

    def _release(self, mib: int) -> None:
        with self._changed:
            self._used_mib -= mib
            self._changed.notify_all()

    def _start_ahead(self) -> None:
        while (template := self._next_wanted()) is not None:
            machine = None
            try:
                # Whoever wants a clone starts it itself then, and hears of the error.
                with contextlib.suppress(GranuleError):
                    machine = self._start(template, Deadline.after(0), running=False)
            finally:
                with self._changed:
                    self._starting.remove(template.key)
                    if machine is not None and not self._closed:
                        self._waiting.setdefault(template.key, deque()).append(machine)
                        machine = None
                    self._changed.notify_all()
            if machine is not None:
                machine.close()

    def _next_wanted(self) -> Template | None:
        """Wait for a wish whose time has come and for which there is room; None when the pool is closed."""
        with self._changed:
            while not self._closed:
                wish = min(self._wanted, key=lambda wish: wish.from_s, default=None)
                left_s = None if wish is None else wish.from_s - time.monotonic()
                if wish is None or left_s is None or left_s > 0:
                    self._changed.wait(left_s)
                    continue
                self._wanted.remove(wish)
                if self._may_start_ahead(wish.template):
                    self._starting.append(wish.template.key)
                    return wish.template
        return None

    def _may_start_ahead(self, template: Template) -> bool:
        idle = len(self._waiting.get(template.key, ()))
        fits = self._used_mib + self._need_mib(template.spec.memory_mib) <= self._total_mib
        return idle < self._ahead and fits
