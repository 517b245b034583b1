"""What a kernel's own words say of it: how a guest that ended is judged, and the kernel-log check."""

from __future__ import annotations

import re
from pathlib import Path

from harness.linux.klog import EventKind, LogEvent, harmless
from harness.linux.source_lines import SourceLines
from harness.matrix.record import Record
from harness.smoke.evidence import Evidence
from harness.verdict import CheckResult, Verdict

__all__ = ["TAINT_OF_MODULES", "judge_gone", "kernel_log", "places_of", "with_last_words"]

# Linux Documentation/admin-guide/tainted-kernels.rst: bits 0 (P, proprietary), 12 (O, out of tree) and
# 13 (E, unsigned).
TAINT_OF_MODULES = 1 << 0 | 1 << 12 | 1 << 13
"""What a module of the user's does to a kernel by being one."""

_MAX_PLACES = 4
BANNER = b"Linux version "
# What our init says before it powers off (guests/micro/init, guests/disk/root.sh).
GAVE_UP = re.compile(rb"^granule: (no (?:root|virtio port)\b[^\r\n]{0,300})", re.MULTILINE)


def with_last_words(reason: str, log: bytes) -> str:
    """A reason for which a guest ended, with why its init gave up, where it said so on the console."""
    said = GAVE_UP.findall(log)
    return f"{reason}; its init said: {harmless(said[-1])}" if said else reason


def judge_gone(events: tuple[LogEvent, ...], reason: str, record: Record) -> None:
    """Settle the verdict on a guest that ended by itself, from what its kernel said first."""
    fatal = [event for event in events if event.is_fatal]
    kinds = [event.kind for event in fatal]
    verdict = Verdict.FAIL
    if EventKind.OOPS in kinds or (kinds and kinds[0] is EventKind.BUG):
        verdict = Verdict.OOPS
    elif EventKind.PANIC in kinds:
        verdict = Verdict.PANIC
    elif record.boot_s is None:
        verdict = Verdict.BOOT_FAILED
    if fatal:
        reason = f"the kernel said: {fatal[0].line.strip()}"
    record.end(verdict, reason, fatal[0].context if fatal else ())


def places_of(events: tuple[LogEvent, ...], vmlinux: str) -> tuple[str, ...]:
    """Where in the source the first oopses were, by the kernel's vmlinux: `f+0x1c/0x90 is at mm/msync.c:61`.

    Empty where there is no vmlinux (an empty path), or it does not tell.
    """
    if not vmlinux:
        return ()
    lines = SourceLines(Path(vmlinux))
    places = dict.fromkeys(event.oops.pc for event in events if event.oops is not None and event.oops.pc)
    found = ((place, lines.find(place)) for place in list(places)[:_MAX_PLACES])
    return tuple(f"{harmless(place.encode())} is at {at}" for place, at in found if at)


def kernel_log(
    events: tuple[LogEvent, ...], log: bytes, tainted: int | None, allowed_taint: int = 0
) -> CheckResult:
    """The check that the kernel had nothing to complain of: no oops, warning, lockup or taint.

    Arguments: `log`, the console from its first byte, in which a kernel's banner has to be: a log that
    never came would be a clean one; `tainted`, /proc/sys/kernel/tainted at the end, or None if the guest did
    not get so far; `allowed_taint`, bits of it that the user brought about.
    """
    evidence = Evidence()
    evidence.holds("kernel log", BANNER in log, wanted="a kernel's banner on the console", seen="none")
    for event in events:
        by_modules = event.kind is EventKind.TAINT and allowed_taint
        if event.kind.is_finding and not by_modules:
            evidence.holds(f"kernel log: {event.kind.value}", False, wanted="none", seen=event.line)
    if tainted is not None:
        evidence.equal("/proc/sys/kernel/tainted", 0, tainted & ~allowed_taint)
    return evidence.result("kernel-log", 0.0)
