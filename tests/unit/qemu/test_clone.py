"""Tests of harness.qemu.clone's pool with machines of our own: no QEMU is started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, LaunchError
from harness.qemu import clone as clone_module
from harness.qemu.clone import OVERHEAD_MIB, ClonePool
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.state import CannotMigrate, SavedState
from harness.qemu.template import NoTemplate, Template, Templates
from harness.spec import MachineSpec

GUEST_MIB = 100
EACH_MIB = GUEST_MIB + OVERHEAD_MIB
QEMU = Qemu(program="qemu", version=(7, 2, 0), has_sandbox=True)


@dataclass(eq=False)
class FakeMachine:
    """As much of a Machine as the pool touches."""

    key: str
    running: bool
    dead: bool = False
    closed: bool = False
    is_fresh: bool = False
    callbacks: list[Callable[[], object]] = field(default_factory=list)

    @property
    def qmp(self) -> FakeMachine:
        return self

    def execute(self, command: str, _deadline: Deadline) -> None:
        if self.dead:
            raise ChannelError("hung up")
        self.running = command == "cont"

    @property
    def shell(self) -> FakeMachine:
        return self

    def renew(self, _deadline: Deadline) -> None:
        assert self.running
        self.is_fresh = True

    def when_closed(self, callback: Callable[[], object]) -> None:
        self.callbacks.append(callback)

    def close(self) -> None:
        self.closed = True
        while self.callbacks:
            self.callbacks.pop()()


@dataclass
class Starts:
    """Every machine that was started, and what goes wrong with the next ones."""

    machines: list[FakeMachine] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def alive(self) -> list[FakeMachine]:
        return [machine for machine in self.machines if not machine.closed]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    """Clones that start at once."""
    made = Starts()

    def start(template: Template, *, running: bool = True) -> FakeMachine:
        if made.errors:
            raise made.errors.pop()
        made.machines.append(FakeMachine(template.key, running))
        return made.machines[-1]

    monkeypatch.setattr(clone_module, "start_clone", start)
    return made


class FakeTemplates:
    """Templates that are there, by kernel."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def get(self, spec: MachineSpec, _boot: object) -> Template:
        return template(str(spec.kernel))

    def has(self, _spec: MachineSpec) -> bool:
        return True

    def forget(self, one: Template) -> None:
        self.forgotten.append(one.key)


def template(key: str = "a") -> Template:
    """A template of that key."""
    spec = MachineSpec(kernel=Path(key), initrd=Path("i"), cmdline="", memory_mib=GUEST_MIB)
    return Template(spec=spec, qemu=QEMU, saved=SavedState(ram=-1, devices=-1), key=key)


@pytest.fixture
def templates() -> FakeTemplates:
    """Templates that are there."""
    return FakeTemplates()


@pytest.fixture
def pool(templates: FakeTemplates, starts: Starts) -> Iterator[ClonePool]:
    """A pool with memory for three machines; nothing outlives it but what was handed out."""
    with ClonePool(cast(Templates, templates), total_mib=3 * EACH_MIB + 10) as made:
        yield made
    assert [machine for machine in starts.alive() if not machine.running] == []


def _take(pool: ClonePool, key: str = "a", wait_s: float = 10) -> FakeMachine:
    machine: Any = pool.take(template(key), Deadline.after(wait_s))
    return cast(FakeMachine, machine)


def _until_waiting(pool: ClonePool, count: int, key: str = "a") -> None:
    Deadline.after(10).wait_until(lambda: pool.waiting(template(key)) == count, "a clone that waits")


def test_a_waiting_clone_is_handed_out_running(pool: ClonePool, starts: Starts) -> None:
    """What was started ahead waits stopped, and is what the next taker gets; another takes its place.

    Its time of day, which stood still while it waited, is set when it is taken.
    """
    pool.prepare(template())
    _until_waiting(pool, 1)
    (waiting,) = starts.machines
    assert not waiting.running
    assert not waiting.is_fresh
    assert _take(pool) is waiting
    assert waiting.running
    assert waiting.is_fresh
    _until_waiting(pool, 1)


