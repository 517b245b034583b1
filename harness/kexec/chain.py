"""A chain of kernels in one machine: the first is booted, and each starts the next by kexec."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.deadline import Deadline
from harness.errors import CommandTimeout, DeadlineExceeded, GranuleError, GuestGone, GuestStayed
from harness.kexec.loading import load_next, shell_of
from harness.kexec.stage import Stage, chain_machine, log_of
from harness.linux.klog import LogEvent, harmless
from harness.matrix.boot import Symbols, boot
from harness.matrix.diagnosis import diagnose
from harness.matrix.judge import judge_gone, kernel_log
from harness.matrix.patience import Patience
from harness.matrix.record import CellEnded, Record
from harness.matrix.run import Bench, expect_page_size, power_off, subject_of
from harness.qemu.machine import Machine
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import Disk
from harness.verdict import CellResult, CheckResult, Verdict

__all__ = ["Flight", "OnCheck", "run_chain"]

CONSOLE_KEPT_BYTES = 256 << 10
# Of the usual: the old kernel's last word is followed by copying, and by all that the new one does before its
# console is there, up to twice what a boot takes of the processor.
SILENCE = 2

OnCheck = Callable[[str, CheckResult], None]
"""Told of each check's end, with its cell's id."""


def _nobody(_cell_id: str, _check: CheckResult) -> None:
    """Listens to no check."""


@dataclass(slots=True, kw_only=True)
class Flight:
    """A machine on its way through the stages of a chain, and a record for each of them."""

    stages: Sequence[Stage]
    bench: Bench
    on_check: OnCheck = _nobody
    disks: tuple[Disk, ...] = ()
    """More disks of the machine's."""
    records: list[Record] = field(default_factory=list)
    at: int = 0
    """The stage whose kernel runs, or is being started."""
    ended_s: dict[int, float] = field(default_factory=dict)
    """When a stage's kernel gave way to the next, by the monotonic clock."""
    kernels: list[int] = field(default_factory=list)
    """The stage of each kernel that was started, in order: one that was refused has none."""

    @contextlib.contextmanager
    def machine(self) -> Iterator[Machine]:
        """The machine, booting its first stage; it is ended afterwards."""
        self.records = [Record() for _ in self.stages]
        with Machine(chain_machine(self.stages, self.disks), self.bench.qemu) as machine:
            for stage, record in zip(self.stages, self.records, strict=True):
                record.accelerator = machine.accelerator
                record.provenance = {
                    "kernel release": stage.kernel.release,
                    "kernel sha256": stage.kernel.sha256,
                    "QEMU": self.bench.qemu.version_text,
                    "argv": shlex.join(machine.argv),
                    "start": "boot" if stage is self.stages[0] else "kexec",
                }
            yield machine

    @property
    def stage(self) -> Stage:
        """The stage whose kernel runs."""
        return self.stages[self.at]

    @property
    def record(self) -> Record:
        """Its record."""
        return self.records[self.at]

    @property
    def patience(self) -> Patience:
        """How long to wait for it."""
        cell = self.stage.cell
        found = Patience.of(cell.accel, cell.cpu, cell.timeout_s)
        return dataclasses.replace(found, silence_s=SILENCE * found.silence_s)

    def subject(self, machine: Machine) -> Subject:
        """The guest as the checks see it."""
        deadline = Deadline.after(self.patience.cell_s)
        return subject_of(self.stage.cell, self.stage.kernel, machine, self.patience, deadline)

    def leave(
        self, machine: Machine, subject: Subject, script: str, number: int, *, panic: bool = False
    ) -> None:
        """Have the guest run what ends its kernel and starts the stage of that number; then `bring_up`."""
        machine.console.expect_kernel(panic=panic)
        shell_of(subject).leave(script, Deadline.after(subject.command_s))
        self.ended_s[self.kernels[-1]] = time.monotonic()
        self.at = number

    def bring_up(self, machine: Machine) -> None:
        """Wait for the kernel that was started last.

        Raises as `boot` does, and CellEnded where the kernel before it still answers.
        """
        record, before_s = self.record, machine.age_s
        self.kernels.append(self.at)
        running = self.stage.kernel.running(self.stage.cell.page_size)
        try:
            boot(machine, Symbols(running), self.patience, record)
        except GuestStayed as error:
            self.kernels.pop()
            raise record.end(Verdict.FAIL, str(error)) from error
        record.boot_s = machine.age_s - (before_s if self.at else 0.0)

    def ask(self, machine: Machine) -> Subject:
        """Put the stage's checks to its guest; raises CellEnded where nothing more is to be asked."""
        subject = self.subject(machine)
        expect_page_size(subject, self.record)
        for check in self.stage.cell.checks:
            if subject.deadline.expired():
                raise CommandTimeout(f"the cell's time was over before {check.name}", guest_answers=True)
            self.add(check.result(subject))
            machine.raise_if_gone()
        tainted = subject.sh("cat /proc/sys/kernel/tainted").text
        self.record.tainted = int(tainted) if tainted.strip().isdecimal() else None
        return subject

    def add(self, result: CheckResult, at: int | None = None) -> None:
        """A check's result, of the stage at hand unless said otherwise."""
        number = self.at if at is None else at
        self.records[number].checks.append(result)
        self.on_check(self.stages[number].cell.id, result)

    @contextlib.contextmanager
    def judged(self, machine: Machine) -> Iterator[None]:
        """Whatever ends the flight early becomes the verdict of the stage that was at hand."""
        try:
            yield
        except CellEnded:
            pass  # the record holds the verdict
        except DeadlineExceeded as error:
            alive = isinstance(error, CommandTimeout) and error.guest_answers
            running = self.stage.kernel.running(self.stage.cell.page_size)
            found = diagnose(machine, Symbols(running).get())
            self.record.end(Verdict.TIMEOUT if alive else Verdict.HANG, str(error), found.lines)
        except GuestGone as error:
            judge_gone(machine.console.events_by_kernel[-1], str(error), self.record)
        except GranuleError as error:
            self.record.end(Verdict.INFRA, str(error))

    def end(self, machine: Machine, expected: Callable[[LogEvent], bool] = lambda _event: False) -> None:
        """Judge what each kernel said, once the machine has ended; `expected` names what was asked for.

        A stage that it never came to is a SKIP.
        """
        for never in self.records[self.at + 1 :]:
            never.end(Verdict.SKIP, f"the chain ended before: {self.stage.cell.id} was its last")
        machine.console.drain(0.05, 1.0)
        log, events = machine.transcript.content(), machine.console.events_by_kernel
        for number, said in enumerate(events[: len(self.kernels)]):
            at = self.kernels[number]
            record, own = self.records[at], log_of(log, number)
            record.console = harmless(own[-CONSOLE_KEPT_BYTES:])
            unexpected = tuple(event for event in said if not expected(event))
            if record.boot_s is not None:
                cell = self.stages[at].cell
                self.add(kernel_log(unexpected, own, record.tainted, cell.allowed_taint), at)

    def results(self) -> tuple[CellResult, ...]:
        """The finished values, one for each stage."""
        return tuple(self._result(number) for number in range(len(self.stages)))

    def _result(self, number: int) -> CellResult:
        stage, record = self.stages[number], self.records[number]
        result = record.result(stage.cell, stage.kernel)
        ended_s = self.ended_s.get(number, time.monotonic())
        return dataclasses.replace(
            result, duration_s=ended_s - record.started_s, rerun=shlex.join(stage.cell.command[0])
        )


