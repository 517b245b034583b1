"""What can be had of a machine while its vCPUs are stopped."""

from __future__ import annotations

from dataclasses import dataclass

from harness.channel.gdbstub import Gdbstub
from harness.channel.qmp import Qmp
from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.memory.ram import WritableMemory
from harness.snapshot import REGISTERS, Snapshot, Vcpu

__all__ = ["Frozen"]

MONITOR_S = 10.0


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

    def debug_walk(self, va: int) -> int | None:
        """QEMU's own walk of vCPU 0's tables, as that vCPU would at its exception level: an address, or None.

        HMP `gva2gpa` answers `gpa: 0x…` or `Unmapped` (QEMU monitor/hmp-cmds-target.c).
        """
        answer = self.qmp.execute(
            "human-monitor-command", Deadline.after(MONITOR_S), command_line=f"gva2gpa {va:#x}"
        ).strip()
        if answer == "Unmapped":
            return None
        try:
            return int(answer.removeprefix("gpa: "), 16)
        except ValueError:
            raise ChannelError(f"QEMU answered gva2gpa {va:#x} with {answer[:80]!r}") from None
