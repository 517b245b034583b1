"""Tests of harness.qemu.qcow2 against the format's own description (QEMU docs/interop/qcow2.txt)."""

from __future__ import annotations

import struct

import pytest

from harness.errors import UsageError
from harness.qemu.qcow2 import empty_image

CLUSTER = 1 << 16


def _number(image: bytes, at: int, size: int) -> int:
    return int.from_bytes(image[at : at + size], "big")


@pytest.mark.parametrize(
    ("size_bytes", "entries"), [(512, 1), (512 << 20, 1), ((512 << 20) + 512, 2), (4 << 30, 8)]
)
def test_header(size_bytes: int, entries: int) -> None:
    """Version 3, the size asked for, no backing file by name, and an L1 table that reaches its end."""
    image = empty_image(size_bytes)
    assert image[:8] == b"QFI\xfb" + struct.pack(">I", 3)
    assert _number(image, 8, 8) == 0
    assert _number(image, 20, 4) == 16
    assert _number(image, 24, 8) == size_bytes
    assert _number(image, 36, 4) == entries
    assert _number(image, 100, 4) == 104


def test_every_cluster_is_counted_once() -> None:
    """The reference counts say 1 for each cluster of the file and for no other."""
    image = empty_image(4 << 30)
    assert len(image) % CLUSTER == 0
    block_at = _number(image, _number(image, 48, 8), 8)
    counts = struct.unpack(f">{CLUSTER // 2}H", image[block_at : block_at + CLUSTER])
    assert counts[: len(image) // CLUSTER] == (1,) * (len(image) // CLUSTER)
    assert not any(counts[len(image) // CLUSTER :])


def test_nothing_is_allocated() -> None:
    """The L1 table is empty: every read goes to what lies below."""
    image = empty_image(4 << 30)
    l1_at = _number(image, 40, 8)
    assert not any(image[l1_at : l1_at + CLUSTER])


@pytest.mark.parametrize("size_bytes", [0, -512, 1000, (4 << 40) + 512])
def test_sizes_that_no_image_has(size_bytes: int) -> None:
    """Nothing, parts of a sector, and more than the table reaches are refused."""
    with pytest.raises(UsageError, match="whole sectors"):
        empty_image(size_bytes)