def test_no_machine_is_handed_out_twice(pool: ClonePool) -> None:
    """Threads that take at once get machines of their own."""
    taken: list[FakeMachine] = []
    threads = [threading.Thread(target=lambda: taken.append(_take(pool))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, taken))) == 3


def test_two_hundred_clones_never_take_more_than_there_is(pool: ClonePool, starts: Starts) -> None:
    """However many are asked for, those alive at once fit; the others wait for their turn."""
    most = 0
    lock = threading.Lock()

    def use() -> None:
        nonlocal most
        machine = _take(pool, wait_s=60)
        with lock:
            most = max(most, len(starts.alive()))
        machine.close()

    threads = [threading.Thread(target=use) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([machine for machine in starts.machines if machine.running]) == 200
    assert most <= 3


def test_no_memory_is_a_clear_error(pool: ClonePool) -> None:
    """A clone for which no memory comes free in time says who holds it."""
    held = [_take(pool) for _ in range(3)]
    with pytest.raises(DeadlineExceeded, match=r"no memory for a guest of 100 MiB: others hold 750"):
        _take(pool, wait_s=0.05)
    held[0].close()
    _take(pool)


def test_clones_that_wait_make_room(pool: ClonePool, starts: Starts) -> None:
    """A clone that only waits is given up for one that is wanted now."""
    held = [_take(pool), _take(pool)]
    _until_waiting(pool, 1)
    _take(pool, "b", wait_s=5)
    assert [machine.key for machine in starts.alive()] == ["a", "a", "b"]
    assert not any(machine.closed for machine in held)


def test_a_clone_that_died_waiting_is_replaced(pool: ClonePool, starts: Starts) -> None:
    """A clone whose QEMU was killed while it waited is never handed out."""
    pool.prepare(template())
    _until_waiting(pool, 1)
    starts.machines[0].dead = True
    assert _take(pool) is not starts.machines[0]
    assert starts.machines[0].closed


def test_a_failed_start_holds_no_memory(pool: ClonePool, starts: Starts) -> None:
    """A clone that could not be started gives back what it was to have, however often."""
    for _ in range(20):
        starts.errors.append(LaunchError("no", argv=(), exit_status=1, stderr=""))
        with pytest.raises(LaunchError):
            _take(pool)
    assert pool._used_mib == 0


def test_a_boot_has_its_room(pool: ClonePool) -> None:
    """A machine that is no clone is counted too."""
    with pool.room(2 * EACH_MIB, Deadline.after(1)), pytest.raises(DeadlineExceeded):
        [_take(pool, wait_s=0.05) for _ in range(2)]


def test_a_guest_larger_than_all_runs_alone(pool: ClonePool) -> None:
    """A guest for which there is never enough memory gets all of it."""
    with pool.room(1 << 20, Deadline.after(1)), pytest.raises(DeadlineExceeded):
        _take(pool, wait_s=0.05)
    _take(pool)


def _spec(key: str = "a") -> MachineSpec:
    return template(key).spec


def _boot(_machine: Machine) -> None:
    """Ready at once."""


def test_a_template_that_qemu_refuses_is_made_anew(
    pool: ClonePool, starts: Starts, templates: FakeTemplates
) -> None:
    """The first refusal costs the template, and the clone comes from the next one."""
    starts.errors.append(CannotMigrate("QEMU could not load it"))
    assert pool.clone(_spec(), _boot, Deadline.after(5)) is not None
    assert templates.forgotten == ["a"]


def test_a_template_that_qemu_refuses_again_is_none(pool: ClonePool, starts: Starts) -> None:
    """After the second refusal the machine is to be booted, with QEMU's reason."""
    starts.errors += [CannotMigrate("QEMU could not load it")] * 2
    with pytest.raises(NoTemplate, match="could not load it"):
        pool.clone(_spec(), _boot, Deadline.after(5))


def test_a_dropped_template_has_no_clone_that_waits(pool: ClonePool, starts: Starts) -> None:
    """drop() ends the clones that wait and leaves those handed out alone."""
    held = _take(pool)
    _until_waiting(pool, 1)
    pool.drop(template())
    assert starts.alive() == [held]
