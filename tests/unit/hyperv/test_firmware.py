"""Tests of harness.hyperv.firmware: tables and trees, read back by readers of the tests' own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from uuid import UUID

import pytest

from harness.hyperv.firmware import aml
from harness.hyperv.firmware.acpi import acpi_tables, dsdt
from harness.hyperv.firmware.efi import MemoryType, Region, efi_hand_off
from harness.hyperv.firmware.fdt import Node, cells, flatten, strings, text
from harness.hyperv.firmware.tree import chosen_only, machine_tree
from harness.hyperv.firmware.virt import virtio_slots

BASE = 0x5FE4_0000


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        # By hand from ACPI 6.5, chapter 20: NameOp _HID StringPrefix "VMBUS" NullChar.
        (aml.name("_HID", aml.string("VMBUS")), "08 5f484944 0d 564d425553 00"),
        (aml.name("_UID", aml.integer(0)), "08 5f554944 00"),
        (aml.name("_CCA", aml.integer(1)), "08 5f434341 01"),
        (aml.integer(0x12), "0a 12"),
        (aml.integer(0x1234), "0b 3412"),
        (aml.integer(0x1234_5678), "0c 78563412"),
        (aml.integer(1 << 40), "0e 0000000000010000"),
        # DeviceOp PkgLength (itself, the name) NameSeg padded.
        (aml.device("COM"), "5b82 05 434f4d5f"),
        (aml.scope("_SB"), "10 06 5c 5f53425f"),
        # BufferOp PkgLength BufferSize: the end tag alone.
        (aml.resources(), "11 05 0a02 7900"),
        # 6.4.3.6: extended interrupt, length 6, consumer and edge, one interrupt.
        (aml.interrupt(18, edge=True), "89 0600 03 01 12000000"),
        (aml.interrupt(33, edge=False), "89 0600 01 01 21000000"),
        # 6.4.3.4: 32-bit fixed memory, length 9, writable.
        (aml.memory32_fixed(0x0900_0000, 0x1000), "86 0900 01 00000009 00100000"),
    ],
)
def test_terms_of_aml(made: bytes, wanted: str) -> None:
    """Each term is what the specification says, worked out by hand."""
    assert made == bytes.fromhex(wanted.replace(" ", ""))


@pytest.mark.parametrize(
    ("size", "head"),
    # The package: length bytes, the name's four, and the string's prefix, text and zero.
    [(56, "3f"), (57, "4104"), (4087, "4fff"), (4088, "810001")],
)
def test_package_lengths(size: int, head: str) -> None:
    """The length grows a byte at 64 and at 4096, and counts itself (20.2.4)."""
    made = aml.device("ABCD", aml.string("x" * size))
    length = bytes.fromhex(head)
    assert made[2 : 2 + len(length)].hex() == head
    first = length[0]
    value = first if first < 64 else (first & 15) | int.from_bytes(length[1:], "little") << 4
    assert value == len(made) - 2


@pytest.mark.parametrize("segment", ["", "ABCDE", "abc", "1AB", "A-B"])
def test_names_that_are_none(segment: str) -> None:
    """A name of AML has one to four upper-case letters, digits and underscores, no digit first."""
    with pytest.raises(ValueError, match="of AML"):
        aml.name(segment, b"")


def _sum(data: bytes) -> int:
    return sum(data) & 0xFF


def _tables(vcpus: int) -> dict[bytes, bytes]:
    """All tables by signature, found as a kernel finds them: RSDP, XSDT, FADT, DSDT."""
    memory, rsdp_pa = acpi_tables(BASE, vcpus)

    def table(pa: int) -> bytes:
        at = pa - BASE
        size = struct.unpack_from("<I", memory, at + 4)[0]
        data = memory[at : at + size]
        assert len(data) == size
        assert _sum(data) == 0
        return data

    rsdp = memory[rsdp_pa - BASE : rsdp_pa - BASE + 36]
    assert rsdp[:8] == b"RSD PTR "
    assert _sum(rsdp[:20]) == _sum(rsdp) == 0
    xsdt = table(struct.unpack_from("<Q", rsdp, 24)[0])
    found = {data[:4]: data for (pa,) in struct.iter_unpack("<Q", xsdt[36:]) if (data := table(pa))}
    found[b"DSDT"] = table(struct.unpack_from("<Q", found[b"FACP"], 140)[0])
    return found


def test_the_hypervisor_is_named() -> None:
    """FADT: revision 6, as long as its fields, hardware-reduced, PSCI by HVC, and MsHyperV at byte 268."""
    fadt = _tables(1)[b"FACP"]
    assert (fadt[8], len(fadt)) == (6, 276)
    assert fadt[268:276] == b"MsHyperV"
    assert struct.unpack_from("<I", fadt, 112)[0] & 1 << 20
    assert struct.unpack_from("<H", fadt, 129)[0] == 3


@pytest.mark.parametrize("vcpus", [1, 4])
def test_processors_and_interrupt_controller(vcpus: int) -> None:
    """MADT: a distributor of version 3, a CPU interface for each vCPU, enabled, and redistributors."""
    madt = _tables(vcpus)[b"APIC"]
    at, kinds = 44, []
    while at < len(madt):
        kinds.append(madt[at])
        if madt[at] == 11:
            uid, flags = struct.unpack_from("<II", madt, at + 8)
            assert (uid, flags) == (kinds.count(11) - 1, 1)
            assert struct.unpack_from("<Q", madt, at + 68)[0] == uid
        if madt[at] == 12:
            assert struct.unpack_from("<Q", madt, at + 8)[0] == 0x0800_0000
            assert madt[at + 20] == 3
        at += madt[at + 1]
    assert at == len(madt)
    assert kinds == [12, *[11] * vcpus, 14]


def test_timers_and_console() -> None:
    """GTDT has the virtual timer at its place, SPCR a PL011 with its interrupt; both have their lengths."""
    tables = _tables(1)
    assert len(tables[b"GTDT"]) == 96
    assert struct.unpack_from("<I", tables[b"GTDT"], 64)[0] == 27
    spcr = tables[b"SPCR"]
    assert len(spcr) == 80
    assert spcr[36] == 3
    assert struct.unpack_from("<Q", spcr, 44)[0] == 0x0900_0000
    assert struct.unpack_from("<I", spcr, 54)[0] == 33


def _devices(code: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each device in AML, those inside others included."""
    at = 0
    while (at := code.find(b"\x5b\x82", at)) >= 0:
        first = code[at + 2]
        more = first >> 6
        length = (
            first & 0x3F
            if not more
            else first & 0xF | int.from_bytes(code[at + 3 : at + 3 + more], "little") << 4
        )
        body = code[at + 3 + more : at + 2 + length]
        yield body[:4], body[4:]
        at += 2


