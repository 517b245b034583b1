"""The fixtures: guests that tests share, and guests of their own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import ChannelError, InfraError
from harness.guests import DiskGuests
from harness.kernels.store import KernelStore
from harness.linux.klog import harmless
from harness.matrix.boot import Symbols, boot, settle
from harness.matrix.budget import guest_memory_mib
from harness.matrix.cell import Cell
from harness.matrix.guests import Guests
from harness.matrix.judge import kernel_log
from harness.matrix.patience import Patience
from harness.matrix.record import CellEnded, Record
from harness.matrix.run import Bench, expect_page_size, machine_spec, power_off, subject_of
from harness.pytest_plugin.caveats import note
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.smoke.subject import Subject
from harness.verdict import CheckResult

__all__ = [
    "GUEST",
    "GuestUnderTest",
    "console_of",
    "fail_for",
    "fresh_machine",
    "fresh_subject",
    "granule_bench",
    "granule_cell",
    "granule_guest",
    "granule_kernels",
    "machine",
    "subject",
]

CONSOLE_SHOWN_BYTES = 8 << 10
# Under --granule-cold there is nothing to wait for; otherwise one clone of each template stands ready.
AHEAD = 1


class GuestUnderTest:
    """A guest under test, which stays dead once it has died."""

    def __init__(
        self, subject: Subject, cell: Cell, patience: Patience, *, shared: bool, caveat: str = ""
    ) -> None:
        self.subject = subject
        self.cell = cell
        self.caveat = caveat
        self.obituary = ""
        self.shared = shared
        self._patience = patience
        self._judged = False

    def look(self) -> None:
        """Note it if the guest has died; one that is a test's own may be powered off by it."""
        machine = self.subject.machine
        try:
            machine.raise_if_gone()
        except ChannelError as error:
            if self.shared or machine.console.fatal_event() is not None or not machine.is_off:
                self.obituary = self.obituary or str(error)

    def problems(self, *, end: bool) -> list[str]:
        """End the guest; what its kernel had to complain of, as in `granule smoke`.

        `end`: it is powered off, which is judged too; otherwise it is killed. Told once.
        """
        if self._judged:
            return []
        self._judged = True
        self.look()
        if self.obituary:
            return []
        machine = self.subject.machine
        tainted = None if machine.is_off else int(self.subject.sh("cat /proc/sys/kernel/tainted").text)
        results: list[CheckResult] = []
        if end:
            results.append(power_off(machine, Deadline.after(self._patience.command_s)))
        machine.console.drain(0.05, 1.0)
        # A report whose last line may be to come is an event only when the console has ended.
        machine.close()
        results.append(kernel_log(machine.console.events, machine.transcript.content(), tainted))
        return [str(finding) for result in results for finding in result.findings]


GUEST = pytest.StashKey[GuestUnderTest]()
"""The guest that a test was given, for its report."""


@pytest.fixture(scope="session")
def granule_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """QEMU, the cache and the guests, as every cell uses them."""
    option = request.config.getoption
    # Every worker of pytest-xdist has guests, and the host has one memory.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with Cache() as cache:
        qemu = Qemu.find()
        total_mib = guest_memory_mib() // workers
        cold = bool(option("--granule-cold"))
        offline = bool(option("--granule-offline"))
        guest = MicroGuest(cache, offline=offline)
        on_disk = DiskGuests(cache, guest, qemu, KernelStore(cache, offline=offline), offline=offline)
        with Guests(cache, qemu, cold=cold, total_mib=total_mib, ahead=AHEAD) as guests:
            yield Bench(qemu=qemu, cache=cache, guest=guest, guests=guests, on_disk=on_disk)


@pytest.fixture(scope="session")
def granule_kernels(request: pytest.FixtureRequest, granule_bench: Bench) -> KernelStore:
    """The kernels that can be had."""
    return KernelStore(granule_bench.cache, offline=bool(request.config.getoption("--granule-offline")))


@pytest.fixture(scope="session")
def granule_cell(request: pytest.FixtureRequest) -> Cell:
    """The cell of a test; see `subject`."""
    cell: Cell = request.param
    return cell


