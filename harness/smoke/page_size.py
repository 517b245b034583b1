"""The page size has one value, whoever is asked."""

from __future__ import annotations

from harness.deadline import Deadline
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import PageSize

__all__ = ["page_size", "size_from_tcr"]

MONITOR_S = 10.0

# TG1 of TCR_EL1 (Arm ARM D24.2, "TCR_EL1"), bits 31:30; 0 is reserved.
TG1_SIZE = {1: PageSize.K16, 2: PageSize.K4, 3: PageSize.K64}


def size_from_tcr(tcr: int) -> PageSize | None:
    """The granule of the kernel half that a value of TCR_EL1 selects; None for the reserved encoding."""
    return TG1_SIZE.get(tcr >> 30 & 0b11)


def page_size(subject: Subject, evidence: Evidence) -> None:
    """Image header, .config, every vCPU's TCR_EL1, AT_PAGESZ, getconf, smaps and hugepages agree."""
    asked = subject.page_size
    if subject.kernel.page_size is not None and not subject.boot_time:
        evidence.equal("page size in the Image header", asked.label, subject.kernel.page_size.label)
        if subject.config is not None:
            evidence.equal(
                f"CONFIG_ARM64_{asked.label}_PAGES", "y", subject.option(f"ARM64_{asked.label}_PAGES")
            )
    with subject.machine.frozen() as frozen:
        deadline = Deadline.after(MONITOR_S)
        for number, vcpu in enumerate(frozen.vcpus):
            registers = frozen.gdb.registers(vcpu, ("TCR_EL1",), deadline)
            # KVM's stub may leave system registers out; the guest's own witnesses below remain.
            if "TCR_EL1" in registers or subject.machine.accelerator == "tcg":
                seen = size_from_tcr(registers.get("TCR_EL1", 0))
                label = seen.label if seen else "none"
                evidence.equal(f"granule in TCR_EL1.TG1 of vCPU {number}", asked.label, label)
    evidence.equal("getconf PAGE_SIZE", str(asked.bytes), subject.sh("getconf PAGE_SIZE").text.strip())
    evidence.tap("probe pagesize", *subject.probe("pagesize", str(asked.bytes)))
