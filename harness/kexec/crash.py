"""A kernel that is made to panic, the kernel that then runs, and the memory that it finds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.kexec.chain import Flight, OnCheck
from harness.kexec.dump import fetch, hold, last_words, scratch_disk
from harness.kexec.loading import load_next
from harness.kexec.stage import Stage
from harness.linux.klog import EventKind, LogEvent
from harness.matrix.run import Bench, power_off
from harness.qemu.machine import Machine
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.verdict import CellResult

__all__ = ["CrashDump", "is_asked_for", "run_crash"]

PANIC = "Kernel panic - not syncing: sysrq triggered crash"
"""drivers/tty/sysrq.c, sysrq_handle_crash()."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashDump:
    """What came of a crash: a result for the kernel that crashed and one for that which captured it."""

    cells: tuple[CellResult, ...]
    path: Path | None
    """The dump; None where none came."""


def run_crash(
    crashed: Stage, capture: Stage, target: Path, bench: Bench, on_check: OnCheck = lambda _cell, _check: None
) -> CrashDump:
    """Boot a kernel, have it load the other and panic, and write the dump that the other has of it.

    `crashed` is started with `crashkernel=SIZE`. Its panic is what is asked for; anything else that either
    kernel complains of is judged as ever. Raises InfraError when there is no machine.
    """
    with scratch_disk(crashed.spec.memory_mib) as disk:
        flight = Flight(stages=(crashed, capture), bench=bench, on_check=on_check, disks=(disk,))
        came = False
        with flight.machine() as machine, flight.judged(machine):
            flight.bring_up(machine)
            came = _crash(flight, machine, flight.ask(machine), target)
        flight.end(machine, is_asked_for)
    return CrashDump(cells=flight.results(), path=target if came else None)


def is_asked_for(event: LogEvent) -> bool:
    """True for the panic that we bring about."""
    return event.kind is EventKind.PANIC and event.line == PANIC


def _crash(flight: Flight, machine: Machine, subject: Subject, target: Path) -> bool:
    """Crash the guest and bring its memory to the host; says whether it came."""
    evidence, start_s = Evidence(), time.monotonic()
    flight.records[1].started_s = start_s
    refused = load_next(subject, flight.stages[1], 1, flight.bench, evidence, panic=True)
    if refused is not None:
        flight.records[1].end(refused.verdict, refused.reason)
        flight.add(power_off(machine, Deadline.after(flight.patience.command_s)))
        return False
    words = last_words(subject)
    flight.leave(machine, subject, "echo c > /proc/sysrq-trigger", 1, panic=True)
    flight.bring_up(machine)
    panics = [event.line for event in machine.console.events_by_kernel[0] if event.kind is EventKind.PANIC]
    evidence.equal("panics of the kernel that was to crash", [PANIC], panics)
    flight.add(evidence.result("crash", time.monotonic() - start_s), 0)
    captor = flight.ask(machine)
    evidence, start_s = Evidence(), time.monotonic()
    came = fetch(captor, target, evidence, Deadline.after(flight.patience.cell_s))
    if came:
        hold(target, flight.stages[0], words, evidence)
    flight.add(evidence.result("vmcore", time.monotonic() - start_s), 0)
    flight.add(power_off(machine, Deadline.after(flight.patience.command_s)))
    return came
