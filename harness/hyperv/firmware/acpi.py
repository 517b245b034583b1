"""The ACPI tables of a Hyper-V guest on `virt`: FADT, MADT, GTDT, SPCR, DSDT, and what leads to them.

Source: ACPI 6.5, chapter 5. Linux up to 6.15 takes a machine for Hyper-V by FADT.HypervisorVendorIdentity
alone (arch/arm64/hyperv/mshyperv.c, hyperv_init()).
"""

from __future__ import annotations

import struct
from typing import Final

from harness.hyperv.firmware import aml, virt

__all__ = ["Tables", "acpi_tables", "dsdt"]

_OEM: Final = b"GRANUL"
_OEM_TABLE: Final = b"VIRTHYPV"
_HEADER_BYTES: Final = 36
_FADT_BYTES: Final = 276
_ALIGNMENT: Final = 64
HYPERVISOR_ID: Final = b"MsHyperV"

Tables = tuple[bytes, int]
"""All tables as they are to lie in memory, and the physical address of the RSDP among them."""


def _checksum(data: bytes | bytearray) -> int:
    return -sum(data) & 0xFF


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    head = struct.pack(
        "<4sIBB6s8sI4sI", signature, _HEADER_BYTES + len(body), revision, 0, _OEM, _OEM_TABLE, 1, b"GRNL", 1
    )
    table = bytearray(head + body)
    table[9] = _checksum(table)
    return bytes(table)


def dsdt(vcpus: int) -> bytes:
    """Processors, the console, virtio slots, and the VMBus with its interrupt and its window of addresses."""
    devices = [
        aml.device(
            f"C{number:03X}", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(number))
        )
        for number in range(vcpus)
    ]  # fmt: skip
    devices.append(_described("COM0", "ARMH0011", 0, virt.PL011_PA, 0x1000, virt.PL011_INTID))
    devices += [
        _described(f"VR{number:02X}", "LNRO0005", number, pa, virt.VIRTIO_STRIDE, intid)
        for number, (pa, intid) in enumerate(virt.virtio_slots())
    ]
    vmbus = aml.device(
        "VMBS", aml.name("_HID", aml.string("VMBUS")), aml.name("_UID", aml.integer(0)),
        aml.name("_CCA", aml.integer(1)),
        aml.name("_CRS", aml.resources(aml.interrupt(virt.VMBUS_INTID, edge=True))),
    )  # fmt: skip
    module = aml.device(
        "VMOD", aml.name("_HID", aml.string("ACPI0004")), aml.name("_UID", aml.integer(0)),
        aml.name("_CRS", aml.resources(aml.qword_memory_window(*virt.VMBUS_WINDOW))), vmbus,
    )  # fmt: skip
    return _table(b"DSDT", 2, aml.scope("_SB", *devices, module))


def _described(segment: str, hid: str, uid: int, pa: int, size: int, intid: int) -> bytes:
    """A device with registers and a level-triggered interrupt, coherent."""
    return aml.device(
        segment, aml.name("_HID", aml.string(hid)), aml.name("_UID", aml.integer(uid)),
        aml.name("_CCA", aml.integer(1)),
        aml.name("_CRS", aml.resources(aml.memory32_fixed(pa, size), aml.interrupt(intid, edge=False))),
    )  # fmt: skip


def _fadt(dsdt_pa: int) -> bytes:
    """Hardware-reduced, PSCI by HVC, and the hypervisor's name (5.2.9)."""
    body = bytearray(_FADT_BYTES - _HEADER_BYTES)

    def put(offset: int, form: str, value: int | bytes) -> None:
        struct.pack_into(form, body, offset - _HEADER_BYTES, value)

    put(112, "<I", 1 << 20 | 1 << 21)  # HW_REDUCED_ACPI, LOW_POWER_S0_IDLE_CAPABLE
    put(129, "<H", 1 | 2)  # ARM_BOOT_ARCH: PSCI_COMPLIANT, PSCI_USE_HVC
    put(131, "<B", 3)  # minor version: ACPI 6.3
    put(140, "<Q", dsdt_pa)
    put(268, "<8s", HYPERVISOR_ID)
    return _table(b"FACP", 6, bytes(body))


def _madt(vcpus: int) -> bytes:
    """GICv3: its distributor, a CPU interface for each vCPU, the redistributors (5.2.12)."""
    body = struct.pack("<II", 0, 0)
    body += struct.pack("<BBHIQIB3x", 12, 24, 0, 0, virt.GICD_PA, 0, 3)
    for number in range(vcpus):
        body += struct.pack(
            "<BBHIIIIIQQQQIQQBBH", 11, 80, 0, number, number, 1, 0, virt.PMU_INTID,
            *(0, 0, 0, 0), 0, 0, number, 0, 0, 0,
        )  # fmt: skip
    body += struct.pack("<BBHQI", 14, 16, 0, virt.GICR_PA, virt.GICR_BYTES)
    return _table(b"APIC", 5, body)


def _gtdt() -> bytes:
    """The generic timers, level-triggered and active high (5.2.25)."""
    body = struct.pack("<QI", (1 << 64) - 1, 0)
    for intid in virt.TIMER_INTIDS:
        body += struct.pack("<II", intid, 0)
    return _table(b"GTDT", 2, body + struct.pack("<QII", (1 << 64) - 1, 0, 0))


def _spcr() -> bytes:
    """The console: a PL011 that is set up already (Serial Port Console Redirection table, revision 2)."""
    body = struct.pack("<B3x", 3) + struct.pack("<BBBBQ", 0, 32, 0, 3, virt.PL011_PA)
    # Interrupt type 8: GIC. Speed 3: 9600; the emulated UART has none. PCI: none.
    body += struct.pack("<BBIBBBBBB", 8, 0, virt.PL011_INTID, 3, 0, 1, 0, 0, 0)
    body += struct.pack("<HHBBBIBI", 0xFFFF, 0xFFFF, 0, 0, 0, 0, 0, 0)
    return _table(b"SPCR", 2, body)


def acpi_tables(base_pa: int, vcpus: int) -> Tables:
    """The tables for a machine with so many vCPUs, to lie at `base_pa`."""
    memory = bytearray(_ALIGNMENT)

    def add(table: bytes) -> int:
        memory.extend(bytes(-len(memory) % _ALIGNMENT))
        pa = base_pa + len(memory)
        memory.extend(table)
        return pa

    dsdt_pa = add(dsdt(vcpus))
    pas = [add(table) for table in (_fadt(dsdt_pa), _madt(vcpus), _gtdt(), _spcr())]
    xsdt_pa = add(_table(b"XSDT", 1, struct.pack(f"<{len(pas)}Q", *pas)))
    rsdp = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, _OEM, 2, 0, 36, xsdt_pa, 0))
    rsdp[8] = _checksum(rsdp[:20])
    rsdp[32] = _checksum(rsdp)
    memory[: len(rsdp)] = rsdp
    return bytes(memory), base_pa
