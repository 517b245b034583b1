"""What lies in a guest's RAM before its first instruction: kernel, initramfs, tables, monitor."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import InfraError, UsageError
from harness.hyperv.firmware.acpi import acpi_tables
from harness.hyperv.firmware.efi import MemoryType, Region, efi_hand_off
from harness.hyperv.firmware.fdt import text
from harness.hyperv.firmware.tree import chosen_only, machine_tree
from harness.hyperv.layout import BootBlock, Layout
from harness.hyperv.memory import GuestMemory
from harness.linux.image import ImageHeader
from harness.memory.ram import RAM_BASE_PA
from harness.spec import Firmware

__all__ = ["CMDLINE", "KERNEL_PA", "Boot", "place"]

CMDLINE: Final = "efi=noruntime granule.hyperv"
"""There are no runtime services to be called; and guests/micro/init loads the drivers."""

KERNEL_PA: Final = RAM_BASE_PA + (2 << 20)
"""Where QEMU's own loader puts an Image without a text offset (hw/arm/boot.c, load_aarch64_image())."""
_ALIGNMENT: Final = 1 << 16
SEED_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What is to be booted."""

    kernel: Path
    """Uncompressed arm64 Image."""
    initrd: Path
    cmdline: str
    monitor: Path
    firmware: Firmware
    vcpus: int
    seed: bytes
    """SEED_BYTES of entropy: the kernel's first, and what KASLR is made of."""


def place(memory: GuestMemory, layout: Layout, boot: Boot) -> None:
    """Write everything into RAM; raises UsageError when it does not fit, InfraError for a file's error."""
    kernel, initrd, monitor = (_read(path) for path in (boot.kernel, boot.initrd, boot.monitor))
    header = ImageHeader.parse(kernel[:64])
    if header is None:
        raise UsageError(f"{boot.kernel} is not an uncompressed arm64 Image")
    kernel_pa = KERNEL_PA + header.text_offset
    initrd_pa = (layout.monitor_pa - len(initrd)) & ~(_ALIGNMENT - 1)
    if kernel_pa + max(header.image_size_bytes, len(kernel)) > initrd_pa:
        needed = (header.image_size_bytes + len(initrd)) >> 20
        raise UsageError(
            f"{layout.ram_bytes >> 20} MiB are too little for a kernel and an initramfs of {needed} MiB"
        )
    memory.write(kernel_pa, kernel)
    memory.write(initrd_pa, initrd)
    memory.write(layout.monitor_pa, monitor)
    chosen = {
        "bootargs": text(f"{boot.cmdline} {CMDLINE}"),
        "linux,initrd-start": struct.pack(">Q", initrd_pa),
        "linux,initrd-end": struct.pack(">Q", initrd_pa + len(initrd)),
        "kaslr-seed": boot.seed[:8],
        "rng-seed": boot.seed[8:],
    }
    memory.write(layout.dtb_pa, _firmware(memory, layout, boot, chosen))
    block = bytearray(24)
    struct.pack_into("<Q", block, BootBlock.ENTRY, kernel_pa)
    struct.pack_into("<Q", block, BootBlock.DTB, layout.dtb_pa)
    memory.write(layout.boot_block_pa, block)


def _firmware(memory: GuestMemory, layout: Layout, boot: Boot, chosen: dict[str, bytes]) -> bytes:
    """Write what firmware would leave; returns the device tree that the kernel is given."""
    if boot.firmware is Firmware.DEVICE_TREE:
        guests = ((RAM_BASE_PA, layout.monitor_pa - RAM_BASE_PA),)
        return machine_tree(chosen, vcpus=boot.vcpus, memory=guests)
    tables, rsdp_pa = acpi_tables(layout.acpi_pa, boot.vcpus)
    memory.write(layout.acpi_pa, tables)
    regions = (
        Region(type=MemoryType.CONVENTIONAL, start_pa=RAM_BASE_PA, end_pa=layout.monitor_pa),
        Region(type=MemoryType.RESERVED, start_pa=layout.monitor_pa, end_pa=layout.monitor_end_pa),
        Region(type=MemoryType.ACPI_RECLAIM, start_pa=layout.acpi_pa, end_pa=layout.efi_pa),
        Region(type=MemoryType.LOADER_DATA, start_pa=layout.efi_pa, end_pa=layout.free_pa),
        Region(type=MemoryType.CONVENTIONAL, start_pa=layout.free_pa, end_pa=layout.ram_end_pa),
    )
    efi = efi_hand_off(layout.efi_pa, rsdp_pa, regions)
    memory.write(layout.efi_pa, efi.data)
    return chosen_only(efi.chosen | chosen)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error
