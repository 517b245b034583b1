"""EFI's hand-off without EFI: what Linux's stub would have found, put there as Xen and kexec do.

A kernel that is given a device tree of nothing but /chosen takes ACPI tables instead, and finds them through
an EFI system table whose address /chosen tells (Linux arch/arm64/kernel/acpi.c, dt_is_stub();
drivers/firmware/efi/fdtparams.c). There are no runtime services: the kernel is to be told
`efi=noruntime`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from uuid import UUID

__all__ = ["EfiHandOff", "MemoryType", "Region", "efi_hand_off"]

_PAGE_BYTES: Final = 4096
_WRITE_BACK: Final = 8
_DESCRIPTOR_BYTES: Final = 48
_ACPI_20_TABLE: Final = UUID("8868e871-e4f1-11d3-bc22-0080c73c8881")
_TABLE, _CONFIGURATION, _VENDOR, _MAP = 0, 0x100, 0x200, 0x400
_SECURE_BOOT_DISABLED: Final = 2
"""enum efi_secureboot_mode. Without the property Linux ignores the memory map as well."""


class MemoryType(IntEnum):
    """EFI_MEMORY_TYPE (UEFI 2.10, 7.2)."""

    RESERVED = 0
    LOADER_DATA = 2
    CONVENTIONAL = 7
    ACPI_RECLAIM = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A piece of RAM and what it is for; its bounds are multiples of 64 KiB."""

    type: MemoryType
    start_pa: int
    end_pa: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EfiHandOff:
    """The bytes, and what /chosen has to say about them."""

    data: bytes
    chosen: dict[str, bytes]
    """Properties `linux,uefi-*` (Linux Documentation/arch/arm/uefi.rst)."""


def efi_hand_off(base_pa: int, rsdp_pa: int, regions: tuple[Region, ...]) -> EfiHandOff:
    """A system table with one configuration table, ACPI's, and a memory map; to lie at `base_pa`."""
    data = bytearray(_MAP)
    # EFI_SYSTEM_TABLE: signature, revision 2.70, size, no checksum.
    struct.pack_into("<QIII", data, _TABLE, 0x5453_5953_2049_4249, 2 << 16 | 70, 120, 0)
    struct.pack_into("<QI", data, _TABLE + 24, base_pa + _VENDOR, 1)
    struct.pack_into("<QQ", data, _TABLE + 104, 1, base_pa + _CONFIGURATION)
    struct.pack_into("<16sQ", data, _CONFIGURATION, _ACPI_20_TABLE.bytes_le, rsdp_pa)
    vendor = "granule".encode("utf-16-le") + b"\0\0"
    data[_VENDOR : _VENDOR + len(vendor)] = vendor
    for region in regions:
        pages = (region.end_pa - region.start_pa) // _PAGE_BYTES
        data += struct.pack("<IIQQQQQ", region.type, 0, region.start_pa, 0, pages, _WRITE_BACK, 0)
    map_bytes = len(data) - _MAP
    return EfiHandOff(
        data=bytes(data),
        chosen={
            "linux,uefi-system-table": struct.pack(">Q", base_pa),
            "linux,uefi-mmap-start": struct.pack(">Q", base_pa + _MAP),
            "linux,uefi-mmap-size": struct.pack(">I", map_bytes),
            "linux,uefi-mmap-desc-size": struct.pack(">I", _DESCRIPTOR_BYTES),
            "linux,uefi-mmap-desc-ver": struct.pack(">I", 1),
            "linux,uefi-secure-boot": struct.pack(">I", _SECURE_BOOT_DISABLED),
        },
    )
