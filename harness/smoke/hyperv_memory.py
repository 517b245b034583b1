"""Dynamic memory: the guest's reports, and at 4K pages that go to the host and come back."""

from __future__ import annotations

from typing import Final

from harness.hyperv.devices.balloon import Balloon
from harness.smoke.evidence import Evidence
from harness.smoke.hyperv import host_of, soon
from harness.smoke.subject import Subject
from harness.spec import PageSize

__all__ = ["balloon"]

ASKED_PAGES: Final = 2048
"""Of 4 KiB: 8 MiB, in blocks of 2 MiB as far as the guest has them."""
_KIB_PER_PAGE: Final = 4
# The driver keeps silent for the first 45 seconds otherwise (hv_balloon.c, pressure_report_delay).
_REPORT_NOW: Final = "echo 0 >/sys/module/hv_balloon/parameters/pressure_report_delay"
_TOTAL: Final = "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"


def balloon(subject: Subject, evidence: Evidence) -> None:
    """hv_balloon reports in pages of 4 KiB; at 4K it gives pages up and has them back, else refuses to."""
    device = host_of(subject).peripherals.balloon
    if device is None or not subject.has_driver(evidence, "HYPERV_BALLOON", "hv_balloon"):
        return
    subject.sh(_REPORT_NOW)
    came = soon(subject, lambda: device.is_ready and device.reports > 0, "a report of memory")
    if not evidence.holds("a report of memory", came, wanted="one", seen="none"):
        return
    assert device.capabilities is not None  # noqa: S101 - it is ready
    small = subject.page_size is PageSize.K4
    evidence.equal("ballooning is offered", small, device.capabilities.balloon)
    if small:
        _there_and_back(subject, evidence, device)


def _there_and_back(subject: Subject, evidence: Evidence, device: Balloon) -> None:
    before = _total_kib(subject)
    host = host_of(subject)
    with host.locked():
        asked = device.inflate(ASKED_PAGES)
    done = asked and soon(subject, lambda: not device.is_busy, "pages given up")
    evidence.equal("pages given up", ASKED_PAGES, device.held_pages if done else -1)
    evidence.equal(
        "and missing from MemTotal, KiB", ASKED_PAGES * _KIB_PER_PAGE, before - _total_kib(subject)
    )
    with host.locked():
        asked = device.deflate()
    done = asked and soon(subject, lambda: not device.is_busy, "pages taken back")
    evidence.equal("pages still held", 0, device.held_pages if done else -1)
    evidence.equal("MemTotal afterwards, KiB", before, _total_kib(subject))


def _total_kib(subject: Subject) -> int:
    said = subject.sh(_TOTAL).text.strip()
    return int(said) if said.isdecimal() else 0
