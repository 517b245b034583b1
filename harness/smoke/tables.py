"""The kernel's page tables, read from outside while the vCPUs are stopped."""

from __future__ import annotations

from harness.check.kernel_tables import KernelTables, check_kernel_tables
from harness.deadline import Deadline
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.frozen import Frozen
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.vmsa import Regime, Registers, VaRange, derive
from harness.vmsa.registers import REGISTER_NAMES

__all__ = ["kernel_tables"]

MONITOR_S = 20.0
TRIES = 50
NAMES = tuple(sorted(name.upper() for name in REGISTER_NAMES))


def kernel_tables(subject: Subject, evidence: Evidence) -> None:
    """Every leaf of the kernel half is sound, and QEMU's walk agrees with the model's on a sample."""
    for _ in range(TRIES):
        with subject.machine.frozen() as frozen:
            deadline = Deadline.after(MONITOR_S)
            vcpu = frozen.vcpus[0]
            registers = frozen.gdb.registers(vcpu, (*NAMES, "cpsr"), deadline)
            # QEMU walks as the stopped vCPU would: stopped in EL0 it sees no kernel, and TTBR1 may be the
            # trampoline's (KPTI). An idle guest is in EL1 nearly always.
            if registers.get("cpsr", 0) >> 2 & 0b11 == 0:
                continue
            if "TCR_EL1" not in registers:
                evidence.not_here("KVM does not show this vCPU's system registers")
                return
            _check(subject, evidence, frozen, registers)
            return
    evidence.holds("vCPU 0", False, wanted="stopped outside of EL0 once", seen=f"in EL0 {TRIES} times")


def _check(subject: Subject, evidence: Evidence, frozen: Frozen, registers: dict[str, int]) -> None:
    regime = derive(Registers.from_names(registers), VaRange.UPPER)
    if not isinstance(regime, Regime):
        evidence.holds("translation regime of the kernel", False, wanted="stage 1 on", seen=str(regime))
        return
    evidence.equal("granule of the kernel half", subject.page_size.value, regime.geometry.granule_log2)
    ram = range(RAM_BASE_PA, RAM_BASE_PA + (subject.machine.spec.memory_mib << 20))
    # Under KVM QEMU has no walker of its own: the rules and the model remain.
    walker = frozen.debug_walk if subject.machine.accelerator == "tcg" else None
    found = check_kernel_tables(regime, frozen.memory.read, walker, ram)
    _weigh(found, evidence)


def _weigh(found: KernelTables, evidence: Evidence) -> None:
    """A leaf that keeps the rules and an address on which both walkers agree are an expectation each."""
    evidence.checked(found.leaves + found.compared)
    for finding in found.findings:
        evidence.found(finding)
