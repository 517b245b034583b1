"""What a kernel calls by HVC and SMC: hypercalls, PSCI, and the questions that come before them.

Source: SMC Calling Convention (Arm DEN 0028), Power State Coordination Interface (DEN 0022); Linux
include/linux/arm-smccc.h, include/uapi/linux/psci.h. QEMU carries PSCI out (target/arm/psci.c); the monitor
passes it on.
"""

from __future__ import annotations

import struct
from typing import Final

from harness.hyperv.hypercall import FUNCTION_ID, Hypercalls
from harness.hyperv.layout import Action, Layout
from harness.hyperv.memory import GuestMemory

__all__ = ["NOT_SUPPORTED", "Calls", "ExceptionClass"]

NOT_SUPPORTED: Final = (1 << 64) - 1
_VERSION: Final = 0x8000_0000
_VERSION_1_2: Final = 0x1_0002
"""From 1.2 on calls take and return x4 to x17, which hypercalls of Linux's need."""
_VENDOR_UID: Final = 0x8600_FF01
_HYPERV_UID: Final = (0x4D32_BA58, 0xCD24_4764, 0x8EEF_6C75, 0x1659_7024)
"""Linux commit 36ebd328a57a, HYPERV_UID: how kernels from 6.16 on recognise Hyper-V without ACPI."""

_PSCI_FEATURES: Final = 0x8400_000A
_CPU_ON: Final = (0x8400_0003, 0xC400_0003)
_PSCI: Final = frozenset(
    {
        *(0x8400_0000, 0x8400_0001, 0xC400_0001, 0x8400_0002, *_CPU_ON, 0x8400_0004, 0xC400_0004),
        *(0x8400_0006, 0x8400_0008, 0x8400_0009, _PSCI_FEATURES),
    }
)
"""Version, CPU suspend, off, on, affinity info, migrate info, system off and reset, features."""
_INVALID_PARAMETERS: Final = (1 << 64) - 2
_AFFINITY: Final = 0xFF_00FF_FFFF


class ExceptionClass:
    """ESR_EL2.EC of what the monitor takes (Arm ARM D24.2, "ESR_EL2")."""

    HVC64: Final = 0x16
    SMC64: Final = 0x17


class Calls:
    """Answers the calls of all vCPUs."""

    def __init__(self, memory: GuestMemory, layout: Layout, vcpus: int, hypercalls: Hypercalls) -> None:
        self._memory = memory
        self._layout = layout
        self._vcpus = vcpus
        self._hypercalls = hypercalls

    def handle(self, vcpu: int, exception_class: int, x: list[int]) -> Action:
        """Put the answer to a call into registers x0 to x17, or change them for QEMU to answer."""
        function = x[0] & 0xFFFF_FFFF
        if function == FUNCTION_ID and exception_class == ExceptionClass.HVC64:
            self._hypercalls.handle(vcpu, x)
        elif function == _PSCI_FEATURES and x[1] & 0xFFFF_FFFF == _VERSION:
            x[0] = 0  # QEMU's PSCI has no SMCCC_VERSION; ours has
        elif function in _CPU_ON:
            return self._cpu_on(x)
        elif function in _PSCI:
            return Action.REISSUE
        elif function == _VERSION:
            x[0] = _VERSION_1_2
        elif function == _VENDOR_UID:
            x[0:4] = _HYPERV_UID
        else:
            x[0] = NOT_SUPPORTED
        return Action.RESUME

    def _cpu_on(self, x: list[int]) -> Action:
        """Have the vCPU start in the monitor, with the kernel's entry and context id left for it there."""
        target = x[1] & _AFFINITY
        if target >= self._vcpus:
            x[0] = _INVALID_PARAMETERS
            return Action.RESUME
        record_pa = self._layout.record_pa(target)
        self._memory.write(record_pa, struct.pack("<QQ", x[2], x[3]))
        x[2], x[3] = self._layout.secondary_pa, record_pa
        return Action.REISSUE
