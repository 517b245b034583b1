"""What can be had of a machine while its vCPUs are stopped."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.channel.gdbstub import Gdbstub
from harness.channel.qmp import Qmp
from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.memory.ram import WritableMemory
from harness.snapshot import REGISTERS, Snapshot, Vcpu

__all__ = ["Frozen"]

MONITOR_S = 10.0
# Hundreds of addresses, on a busy host.
WALKS_S = 60.0

# PSTATE as the gdbstub has it (Arm ARM C5.2, "SPSR_EL1"); 4 bytes there.
PSTATE_BYTES = 4
PSTATE_PAN = 1 << 22
PSTATE_MODE = 0x1F
EL_MASK, EL1, EL2 = 0b11 << 2, 1 << 2, 2 << 2
SP_OF_EL = 1
HCR_HOST = 1 << 34 | 1 << 27  # E2H, TGE

_FLAT = re.compile(r"^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ([a-z/]+)\)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What can be read of a machine while, and only while, its vCPUs are stopped."""

    gdb: Gdbstub
    qmp: Qmp
    memory: WritableMemory
    vcpus: tuple[str, ...]
    """The gdbstub's ids, in order of vCPU number."""

    def snapshot(self, origin: str = "a running guest") -> Snapshot:
        """The guest at this moment; to be used before the vCPUs go on."""
        deadline = Deadline.after(MONITOR_S)
        vcpus = tuple(Vcpu(registers=self.gdb.registers(one, REGISTERS, deadline)) for one in self.vcpus)
        return Snapshot(vcpus=vcpus, memory=self.memory, origin=origin)

    def debug_walk(self, vas: Sequence[int], vcpu: int = 0) -> tuple[int | None, ...]:
        """QEMU's own walks of a vCPU's tables, as that vCPU would at its exception level: addresses, or None.

        QEMU 7.2 and 10.0 refuse what a load by the vCPU would be refused: see `privileged`. HMP `gva2gpa`
        answers `gpa: 0x…` or `Unmapped` (QEMU monitor/hmp-cmds-target.c).
        """
        asked = [{"command-line": f"gva2gpa {va:#x}", "cpu-index": vcpu} for va in vas]
        answers = self.qmp.execute_all("human-monitor-command", asked, Deadline.after(WALKS_S))
        return tuple(_address(va, answer.strip()) for va, answer in zip(vas, answers, strict=True))

    @contextlib.contextmanager
    def privileged(self, vcpu: int = 0) -> Iterator[None]:
        """Have a vCPU be at EL1 with PSTATE.PAN clear, so that its walk reaches both halves; then restore it.

        At EL2 where its kernel is a host's (VHE). A vCPU stopped in EL0 of a kernel with KPTI keeps its
        trampoline tables in TTBR1: another has to be asked for kernel addresses. Raises ChannelError when
        PSTATE cannot be set or restored.
        """
        deadline = Deadline.after(MONITOR_S)
        thread = self.vcpus[vcpu]
        seen = self.gdb.registers(thread, ("cpsr", "HCR_EL2"), deadline)
        if "cpsr" not in seen:
            raise ChannelError(f"QEMU's gdbstub does not tell PSTATE of vCPU {vcpu}")
        before = seen["cpsr"]
        hcr = seen.get("HCR_EL2", 0)
        is_host = before & EL_MASK == EL2 or (before & EL_MASK == 0 and hcr & HCR_HOST == HCR_HOST)
        mode = (EL2 if is_host else EL1) | SP_OF_EL
        wanted = before & ~(PSTATE_PAN | PSTATE_MODE) | mode
        try:
            self.gdb.set_register(thread, "cpsr", wanted, PSTATE_BYTES, deadline)
            yield
        finally:
            self.gdb.set_register(thread, "cpsr", before, PSTATE_BYTES, Deadline.after(MONITOR_S))

    def device_ranges(self) -> tuple[range, ...]:
        """Physical addresses that are something other than RAM to this machine: HMP `info mtree -f`.

        Empty where QEMU's answer has no flat view of the memory (QEMU softmmu/memory.c,
        mtree_print_flatview).
        """
        text = self.qmp.execute(
            "human-monitor-command", Deadline.after(MONITOR_S), command_line="info mtree -f"
        )
        _, _, view = text.partition('AS "memory"')
        found = _FLAT.findall(view.partition("FlatView #")[0])
        return tuple(range(int(first, 16), int(last, 16) + 1) for first, last, kind in found if kind != "ram")


def _address(va: int, answer: str) -> int | None:
    if answer == "Unmapped":
        return None
    try:
        return int(answer.removeprefix("gpa: "), 16)
    except ValueError:
        raise ChannelError(f"QEMU answered gva2gpa {va:#x} with {answer[:80]!r}") from None
