"""Tests of harness.memory.ram."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from harness.errors import ChannelError
from harness.memory.ram import RAM_BASE_PA, ContiguousMemory, SharedRam, make_ram


@pytest.fixture
def ram() -> Iterator[tuple[int, SharedRam]]:
    """One MiB of RAM: its descriptor and a reader."""
    descriptor = make_ram(1)
    reader = SharedRam(descriptor, 1 << 20)
    yield descriptor, reader
    reader.close()
    os.close(descriptor)


def test_writes_show_at_once(ram: tuple[int, SharedRam]) -> None:
    """What another map of the file writes is what the reader sees, at the physical address."""
    descriptor, reader = ram
    with mmap.mmap(descriptor, 1 << 20) as other:
        other[0x1000:0x1007] = b"granule"
    assert reader.read(RAM_BASE_PA + 0x1000, 7) == b"granule"


@pytest.mark.parametrize(
    ("pa", "size_bytes"),
    [
        (RAM_BASE_PA - 1, 1),
        (RAM_BASE_PA + (1 << 20), 1),
        (RAM_BASE_PA + (1 << 20) - 4, 8),
        (0, 8),
        (1 << 64, 8),
        (RAM_BASE_PA, -1),
    ],
)
def test_reads_outside_ram_are_refused(ram: tuple[int, SharedRam], pa: int, size_bytes: int) -> None:
    """An address or length that leaves RAM is an error that names the range, never other bytes."""
    with pytest.raises(ChannelError, match="not within RAM"):
        ram[1].read(pa, size_bytes)


def test_what_is_written_is_read(ram: tuple[int, SharedRam]) -> None:
    """A planted word is what reads give afterwards; one that leaves RAM is refused and changes nothing."""
    reader = ram[1]
    assert reader.ranges == (range(RAM_BASE_PA, RAM_BASE_PA + (1 << 20)),)
    reader.write(RAM_BASE_PA + 8, b"granule!")
    assert reader.read(RAM_BASE_PA, 24) == bytes(8) + b"granule!" + bytes(8)
    with pytest.raises(ChannelError, match="not within RAM"):
        reader.write(RAM_BASE_PA + (1 << 20) - 4, b"granule!")
    assert reader.read(RAM_BASE_PA + (1 << 20) - 4, 4) == bytes(4)


def test_ram_is_handed_on_without_a_copy(ram: tuple[int, SharedRam]) -> None:
    """RAM is one piece: the buffer shows what is written afterwards, from RAM's first address on."""
    reader = ram[1]
    assert isinstance(reader, ContiguousMemory)
    base_pa, buffer = reader.contiguous
    reader.write(RAM_BASE_PA + 16, b"granule")
    assert (base_pa, buffer[16:23]) == (RAM_BASE_PA, b"granule")


def test_large_reads_take_no_memory(ram: tuple[int, SharedRam]) -> None:
    """A large read of what was never written gives zeros and leaves the holes of the file as they are."""
    descriptor, reader = ram
    reader.write(RAM_BASE_PA + 0x8000, b"granule")
    before = os.fstat(descriptor).st_blocks
    data = reader.read(RAM_BASE_PA, 1 << 20)
    assert (data[0x8000:0x8007], data.count(0)) == (b"granule", (1 << 20) - 7)
    assert os.fstat(descriptor).st_blocks == before
