"""Disks for storvsc: what is the image's fault is said, with XFS as with ext4."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build.disks import PATTERN_BYTES, pattern
from harness.build.scsi_disks import RAW, RAW_BYTES, XFS, check_xfs, scsi_disks
from harness.cache import Cache

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
XFS_MAGIC = b"XFSB"

pytestmark = pytest.mark.skipif(
    shutil.which("xfs_db", path=SBIN) is None, reason="needs xfs_db: apt-get install xfsprogs"
)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Path]]:
    with Cache(tmp_path / "cache") as cache:
        yield {disk.serial: disk.path for disk in scsi_disks(cache)}


@pytest.fixture
def image(disks: dict[str, Path], tmp_path: Path) -> Path:
    """The XFS disk, with `/pattern` where a guest would put `/copy`."""
    copy = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", disks[XFS], copy], check=True)
    return copy


def _block_of_pattern(image: Path) -> int:
    """Where the file's content begins, in bytes: by its own first bytes."""
    return image.read_bytes().index(pattern()[:64])


def test_whole_image(image: Path) -> None:
    """The file that we laid down ourselves is found unchanged, by way of its extents."""
    assert check_xfs(str(image), "/pattern") == "clean, same content"


def test_other_content(image: Path) -> None:
    """One changed byte in the file's data is told, although the file system is clean."""
    at = _block_of_pattern(image) + PATTERN_BYTES - 1
    with image.open("r+b") as file:
        file.seek(at)
        (old,) = file.read(1)
        file.seek(at)
        file.write(bytes([old ^ 1]))
    assert check_xfs(str(image), "/pattern") == "/pattern has other content"


def test_no_such_file(image: Path) -> None:
    """A copy that the guest never wrote is told."""
    assert "is not there" in check_xfs(str(image), "/copy")


def test_damaged_metadata(image: Path) -> None:
    """What xfs_repair finds is said in its words."""
    second = image.read_bytes().index(XFS_MAGIC, 4096)
    with image.open("r+b") as file:
        file.seek(second)
        file.write(b"NOPE")
    assert check_xfs(str(image), "/pattern").startswith("xfs_repair: ")


def test_raw_is_no_multiple_of_anything(disks: dict[str, Path]) -> None:
    """The disk of bytes has no two equal blocks: whatever is read from elsewhere is another."""
    data = disks[RAW].read_bytes()
    assert len(data) == RAW_BYTES
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    assert len(set(blocks)) == len(blocks)
