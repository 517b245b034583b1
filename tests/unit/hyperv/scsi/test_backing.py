"""Tests of harness.hyperv.scsi.backing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.hyperv.scsi.backing import Backing


def test_a_private_copy(tmp_path: Path) -> None:
    """A copy has the image's content, and the image keeps it whatever is written to the copy."""
    image = tmp_path / "disk.img"
    image.write_bytes(b"\x11" * 4096 + bytes(8192) + b"\x22" * 512)
    with Backing.copy_of(image) as backing:
        assert backing.blocks == 25
        assert backing.read(0, 25 * 512) == image.read_bytes()
        backing.write(0, b"\x33" * 512)
        assert Path(backing.path).read_bytes()[:513] == b"\x33" * 512 + b"\x11"
    assert image.read_bytes()[:512] == b"\x11" * 512


def test_sizes_that_are_no_disk(tmp_path: Path) -> None:
    """An image that is empty, no multiple of a block, or not there is a user's mistake, said as one."""
    odd = tmp_path / "odd.img"
    odd.write_bytes(bytes(1000))
    with pytest.raises(UsageError, match="1000 bytes: a multiple of 512"):
        Backing.copy_of(odd)
    with pytest.raises(UsageError, match="0 bytes"):
        Backing(0)
    with pytest.raises(UsageError, match="cannot copy the disk image"):
        Backing.copy_of(tmp_path / "none.img")


def test_clearing_gives_memory_back() -> None:
    """Whole pages that are cleared cost nothing any more; parts of pages are only zeroed."""
    with Backing(1 << 20) as backing:
        backing.write(0, b"\xff" * (1 << 20))
        full = Path(backing.path).stat().st_blocks
        backing.clear(4, 1024)
        assert Path(backing.path).stat().st_blocks < full
        assert backing.read(0, 1 << 20) == b"\xff" * 2048 + bytes(512 << 10) + b"\xff" * ((512 << 10) - 2048)


def test_closed_descriptors() -> None:
    """After close the descriptor is gone, and closing again does nothing."""
    before = set(Path("/proc/self/fd").iterdir())
    backing = Backing(4096)
    backing.close()
    backing.close()
    assert set(Path("/proc/self/fd").iterdir()) == before