def test_devices_of_the_dsdt() -> None:
    """Each vCPU, the console, each virtio slot, and VMBUS with interrupt 18 inside a module device."""
    code = dsdt(3)[36:]
    devices = dict(_devices(code))
    assert [name for name in devices if name.startswith(b"C0")] == [b"C000", b"C001", b"C002"]
    assert b"ARMH0011" in devices[b"COM0"]
    slots = [body for body in devices.values() if b"LNRO0005" in body]
    assert len(slots) == len(virtio_slots())
    assert struct.pack("<I", 0x0A00_3E00) in slots[0]
    assert struct.pack("<I", 79) in slots[0]
    assert b"\x0dVMBUS\0" in devices[b"VMBS"]
    assert aml.interrupt(18, edge=True) in devices[b"VMBS"]
    assert devices[b"VMBS"] in devices[b"VMOD"]
    assert b"ACPI0004" in devices[b"VMOD"]


def test_efi_leads_to_acpi() -> None:
    """The system table names one table, ACPI's; the memory map covers what it is given, page by page."""
    regions = (
        Region(type=MemoryType.CONVENTIONAL, start_pa=0x4000_0000, end_pa=0x5000_0000),
        Region(type=MemoryType.RESERVED, start_pa=0x5000_0000, end_pa=0x5001_0000),
    )
    made = efi_hand_off(BASE, 0x1234_5678, regions)
    assert struct.unpack_from("<Q", made.data)[0] == 0x5453595320494249  # "IBI SYST"
    count, table_pa = struct.unpack_from("<QQ", made.data, 104)
    assert count == 1
    guid, pa = struct.unpack_from("<16sQ", made.data, table_pa - BASE)
    assert UUID(bytes_le=guid) == UUID("8868e871-e4f1-11d3-bc22-0080c73c8881")
    assert pa == 0x1234_5678
    (start,) = struct.unpack(">Q", made.chosen["linux,uefi-mmap-start"])
    (size,) = struct.unpack(">I", made.chosen["linux,uefi-mmap-size"])
    (stride,) = struct.unpack(">I", made.chosen["linux,uefi-mmap-desc-size"])
    memory_map = made.data[start - BASE : start - BASE + size]
    seen = [struct.unpack_from("<IIQQQQ", memory_map, at) for at in range(0, size, stride)]
    assert [(kind, pa, pages) for kind, _, pa, _, pages, _ in seen] == [
        (7, 0x4000_0000, 0x10000),
        (0, 0x5000_0000, 16),
    ]


