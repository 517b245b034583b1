"""An empty qcow2 image, as a layer that a guest's writes go to.

Written here and not by qemu-img, which Debian packages apart from QEMU. What lies below the layer is said on
QEMU's command line and nowhere in the file. Source: QEMU docs/interop/qcow2.txt, version 3.
"""

from __future__ import annotations

import struct

from harness.errors import UsageError

__all__ = ["empty_image"]

CLUSTER_BITS = 16
CLUSTER_BYTES = 1 << CLUSTER_BITS
# An entry of the L1 table stands for a table of one cluster, whose entries of 8 bytes are a cluster each.
L1_REACH_BYTES = CLUSTER_BYTES // 8 * CLUSTER_BYTES
REFCOUNT_ORDER = 4  # 16 bits
HEADER_BYTES = 104
SECTOR_BYTES = 512


def empty_image(size_bytes: int) -> bytes:
    """The file of an image of that size which holds nothing: header, reference counts and L1 table.

    Raises UsageError for a size that is no multiple of a sector, or more than a cluster of L1 table reaches.
    """
    entries = -(-size_bytes // L1_REACH_BYTES)
    if size_bytes <= 0 or size_bytes % SECTOR_BYTES or entries * 8 > CLUSTER_BYTES:
        raise UsageError(f"a disk image cannot have {size_bytes} bytes: wanted whole sectors, 4 TiB at most")
    refcount_table, refcount_block, l1_table, clusters = (
        CLUSTER_BYTES,
        2 * CLUSTER_BYTES,
        3 * CLUSTER_BYTES,
        4,
    )
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3),
        *(0, 0),  # no backing file by name
        *(CLUSTER_BITS, size_bytes, 0),  # not encrypted
        *(entries, l1_table),
        *(refcount_table, 1),
        *(0, 0),  # no snapshots
        *(0, 0, 0),  # no features
        *(REFCOUNT_ORDER, HEADER_BYTES),
    )
    image = bytearray(clusters * CLUSTER_BYTES)
    image[: len(header)] = header
    struct.pack_into(">Q", image, refcount_table, refcount_block)
    struct.pack_into(f">{clusters}H", image, refcount_block, *([1] * clusters))
    return bytes(image)
