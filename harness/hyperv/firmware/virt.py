"""Addresses and interrupts of QEMU's `virt` machine that firmware tells a kernel of.

Source: QEMU hw/arm/virt.c, base_memmap and a15irqmap; include/hw/arm/virt.h for PPIs. INTIDs throughout:
PPIs from 16, SPIs from 32 on.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "GICD_PA",
    "GICR_BYTES",
    "GICR_PA",
    "GICR_STRIDE",
    "PL011_INTID",
    "PL011_PA",
    "PMU_INTID",
    "TIMER_INTIDS",
    "VIRTIO_COUNT",
    "VIRTIO_INTID",
    "VIRTIO_PA",
    "VIRTIO_STRIDE",
    "VMBUS_INTID",
    "VMBUS_WINDOW",
]

GICD_PA: Final = 0x0800_0000
GICR_PA: Final = 0x080A_0000
GICR_BYTES: Final = 0x00F6_0000
GICR_STRIDE: Final = 0x2_0000
"""Two 64 KiB frames for each vCPU."""

PL011_PA: Final = 0x0900_0000
PL011_INTID: Final = 33

VIRTIO_PA: Final = 0x0A00_0000
VIRTIO_STRIDE: Final = 0x200
VIRTIO_INTID: Final = 48
VIRTIO_SLOTS: Final = 32
VIRTIO_COUNT: Final = 8
"""Slots that are described, from the highest down: QEMU gives the first `-device` the highest slot."""

TIMER_INTIDS: Final = (29, 30, 27, 26)
"""Secure EL1, non-secure EL1, virtual, EL2."""
PMU_INTID: Final = 23

VMBUS_INTID: Final = 18
"""A PPI that is free on `virt`, edge-triggered; OpenVMM's choice as well."""
VMBUS_WINDOW: Final = (0x1000_0000, 0x1000_0000)
"""First address and size of what VMBus devices may map (vmbus_allocate_mmio()): of `virt`'s PCIe window."""


def virtio_slots() -> tuple[tuple[int, int], ...]:
    """Address and INTID of each virtio-mmio slot that is described, in the order QEMU fills them."""
    return tuple(
        (VIRTIO_PA + slot * VIRTIO_STRIDE, VIRTIO_INTID + slot)
        for slot in range(VIRTIO_SLOTS - 1, VIRTIO_SLOTS - 1 - VIRTIO_COUNT, -1)
    )
