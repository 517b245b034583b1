"""Tests of harness.hyperv.placement and layout: what lies where, and what does not fit."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InfraError, UsageError
from harness.hyperv.layout import DEFINES, MAX_VCPUS, Layout, Mailbox
from harness.hyperv.memory import GuestMemory
from harness.hyperv.placement import Boot, place
from harness.memory.ram import RAM_BASE_PA
from harness.spec import Firmware

RAM_BYTES = 32 << 20


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    """RAM of a small guest."""
    made = GuestMemory(bytearray(RAM_BYTES))
    yield made
    made.close()


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    """A kernel of 4 KiB that takes 8 MiB."""
    header = struct.pack("<II3Q3QII", 0, 0, 0, 8 << 20, 0, 0, 0, 0, 0x644D_5241, 0)
    for name, data in {
        "kernel": header + bytes(4032),
        "initrd": b"initrd" * 1000,
        "monitor": b"MONITOR!",
    }.items():
        (tmp_path / name).write_bytes(data)
    return Boot(
        kernel=tmp_path / "kernel", initrd=tmp_path / "initrd", cmdline="quiet", monitor=tmp_path / "monitor",
        firmware=Firmware.ACPI, vcpus=2, seed=bytes(range(64)),
    )  # fmt: skip


def test_the_kernel_lies_where_qemu_would_put_it(memory: GuestMemory, boot: Boot) -> None:
    """At 2 MiB into RAM, which hang diagnoses count on; the monitor is told of it and of the tree."""
    layout = Layout(ram_bytes=RAM_BYTES)
    place(memory, layout, boot)
    entry, tree = struct.unpack("<QQ", memory.read(layout.boot_block_pa, 16))
    assert entry == RAM_BASE_PA + (2 << 20)
    assert memory.read(entry + 56, 4) == b"ARM\x64"
    assert memory.read(tree, 4) == bytes.fromhex("d00dfeed")
    assert memory.read(layout.monitor_pa, 8) == b"MONITOR!"


@pytest.mark.parametrize("firmware", Firmware)
def test_chosen_says_what_the_kernel_needs(memory: GuestMemory, boot: Boot, firmware: Firmware) -> None:
    """Command line, initramfs and seeds are in the tree; ACPI tables with their RSDP only where asked for."""
    layout = Layout(ram_bytes=RAM_BYTES)
    place(memory, layout, replace(boot, firmware=firmware))
    tree = memory.read(layout.dtb_pa, 0x4000)
    assert b"quiet efi=noruntime granule.hyperv\0" in tree
    assert bytes(range(8)) in tree
    start_pa = (layout.monitor_pa - 6000) & ~0xFFFF
    assert struct.pack(">Q", start_pa) in tree
    assert memory.read(start_pa, 6000) == b"initrd" * 1000
    has_acpi = memory.read(layout.acpi_pa, 8) == b"RSD PTR "
    assert has_acpi == (firmware is Firmware.ACPI)
    assert (b"microsoft,vmbus" in tree) == (firmware is Firmware.DEVICE_TREE)


def test_a_kernel_that_does_not_fit(memory: GuestMemory, boot: Boot) -> None:
    """The .bss counts: what would meet the initramfs is refused, in MiB."""
    boot.initrd.write_bytes(bytes(21 << 20))
    with pytest.raises(UsageError, match="32 MiB are too little for a kernel and an initramfs of 29 MiB"):
        place(memory, Layout(ram_bytes=RAM_BYTES), boot)


def test_a_kernel_that_is_none(memory: GuestMemory, boot: Boot) -> None:
    """A file without the Image's magic number, or one that cannot be read, is named."""
    boot.kernel.write_bytes(bytes(4096))
    with pytest.raises(UsageError, match="not an uncompressed arm64 Image"):
        place(memory, Layout(ram_bytes=RAM_BYTES), boot)
    boot.monitor.unlink()
    with pytest.raises(InfraError, match="cannot read"):
        place(memory, Layout(ram_bytes=RAM_BYTES), boot)


def test_parts_do_not_overlap() -> None:
    """Mailboxes, records, boot block and tables are apart, each at 64 KiB where a memory map names it."""
    layout = Layout(ram_bytes=RAM_BYTES)
    last_mailbox = layout.mailbox_pa(MAX_VCPUS - 1) + Mailbox.BYTES
    assert layout.mailbox_pa(0) == layout.monitor_pa + DEFINES["MAILBOXES"]
    assert last_mailbox <= layout.record_pa(0)
    assert layout.record_pa(MAX_VCPUS) <= layout.boot_block_pa < layout.acpi_pa
    assert (
        Mailbox.REGISTER_COUNT * 8 <= Mailbox.SYNDROME < Mailbox.FAULT_ADDRESS < Mailbox.STATE < Mailbox.BYTES
    )
    for bound in (layout.monitor_pa, layout.acpi_pa, layout.efi_pa, layout.dtb_pa, layout.free_pa):
        assert bound % 0x1_0000 == 0
    assert layout.free_pa < layout.ram_end_pa