def _read_tree(data: bytes) -> dict[str, dict[str, bytes]]:
    """Properties of every node by path, read as the specification has it."""
    magic, size, structure, names, _, version, last, _, names_size, structure_size = struct.unpack_from(
        ">10I", data
    )
    assert (magic, size, version, last) == (0xD00D_FEED, len(data), 17, 16)
    assert structure + structure_size == names
    assert names + names_size <= size
    found: dict[str, dict[str, bytes]] = {}
    path: list[str] = []
    at = structure
    while True:
        (token,) = struct.unpack_from(">I", data, at)
        at += 4
        if token == 1:
            end = data.index(b"\0", at)
            path.append(data[at:end].decode())
            assert "/".join(path) not in found
            found["/".join(path)] = {}
            at = end // 4 * 4 + 4
        elif token == 2:
            path.pop()
        elif token == 3:
            length, name_at = struct.unpack_from(">II", data, at)
            name = data[names + name_at : data.index(b"\0", names + name_at)].decode()
            found["/".join(path)][name] = data[at + 8 : at + 8 + length]
            at += 8 + -(-length // 4) * 4
        else:
            assert token == 9
            assert at == structure + structure_size
            return found


def test_a_tree_reads_back() -> None:
    """Names, values of every length and nesting survive; a property's name is stored once."""
    child = Node(name="b@1", properties={"reg": cells(1, 2), "name-list": strings("x", "yz"), "empty": b""})
    root = Node(name="", properties={"reg": b"odd"}, children=(Node(name="a", children=(child,)), child))
    data = flatten(root)
    assert _read_tree(data) == {
        "": {"reg": b"odd"},
        "/a": {},
        "/a/b@1": {"reg": b"\0\0\0\1\0\0\0\2", "name-list": b"x\0yz\0", "empty": b""},
        "/b@1": {"reg": b"\0\0\0\1\0\0\0\2", "name-list": b"x\0yz\0", "empty": b""},
    }
    assert data.count(b"name-list\0") == 1


def test_a_stub_has_chosen_alone() -> None:
    """dt_is_stub(): with any node beside /chosen the kernel would not look for ACPI."""
    assert set(_read_tree(chosen_only({"bootargs": text("quiet")}))) == {"", "/chosen"}


def test_the_machine_as_a_tree() -> None:
    """PSCI goes by HVC, memory is the guest's alone, and the bus has its interrupt: PPI 2, edge."""
    tree = _read_tree(machine_tree({"bootargs": text("x")}, vcpus=2, memory=((0x4000_0000, 0x1FE0_0000),)))
    assert tree["/psci"]["method"] == b"hvc\0"
    assert tree["/memory@40000000"]["reg"] == struct.pack(">QQ", 0x4000_0000, 0x1FE0_0000)
    assert tree["/cpus/cpu@1"]["reg"] == cells(1)
    vmbus = tree["/bus/vmbus@10000000"]
    assert vmbus["compatible"] == b"microsoft,vmbus\0"
    assert vmbus["interrupts"] == struct.pack(">III", 1, 2, 1)
    assert "dma-coherent" in vmbus
    assert vmbus["ranges"] == struct.pack(">QQI", 0x1000_0000, 0x1000_0000, 0x1000_0000)
    assert tree["/virtio_mmio@a003e00"]["interrupts"] == struct.pack(">III", 0, 47, 1)
