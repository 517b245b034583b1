"""Where everything of the host's lies in a guest's memory: the uppermost 2 MiB of RAM.

The monitor (guests/monitor/monitor.S) is assembled with these numbers. Each part begins at a multiple of
64 KiB, as the memory map of an arm64 guest must (UEFI 2.10, 2.3.6 "AArch64 Platforms").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harness.memory.ram import RAM_BASE_PA

__all__ = ["DEFINES", "MAX_VCPUS", "Action", "Layout", "Mailbox", "VcpuState"]

MAX_VCPUS: Final = 8
HOST_BYTES: Final = 2 << 20

_MAILBOXES: Final = 0x1_0000
_RECORDS: Final = 0x1_4000
_BOOT_BLOCK: Final = 0x1_8000
_SECONDARY: Final = 0x40
_ACPI: Final = 0x4_0000
_EFI: Final = 0x8_0000
_DTB: Final = 0x9_0000
_FREE: Final = 0x10_0000


class VcpuState(IntEnum):
    """Whose turn it is at a vCPU's mailbox."""

    IDLE = 0
    """The vCPU runs the guest."""
    ASKED = 1
    ANSWERED = 2
    DEAD = 3
    """The monitor met an exception of its own."""


class Action(IntEnum):
    """What the vCPU does with an answer."""

    RESUME = 0
    REISSUE = 1
    """Make the call again as an SMC, which QEMU answers, and give the guest the result."""


class Mailbox:
    """Offsets in a vCPU's mailbox, in bytes."""

    BYTES: Final = 0x400
    REGISTERS: Final = 0
    """x0 to x17."""
    REGISTER_COUNT: Final = 18
    SYNDROME: Final = 144
    """ESR_EL2, then ELR_EL2."""
    FAULT_ADDRESS: Final = 160
    STATE: Final = 168
    ACTION: Final = 172


class BootBlock:
    """Offsets in what the monitor reads when it starts, in bytes."""

    ENTRY: Final = 0
    DTB: Final = 8
    DOORBELL: Final = 16


DEFINES: Final = {
    "MAILBOXES": _MAILBOXES,
    "BOOT_BLOCK": _BOOT_BLOCK,
    "SECONDARY": _SECONDARY,
    "MAILBOX_BYTES": Mailbox.BYTES,
    "REGISTERS": Mailbox.REGISTERS,
    "SYNDROME": Mailbox.SYNDROME,
    "FAULT_ADDRESS": Mailbox.FAULT_ADDRESS,
    "STATE": Mailbox.STATE,
    "ACTION": Mailbox.ACTION,
    "ENTRY": BootBlock.ENTRY,
    "DTB": BootBlock.DTB,
    "DOORBELL": BootBlock.DOORBELL,
    "IDLE": VcpuState.IDLE,
    "ASKED": VcpuState.ASKED,
    "ANSWERED": VcpuState.ANSWERED,
    "DEAD": VcpuState.DEAD,
    "REISSUE": Action.REISSUE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Addresses for a guest with that much RAM."""

    ram_bytes: int

    @property
    def ram_end_pa(self) -> int:
        """The first address after RAM."""
        return RAM_BASE_PA + self.ram_bytes

    @property
    def monitor_pa(self) -> int:
        """The monitor, where vCPU 0 starts; all before is the guest's."""
        return self.ram_end_pa - HOST_BYTES

    @property
    def monitor_end_pa(self) -> int:
        """What lies between is the monitor's and the host's alone."""
        return self.acpi_pa

    @property
    def secondary_pa(self) -> int:
        """Where other vCPUs start."""
        return self.monitor_pa + _SECONDARY

    def mailbox_pa(self, vcpu: int) -> int:
        """A vCPU's mailbox."""
        return self.monitor_pa + _MAILBOXES + vcpu * Mailbox.BYTES

    def record_pa(self, vcpu: int) -> int:
        """Where a secondary vCPU finds its kernel's entry and x0."""
        return self.monitor_pa + _RECORDS + vcpu * 16

    @property
    def boot_block_pa(self) -> int:
        """See BootBlock."""
        return self.monitor_pa + _BOOT_BLOCK

    @property
    def acpi_pa(self) -> int:
        """ACPI tables, RSDP first."""
        return self.monitor_pa + _ACPI

    @property
    def efi_pa(self) -> int:
        """EFI's system table and what it points to."""
        return self.monitor_pa + _EFI

    @property
    def dtb_pa(self) -> int:
        """The device tree that the kernel is given."""
        return self.monitor_pa + _DTB

    @property
    def free_pa(self) -> int:
        """From here to the end of RAM the guest may use everything."""
        return self.monitor_pa + _FREE
