"""Tests of harness.qemu.disks: what a guest writes goes where its disk's mode says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.qemu.disks import open_disks
from harness.spec import Disk, DiskMode

CONTENT = b"granule" * 512


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk image."""
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT.ljust(1 << 20, b"\0"))
    return path


@pytest.fixture
def cleanup() -> Iterator[contextlib.ExitStack]:
    """Closes what a test opens."""
    with contextlib.ExitStack() as stack:
        yield stack


def test_a_copy_leaves_the_image_alone(image: Path, cleanup: contextlib.ExitStack) -> None:
    """A copy has the image's content, and what is written there is not in the image."""
    (disk,) = open_disks([Disk(path=image, serial="a")], (), cleanup)
    assert os.pread(disk.top, len(CONTENT), 0) == CONTENT
    os.pwrite(disk.top, b"other", 0)
    assert image.read_bytes().startswith(CONTENT)
    assert disk.below == ()


def test_an_overlay_is_empty_and_has_the_image_below(image: Path, cleanup: contextlib.ExitStack) -> None:
    """The layer is a file without a name; below it lies the image, which cannot be written there."""
    (disk,) = open_disks([Disk(path=image, serial="a", mode=DiskMode.OVERLAY)], (), cleanup)
    assert os.pread(disk.top, 4, 0) == b"QFI\xfb"
    assert os.fstat(disk.top).st_nlink == 0
    (below,) = disk.below
    assert os.fstat(below).st_ino == image.stat().st_ino
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(below, b"other", 0)


def test_a_clone_has_its_templates_layer_between(image: Path, cleanup: contextlib.ExitStack) -> None:
    """What a template had written lies between a clone's layer and the image, in the disks' order."""
    written = [os.memfd_create(name) for name in ("first", "second")]
    for descriptor in written:
        cleanup.callback(os.close, descriptor)
    overlay = Disk(path=image, serial="a", mode=DiskMode.OVERLAY)
    disks = open_disks([overlay, Disk(path=image, serial="b"), overlay], written, cleanup)
    assert [len(disk.below) for disk in disks] == [2, 0, 2]
    seen = [os.fstat(disk.below[1]).st_ino for disk in disks if disk.below]
    assert seen == [os.fstat(descriptor).st_ino for descriptor in written]


def test_direct_is_the_image(image: Path, cleanup: contextlib.ExitStack) -> None:
    """What is written to a disk that is being made is in the image."""
    (disk,) = open_disks([Disk(path=image, serial="a", mode=DiskMode.DIRECT)], (), cleanup)
    os.pwrite(disk.top, b"other", 0)
    assert image.read_bytes().startswith(b"other")


@pytest.mark.parametrize("mode", list(DiskMode))
def test_an_image_that_is_not_there(tmp_path: Path, mode: DiskMode, cleanup: contextlib.ExitStack) -> None:
    """An image that cannot be opened is this host's fault, and named."""
    with pytest.raises(InfraError, match=r"gone\.img"):
        open_disks([Disk(path=tmp_path / "gone.img", serial="a", mode=mode)], (), cleanup)


def test_no_place_for_a_layer(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cleanup: contextlib.ExitStack
) -> None:
    """A directory in which no layer can be made is this host's fault."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(InfraError, match="cannot make a layer"):
        open_disks([Disk(path=image, serial="a", mode=DiskMode.OVERLAY)], (), cleanup)