@contextlib.contextmanager
def _guest(cell: Cell, bench: Bench, kernels: KernelStore, *, shared: bool) -> Iterator[GuestUnderTest]:
    """A guest of the cell at its shell, its page size seen to; fails the test when it does not come up."""
    kernel = kernels.get(cell.kernel)
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s, cell.guest)
    record = Record()
    machines: list[Machine] = []

    def bring_up(machine: Machine) -> None:
        machines.append(machine)
        boot(machine, Symbols(kernel.running(cell.page_size)), patience, record)
        if cell.guest.is_on_disk:
            settle(machine, patience, record)

    with contextlib.ExitStack() as stack:
        try:
            spec = machine_spec(cell, kernel, bench)
            machine = bench.guests.start(spec, bring_up, Deadline.after(patience.cell_s)).machine
            machines.append(machine)
            stack.callback(machine.close)
            # The tests of a cell may take as long as they like; each command has its own limit.
            forever = Deadline.after(float("inf"))
            subject = subject_of(cell, kernel, machine, patience, forever, bench.guest)
            expect_page_size(subject, record)
        except (CellEnded, InfraError) as error:
            why = f"{record.verdict.value}: {record.reason}" if record.reason else str(error)
            console = console_of(machines[-1]) if machines else ""
            pytest.fail("\n".join([f"{cell.id}: {why}", *record.diagnosis, console]), pytrace=False)
        yield GuestUnderTest(subject, cell, patience, shared=shared, caveat=kernel.caveat)


def fail_for(problems: list[str], guest: GuestUnderTest, when: str) -> None:
    """Fail the test, or what a fixture does after it, for what a kernel had to complain of."""
    if problems:
        lines = [f"{guest.cell.id}, {when}:", *problems, console_of(guest.subject.machine)]
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.fixture(scope="session")
def granule_guest(
    granule_cell: Cell, granule_bench: Bench, granule_kernels: KernelStore
) -> Iterator[GuestUnderTest]:
    """The guest of a cell, shared by its tests in this worker.

    When its tests are done it is powered off, and its kernel log is judged as in `granule smoke`.
    """
    with _guest(granule_cell, granule_bench, granule_kernels, shared=True) as guest:
        yield guest
        problems = guest.problems(end=True)
    fail_for(problems, guest, "after its tests")


@pytest.fixture
def subject(request: pytest.FixtureRequest, granule_guest: GuestUnderTest) -> Subject:
    """The guest under test: `sh()`, `ssh`, `probe()`, `page_size`, `kernel`, `machine`.

    A guest that died fails the test in which it did; the tests after it fail with that reason in one line.
    """
    granule_guest.look()
    if granule_guest.obituary:
        pytest.fail(f"the guest had died before this test: {granule_guest.obituary}", pytrace=False)
    request.node.stash[GUEST] = granule_guest
    note(request.node, granule_guest.caveat)
    _require(request, granule_guest.subject)
    return granule_guest.subject


@pytest.fixture
def fresh_subject(
    request: pytest.FixtureRequest, granule_cell: Cell, granule_bench: Bench, granule_kernels: KernelStore
) -> Iterator[Subject]:
    """A guest that no other test has touched or will touch; otherwise as `subject`.

    Its kernel log is judged after the test, which may power it off.
    """
    with _guest(granule_cell, granule_bench, granule_kernels, shared=False) as guest:
        request.node.stash[GUEST] = guest
        note(request.node, guest.caveat)
        _require(request, guest.subject)
        yield guest.subject
        problems = guest.problems(end=False)
    fail_for(problems, guest, "after its test")


@pytest.fixture
def machine(subject: Subject) -> Machine:
    """The machine of `subject`: its QEMU process, and the lines to it."""
    return subject.machine


@pytest.fixture
def fresh_machine(fresh_subject: Subject) -> Machine:
    """The machine of `fresh_subject`."""
    return fresh_subject.machine


def _require(request: pytest.FixtureRequest, subject: Subject) -> None:
    """Skip a test whose guest was built without what it requires."""
    for marker in request.node.iter_markers("requires_config"):
        for option in marker.args:
            if subject.config is None:
                pytest.skip(
                    f"whether the kernel has CONFIG_{option} is unknown: it embeds no configuration "
                    "(give --config)"
                )
            if subject.option(option) is None:
                pytest.skip(
                    f"the kernel was built without CONFIG_{option}; choose another with --granule-kernel"
                )


def console_of(machine: Machine) -> str:
    """The end of a guest's console, fit for a terminal."""
    return harmless(machine.transcript.tail(CONSOLE_SHOWN_BYTES))
