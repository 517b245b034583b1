"""What the disk says of itself: INQUIRY and its VPD pages, MODE SENSE, READ CAPACITY, REPORT LUNS.

Sources: SPC-4 6.6, 6.12, 6.33, 7.5.7, 7.8; SBC-3 5.16, 6.4.5, 6.5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from harness.hyperv.scsi.command import BLOCK_BYTES

__all__ = ["NO_UNIT_INQUIRY", "DiskIdentity", "capacity_10", "capacity_16", "luns", "mode_sense", "vpd_page"]

SPC_3: Final = 5
NO_UNIT_INQUIRY: Final = bytes([0x7F, 0, SPC_3, 2, 31]) + bytes(31)
"""Peripheral qualifier 3, type 1Fh: the target cannot have a unit there."""
_CACHING_PAGE: Final = 0x08
_ALL_PAGES: Final = 0x3F
_WRITE_CACHE_ENABLED: Final = 0x04
_WRITE_PROTECT: Final = 0x80
_DPO_FUA: Final = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskIdentity:
    """Names and limits of a disk."""

    serial: str = "granule-0"
    vendor: str = "Msft"
    """storvsc treats disks of Msft as Hyper-V's (storvsc_device_configure())."""
    product: str = "Virtual Disk"
    physical_block_bytes: int = 4096
    """BLOCK_BYTES times a power of two."""
    max_unmap_blocks: int = 0
    """0: neither UNMAP nor WRITE SAME is offered."""

    def inquiry(self) -> bytes:
        """Standard INQUIRY data, 36 bytes: a disk with command queuing."""
        return (
            bytes([0, 0, SPC_3, 2, 31, 0, 0, 2])
            + self.vendor.encode().ljust(8)[:8]
            + self.product.encode().ljust(16)[:16]
            + b"1.0 "
        )


def vpd_page(identity: DiskIdentity, page: int) -> bytes | None:
    """A page of vital product data, header included; None where it is not supported."""
    pages = {
        0x00: bytes([0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2]),
        0x80: identity.serial.encode(),
        0x83: _designators(identity),
        0xB0: _block_limits(identity),
        0xB1: struct.pack(">H", 1).ljust(60, b"\0"),  # medium rotation rate 1: it does not rotate
        0xB2: _provisioning(identity),
    }
    body = pages.get(page)
    return None if body is None else struct.pack(">BBH", 0, page, len(body)) + body


def _designators(identity: DiskIdentity) -> bytes:
    """One NAA identifier, IEEE registered extended, with Microsoft's company id as Hyper-V's have."""
    naa = b"\x60\x02\x24\x80" + identity.serial.encode().ljust(12, b"\0")[:12]
    return bytes([0x01, 0x03, 0, len(naa)]) + naa


def _block_limits(identity: DiskIdentity) -> bytes:
    page = bytearray(60)
    if identity.max_unmap_blocks:
        # At their offsets in the page less its header of 4 bytes.
        struct.pack_into(">II", page, 16, identity.max_unmap_blocks, 256)
        struct.pack_into(">I", page, 24, identity.physical_block_bytes // BLOCK_BYTES)
        struct.pack_into(">Q", page, 32, identity.max_unmap_blocks)
    return bytes(page)


def _provisioning(identity: DiskIdentity) -> bytes:
    """LBPU, LBPWS, LBPWS10 and LBPRZ: what is unmapped reads as zeros; thin."""
    return bytes([0, 0xE4, 2, 0]) if identity.max_unmap_blocks else bytes(4)


def capacity_10(blocks: int) -> bytes:
    """READ CAPACITY (10) data: the last block, or all ones where (16) has to be asked."""
    return struct.pack(">II", min(blocks - 1, 0xFFFF_FFFF), BLOCK_BYTES)


def capacity_16(identity: DiskIdentity, blocks: int) -> bytes:
    """READ CAPACITY (16) data: the last block, and physical blocks as a power of two of logical ones."""
    exponent = (identity.physical_block_bytes // BLOCK_BYTES).bit_length() - 1
    provisioning = 0xC0 if identity.max_unmap_blocks else 0
    return struct.pack(">QIBBB", blocks - 1, BLOCK_BYTES, 0, exponent, provisioning).ljust(32, b"\0")


def mode_sense(page: int, *, ten: bool, read_only: bool) -> bytes | None:
    """MODE SENSE data without block descriptors; None for a page that is not there."""
    if page not in (_CACHING_PAGE, _ALL_PAGES):
        return None
    caching = bytes([_CACHING_PAGE, 18, _WRITE_CACHE_ENABLED]).ljust(20, b"\0")
    device = _DPO_FUA | (_WRITE_PROTECT if read_only else 0)
    if ten:
        return struct.pack(">HBBHH", 6 + len(caching), 0, device, 0, 0) + caching
    return bytes([3 + len(caching), 0, device, 0]) + caching


def luns(numbers: tuple[int, ...]) -> bytes:
    """REPORT LUNS data: eight bytes each, in peripheral device addressing."""
    return struct.pack(">II", 8 * len(numbers), 0) + b"".join(
        struct.pack(">BB6x", 0, number) for number in numbers
    )
