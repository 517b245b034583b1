"""Hyper-V's bus and its services, and what crossed the wire, judged when the guest has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from harness.errors import DeadlineExceeded
from harness.hyperv.checker import RuleResult
from harness.hyperv.wire.numbers import GuidOf, VmbusVersion
from harness.qemu.hyperv_part import GuestHost
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.verdict import CheckResult

__all__ = ["host_of", "soon", "utils", "vmbus", "wire"]

BOUND_S: Final = 60.0
"""Drivers are bound, and services answer, some time after the shell does."""
BEATS: Final = 2
_DRIVERS: Final = {
    GuidOf.HEARTBEAT: ("HYPERV_UTILS", "hv_utils"),
    GuidOf.TIME_SYNC: ("HYPERV_UTILS", "hv_utils"),
    GuidOf.SHUTDOWN: ("HYPERV_UTILS", "hv_utils"),
    GuidOf.KVP: ("HYPERV_UTILS", "hv_utils"),
    GuidOf.VSS: ("HYPERV_UTILS", "hv_utils"),
    GuidOf.BALLOON: ("HYPERV_BALLOON", "hv_balloon"),
    GuidOf.SCSI: ("HYPERV_STORAGE", "hv_storvsc"),
    GuidOf.NETWORK: ("HYPERV_NET", "hv_netvsc"),
}
"""Kconfig's option and the driver's name, in /sys/bus/vmbus/drivers too."""
_EXERCISED_BY: Final = {
    "hv_utils": "hv-utils",
    "storvsc": "storvsc",
    "netvsc": "netvsc",
    "hv_sock": "hv-sock",
    "hv_balloon": "balloon",
}
"""The check that has a driver cross the wire in every way; hv_vmbus's rules are due in every guest."""
_BINDINGS: Final = (
    "for d in /sys/bus/vmbus/devices/*; do "
    '[ -e "$d/driver" ] && read -r t <"$d/class_id" && echo "$t $(readlink -f "$d/driver")"; done'
)


def host_of(subject: Subject) -> GuestHost:
    """The host's side of a guest's bus; raises ValueError for a guest that is not on Hyper-V."""
    host = subject.machine.hyperv
    if host is None:
        raise ValueError("this guest's machine is not Hyper-V")
    return host


def soon(subject: Subject, condition: Callable[[], bool], what: str) -> bool:
    """Whether something comes true in good time; raises when the guest is gone meanwhile."""
    try:
        subject.deadline.sooner(BOUND_S).wait_until(condition, what)
    except DeadlineExceeded:
        subject.machine.raise_if_gone()
        return False
    return True


def vmbus(subject: Subject, evidence: Evidence) -> None:
    """VMBus agrees on the newest version that the host has, and every device is bound to its driver."""
    host = host_of(subject)
    wanted = VmbusVersion(host.bus.maximum)
    if not evidence.holds(
        "VMBus", soon(subject, lambda: host.bus.version is not None, "VMBus"),
        wanted="a version agreed on", seen="no message of the guest's that asked for one",
    ):  # fmt: skip
        return
    evidence.equal("VMBus's version", wanted.label, host.bus.version.label if host.bus.version else "none")
    with host.locked() as bus:
        types = sorted({channel.offer.interface_type for channel in bus.channels}, key=str)
    for option, driver in dict.fromkeys(_DRIVERS[each] for each in types if each in _DRIVERS):
        if not subject.presence(option, driver).may_be_used:
            evidence.note(f"the kernel has no {driver} (CONFIG_{option})")
            continue
        due = {f"{{{each}}} /sys/bus/vmbus/drivers/{driver}" for each in types
               if _DRIVERS.get(each) == (option, driver)}  # fmt: skip
        bound = soon(subject, lambda due=due: due <= _bindings(subject), driver)  # type: ignore[misc]
        evidence.holds(f"{driver}'s {len(due)} kinds of device", bound, wanted="bound to it",
                       seen=", ".join(sorted(_bindings(subject))) or "no device is bound")  # fmt: skip
    lines = [line for line in subject.sh("cat /proc/interrupts").text.splitlines() if "VMbus" in line]
    evidence.holds("an interrupt of VMbus", len(lines) == 1, wanted="one line of /proc/interrupts",
                   seen="; ".join(lines) or "none")  # fmt: skip


def _bindings(subject: Subject) -> set[str]:
    """Lines of class id and driver, as sysfs has them."""
    return set(subject.sh(_BINDINGS).text.splitlines())


def utils(subject: Subject, evidence: Evidence) -> None:
    """The services agree on versions: the heart beats, the host's time is taken, shutdown is ready."""
    if not subject.has_driver(evidence, "HYPERV_UTILS", "hv_utils"):
        return
    services = host_of(subject).standard
    first = services.heartbeat.beats
    for what, condition in (
        (f"{BEATS} heartbeats", lambda: services.heartbeat.beats >= first + BEATS),
        ("an answer to the host's time", lambda: services.timesync.answers >= 1),
        ("the shutdown service", lambda: services.shutdown.is_ready),
    ):
        evidence.holds(what, soon(subject, condition, what), wanted="seen by the host", seen="nothing of it")
    evidence.equal(
        "versions of heartbeat, time, shutdown", ((3, 0), (4, 0), (3, 2)),
        (services.heartbeat.version, services.timesync.version, services.shutdown.version),
    )  # fmt: skip


def wire(host: GuestHost, passed: Collection[str] | None) -> CheckResult:
    """What crossed the wire kept to every rule: each violation names the driver, the rule and its source.

    `passed`: names of the checks that did, whose drivers' rules must therefore have compared something; None
    for a guest that did not come up.
    """
    start_s = time.monotonic()
    evidence = Evidence()
    if host.checker is not None:
        for result in host.checker.report().results:
            _rule(result, evidence, passed)
        for finding in host.checker.report().findings:
            rule = finding.rule
            what = f"{rule.driver}, {rule.name} ({rule.source}: {rule.claim}), at {finding.where}"
            evidence.holds(what, False, wanted=finding.wanted, seen=finding.seen)
    broken = {str(finding) for finding in host.checker.report().findings} if host.checker else set()
    for violation in host.log.violations:
        if violation.what not in broken:
            evidence.holds(f"{violation.where} ({violation.rule.value})", False, wanted="the protocol kept",
                           seen=violation.what)  # fmt: skip
    evidence.equal("the host's thread", "", host.failure)
    return evidence.result("wire", time.monotonic() - start_s)


def _rule(result: RuleResult, evidence: Evidence, passed: Collection[str] | None) -> None:
    """One expectation for each rule that compared something, or was to."""
    if result.broken:
        return  # its findings follow
    if result.comparisons:
        evidence.checked(1)
        evidence.note(f"{result.rule.name}: {result.comparisons} comparisons")
    elif (
        passed is not None
        and not result.rule.when
        and _EXERCISED_BY.get(result.rule.driver, "") in {"", *passed}
    ):
        evidence.holds(f"{result.rule.driver}, {result.rule.name}", False, wanted="something to compare",
                       seen="nothing crossed the wire that it judges")  # fmt: skip