def run_chain(stages: Sequence[Stage], bench: Bench, on_check: OnCheck = _nobody) -> tuple[CellResult, ...]:
    """Boot the first stage and have each start the next; a result for each.

    A kernel that does not allow it is a SKIP of the stage that was to be started, with the reason that the
    kernel gave, and the next stage is started by the kernel that stayed. Stages after one that did not come
    up are SKIPs too. Raises InfraError when there is no machine.
    """
    flight = Flight(stages=stages, bench=bench, on_check=on_check)
    with flight.machine() as machine, flight.judged(machine):
        flight.bring_up(machine)
        subject = flight.ask(machine)
        for number in range(1, len(stages)):
            subject = _hop(flight, machine, subject, number)
        flight.add(power_off(machine, Deadline.after(flight.patience.command_s)), flight.kernels[-1])
    flight.end(machine)
    return flight.results()


def _hop(flight: Flight, machine: Machine, subject: Subject, number: int) -> Subject:
    """Have the guest start the stage of that number, and put its checks to it."""
    evidence, start_s = Evidence(), time.monotonic()
    record = flight.records[number]
    record.started_s = start_s
    refused = load_next(subject, flight.stages[number], number, flight.bench, evidence)
    if refused is not None:
        flight.at = number
        record.end(refused.verdict, refused.reason)
        flight.ended_s[number] = time.monotonic()
        return subject
    flight.leave(machine, subject, "exec kexec --exec", number)
    flight.bring_up(machine)
    evidence.checked(1)
    flight.add(evidence.result("kexec", time.monotonic() - start_s))
    return flight.ask(machine)
