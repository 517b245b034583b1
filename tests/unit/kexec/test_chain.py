"""Tests of harness.kexec.chain: how kernels that shared one console are judged, without a guest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.kexec.chain import Flight
from harness.kexec.crash import PANIC, is_asked_for
from harness.linux.klog import EventKind, LogEvent
from harness.matrix.record import Record
from harness.verdict import Verdict

BANNER = b"[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x414fd0c1]\nLinux version 6.12\n"
CRASH = LogEvent(kind=EventKind.PANIC, line=PANIC)
WARNING = LogEvent(kind=EventKind.WARNING, line="WARNING: CPU: 0 PID: 1 at f")


def _flight(at: int, kernels: list[int]) -> Flight:
    """Three stages; those of `kernels` were started, and `at` is the last that was tried."""
    stages: Any = [SimpleNamespace(cell=SimpleNamespace(id=f"cell{n}", allowed_taint=0)) for n in range(3)]
    flight = Flight(stages=stages, bench=SimpleNamespace(), at=at, kernels=kernels)  # type: ignore[arg-type]
    flight.records = [Record() for _ in range(3)]
    for number in kernels:
        flight.records[number].boot_s = 1.0
    return flight


def _machine(*events: tuple[LogEvent, ...]) -> Any:
    log = b"".join(BANNER + b"kernel %d\n" % number for number in range(len(events)))
    return SimpleNamespace(
        console=SimpleNamespace(events_by_kernel=events, drain=lambda _quiet, _limit: None),
        transcript=SimpleNamespace(content=lambda: log),
    )


def _verdicts(flight: Flight) -> list[list[Verdict]]:
    return [[check.verdict for check in record.checks] for record in flight.records]


def test_each_kernel_is_judged_by_its_own_log() -> None:
    """A complaint is that kernel's which made it, also where a stage between was refused and has no log."""
    flight = _flight(2, [0, 2])
    flight.end(_machine((), (WARNING,)))
    assert _verdicts(flight) == [[Verdict.PASS], [], [Verdict.FAIL]]
    assert "kernel 0" in flight.records[0].console
    assert flight.records[1].console == ""
    assert "kernel 1" in flight.records[2].console


def test_what_was_asked_for_is_no_complaint() -> None:
    """The panic that was asked for is taken out of a log, and nothing else is."""
    flight = _flight(1, [0, 1])
    flight.end(_machine((CRASH,), ()), is_asked_for)
    assert _verdicts(flight) == [[Verdict.PASS], [Verdict.PASS], []]
    flight = _flight(1, [0, 1])
    flight.end(_machine((CRASH, WARNING), (CRASH,)))
    assert _verdicts(flight) == [[Verdict.FAIL], [Verdict.FAIL], []]


@pytest.mark.parametrize(("at", "expected"), [(0, [1, 2]), (1, [2]), (2, [])])
def test_stages_that_were_never_come_to(at: int, expected: list[int]) -> None:
    """They are SKIPs that name the last one; what was settled before stays."""
    flight = _flight(at, [0])
    flight.records[at].end(Verdict.HANG, "as it was")
    flight.end(_machine(()))
    skipped = [number for number, record in enumerate(flight.records) if record.verdict is Verdict.SKIP]
    assert skipped == expected
    assert flight.records[at].verdict is Verdict.HANG
    assert all(f"cell{at} was its last" in flight.records[number].reason for number in skipped)
