"""The machine as a device tree: for kernels that know Hyper-V without ACPI, from Linux 6.16 on.

They ask the hypervisor itself (SMCCC's vendor UID over HVC: Linux commit 36ebd328a57a, "arm64: hyperv: Use
SMCCC to detect hypervisor presence") and take the bus's interrupt from its node (commit 1dc5df133b98).
"""

from __future__ import annotations

from harness.hyperv.firmware import virt
from harness.hyperv.firmware.fdt import Node, cells, flatten, strings, text

__all__ = ["chosen_only", "machine_tree"]

_GIC, _CLOCK = 1, 2
"""Phandles."""
_SPI, _PPI = 0, 1
_EDGE, _LEVEL = 1, 4


def chosen_only(chosen: dict[str, bytes]) -> bytes:
    """A tree with nothing but /chosen, at which Linux looks for ACPI tables."""
    root = {"#address-cells": cells(2), "#size-cells": cells(2)}
    return flatten(Node(name="", properties=root, children=(Node(name="chosen", properties=chosen),)))


def machine_tree(chosen: dict[str, bytes], *, vcpus: int, memory: tuple[tuple[int, int], ...]) -> bytes:
    """All of the machine; `memory`, first address and size of each piece of RAM that is the guest's."""
    root = {
        "compatible": text("linux,dummy-virt"),
        "#address-cells": cells(2),
        "#size-cells": cells(2),
        "interrupt-parent": cells(_GIC),
        "dma-coherent": b"",
    }
    nodes = (
        Node(name="chosen", properties=chosen | {"stdout-path": text(f"/pl011@{virt.PL011_PA:x}")}),
        _cpus(vcpus),
        *(_memory(base, size) for base, size in memory),
        Node(
            name="psci",
            properties={"compatible": strings("arm,psci-1.0", "arm,psci-0.2"), "method": text("hvc")},
        ),
        _gic(),
        _timer(),
        *_pl011(),
        *(_virtio(pa, intid) for pa, intid in virt.virtio_slots()),
        _vmbus(),
    )  # fmt: skip
    return flatten(Node(name="", properties=root, children=nodes))


def _wide(*values: int) -> bytes:
    """Values of two cells each."""
    return cells(*(half for value in values for half in (value >> 32, value & 0xFFFF_FFFF)))


def _irq(intid: int, trigger: int) -> bytes:
    """An interrupt as the GICv3 binding has it: PPIs count from 16, SPIs from 32."""
    return cells(_PPI, intid - 16, trigger) if intid < 32 else cells(_SPI, intid - 32, trigger)


def _cpus(vcpus: int) -> Node:
    each = {"device_type": text("cpu"), "compatible": text("arm,armv8"), "enable-method": text("psci")}
    return Node(
        name="cpus",
        properties={"#address-cells": cells(1), "#size-cells": cells(0)},
        children=tuple(
            Node(name=f"cpu@{number}", properties=each | {"reg": cells(number)}) for number in range(vcpus)
        ),
    )


def _memory(base: int, size: int) -> Node:
    return Node(name=f"memory@{base:x}", properties={"device_type": text("memory"), "reg": _wide(base, size)})


def _gic() -> Node:
    return Node(
        name=f"intc@{virt.GICD_PA:x}",
        properties={
            "compatible": text("arm,gic-v3"),
            "interrupt-controller": b"",
            "#interrupt-cells": cells(3),
            "reg": _wide(virt.GICD_PA, 0x1_0000, virt.GICR_PA, virt.GICR_BYTES),
            "phandle": cells(_GIC),
        },
    )


def _timer() -> Node:
    return Node(
        name="timer",
        properties={
            "compatible": strings("arm,armv8-timer", "arm,armv7-timer"),
            "always-on": b"",
            "interrupts": b"".join(_irq(intid, _LEVEL) for intid in virt.TIMER_INTIDS),
        },
    )


def _pl011() -> tuple[Node, Node]:
    clock = Node(
        name="apb-pclk",
        properties={
            "compatible": text("fixed-clock"),
            "#clock-cells": cells(0),
            "clock-frequency": cells(24_000_000),
            "phandle": cells(_CLOCK),
        },
    )
    uart = Node(
        name=f"pl011@{virt.PL011_PA:x}",
        properties={
            "compatible": strings("arm,pl011", "arm,primecell"),
            "reg": _wide(virt.PL011_PA, 0x1000),
            "interrupts": _irq(virt.PL011_INTID, _LEVEL),
            "clocks": cells(_CLOCK, _CLOCK),
            "clock-names": strings("uartclk", "apb_pclk"),
        },
    )
    return clock, uart


def _virtio(pa: int, intid: int) -> Node:
    return Node(
        name=f"virtio_mmio@{pa:x}",
        properties={
            "compatible": text("virtio,mmio"),
            "reg": _wide(pa, virt.VIRTIO_STRIDE),
            "interrupts": _irq(intid, _EDGE),
            "dma-coherent": b"",
        },
    )


def _vmbus() -> Node:
    """Linux Documentation/devicetree/bindings/bus/microsoft,vmbus.yaml."""
    base, size = virt.VMBUS_WINDOW
    bus = Node(
        name=f"vmbus@{base:x}",
        properties={
            "compatible": text("microsoft,vmbus"),
            "#address-cells": cells(2),
            "#size-cells": cells(1),
            "ranges": _wide(base) + _wide(base) + cells(size),
            "dma-coherent": b"",
            "interrupts": _irq(virt.VMBUS_INTID, _EDGE),
        },
    )
    # The bus's driver takes the first range of its grandparent as well, so it sits in a simple bus.
    return Node(
        name="bus",
        properties={
            "compatible": text("simple-bus"),
            "#address-cells": cells(2),
            "#size-cells": cells(1),
            "ranges": b"",
        },
        children=(bus,),
    )
