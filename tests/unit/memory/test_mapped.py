"""Tests of harness.memory.mapped."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ChannelError, UsageError
from harness.memory.mapped import Extent, MappedMemory

CONTENT = bytes(range(256)) * 32  # 8 KiB


def extent(base_pa: int, offset_bytes: int, size_bytes: int) -> Extent:
    return Extent(base_pa=base_pa, offset_bytes=offset_bytes, size_bytes=size_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 8 KiB."""
    path = tmp_path / "memory"
    path.write_bytes(CONTENT)
    return path


def test_reads_across_pieces(path: Path) -> None:
    """A read goes on from one piece into the next at the same addresses, wherever they are in the file."""
    memory = MappedMemory(path, [extent(0x2000, 7, 0x1000), extent(0x1000, 0x1000, 0x1000)])
    assert memory.ranges == (range(0x1000, 0x3000),)
    assert memory.read(0x1FFC, 8) == CONTENT[0x1FFC:0x2000] + CONTENT[7:11]
    assert memory.contiguous is None
    memory.close()


@pytest.mark.parametrize(
    ("pa", "size_bytes"), [(0xFFF, 2), (0x2FFF, 2), (0x2000, 1), (0x3000, 1), (0x1000, -1)]
)
def test_reads_outside_are_refused(path: Path, pa: int, size_bytes: int) -> None:
    """Holes between pieces and what is before and after them is an error, never other bytes."""
    memory = MappedMemory(path, [extent(0x1000, 0, 0x1000), extent(0x2800, 0, 0x800)])
    assert memory.ranges == (range(0x1000, 0x2000), range(0x2800, 0x3000))
    with pytest.raises(ChannelError, match="not within"):
        memory.read(pa, size_bytes)
    memory.close()


def test_one_piece_is_a_buffer(path: Path) -> None:
    """Memory in one piece is had without a copy, and closing it takes the buffer back."""
    memory = MappedMemory(path, [extent(0x4000_0000, 0x10, 0x1000)])
    whole = memory.contiguous
    assert whole is not None
    assert (whole[0], bytes(whole[1])) == (0x4000_0000, CONTENT[0x10:0x1010])
    memory.close()
    memory.close()
    with pytest.raises(ValueError, match=r"closed|released"):
        memory.read(0x4000_0000, 8)
    with pytest.raises(ValueError, match="released"):
        bytes(whole[1])


@pytest.mark.parametrize(
    ("extents", "why"),
    [
        ([], "holds no memory"),
        ([extent(0x1000, 0, 0x1000), extent(0x1800, 0, 0x1000)], "overlaps"),
        ([extent(0x1000, 0, 0x1000), extent(0x1000, 0, 0x1000)], "overlaps"),
        ([extent(0x1000, 0x1000, 0x1001)], "truncated.* 1 bytes more"),
        ([extent(0x1000, -8, 0x1000)], "truncated"),
        ([extent(0x1000, 0, 0)], "56 bits"),
        ([extent(-0x1000, 0, 0x1000)], "56 bits"),
        ([extent((1 << 56) - 8, 0, 16)], "56 bits"),
        ([extent(at << 12, 0, 1) for at in range((1 << 14) + 1)], "16385 pieces"),
    ],
)
def test_senseless_extents(path: Path, extents: list[Extent], why: str) -> None:
    """Pieces that overlap, leave the file or the address space, or are too many, are errors that say so."""
    with pytest.raises(UsageError, match=why):
        MappedMemory(path, extents)


def test_files_that_cannot_be_mapped(tmp_path: Path) -> None:
    """A missing file is an error of use."""
    with pytest.raises(UsageError, match="cannot map"):
        MappedMemory(tmp_path / "none", [extent(0, 0, 1)])
