"""What a disk image of the user's may be, by its first bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.guests.image import OwnDisk, parse_root, read_image
from harness.spec import DiskMode, ImageFormat


def qcow2(
    *, version: int = 3, backing_at: int = 0, encryption: int = 0, features: int = 0, size: int = 1 << 30
) -> bytes:
    """The header of a qcow2 image."""
    start = b"QFI\xfb" + struct.pack(">IQIIQI", version, backing_at, 0, 16, size, encryption)
    return start.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(1000)


def raw(**at: bytes) -> bytes:
    """A raw disk of 128 KiB with bytes at certain places: `raw(x200=b"…")`."""
    disk = bytearray(1 << 17)
    for place, content in at.items():
        start = int(place[1:], 16)
        disk[start : start + len(content)] = content
    return bytes(disk)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Where the image is."""
    return tmp_path / "disk"


@pytest.mark.parametrize(
    ("content", "partitioned"),
    [
        (raw(x200=b"EFI PART"), True),
        (raw(x1000=b"EFI PART"), True),
        (raw(x1fe=b"\x55\xaa"), True),
        (raw(x438=b"\x53\xef"), False),
        (raw(x0=b"XFSB"), False),
        (raw(x10040=b"_BHRfS_M"), False),
        (raw(x200=b"LABELONE"), False),
    ],
)
def test_raw_disks(image: Path, content: bytes, partitioned: bool) -> None:
    """A partition table, a file system or a volume group makes a raw disk; its size is the file's."""
    image.write_bytes(content)
    found = read_image(image)
    assert (found.format, found.size_bytes, found.partitioned) == (ImageFormat.RAW, 1 << 17, partitioned)


def test_qcow2_says_its_size(image: Path) -> None:
    """The disk that a guest sees is as large as the header says, in either version."""
    for version in (2, 3):
        image.write_bytes(qcow2(version=version, size=5 << 30))
        assert (read_image(image).format, read_image(image).size_bytes) == (ImageFormat.QCOW2, 5 << 30)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (qcow2(backing_at=512), "names another file"),
        (qcow2(features=4), "names another file"),
        (qcow2(features=2), "corrupt"),
        (qcow2(encryption=2), "encrypted"),
        (qcow2(version=9), "no qcow2 image that QEMU reads"),
        (qcow2()[:20], "ends within its header"),
        (raw(x0=b"LUKS\xba\xbe"), "LUKS"),
        (raw(x0=b"KDMV"), "qemu-img convert"),
        (raw(x0=b"vhdxfile"), "qemu-img convert"),
        (raw(x40=b"\x7f\x10\xda\xbe"), "qemu-img convert"),
        (raw(x0=b"\xfd7zXZ\0"), "xz -d"),
        (raw(), "no partition table"),
        (raw(x200=b"EFI PART")[:-5], "whole number of sectors"),
        (b"", "whole number of sectors"),
    ],
)
def test_what_cannot_be_used_says_why(image: Path, content: bytes, why: str) -> None:
    """Each with what is wrong with it, or what to do; nothing that it names is opened."""
    image.write_bytes(content)
    with pytest.raises(UsageError, match=why):
        read_image(image)


def test_no_such_file(image: Path) -> None:
    """The path and the reason."""
    with pytest.raises(UsageError, match=f"{image}: No such file"):
        read_image(image)


def test_a_disk_is_a_layer_above_the_image(image: Path) -> None:
    """The machine is told what the file is and how large a disk it makes; another content is another identity."""
    image.write_bytes(qcow2(size=7 << 30))
    disk = OwnDisk(image=read_image(image)).disk
    assert (disk.mode, disk.format, disk.size_bytes) == (DiskMode.OVERLAY, ImageFormat.QCOW2, 7 << 30)
    assert disk.identity == OwnDisk(image=read_image(image)).disk.identity
    image.write_bytes(qcow2(size=7 << 30) + bytes(512))
    assert disk.identity != OwnDisk(image=read_image(image)).disk.identity


@pytest.mark.parametrize("root", ["auto", "LABEL=root", "UUID=6772616e-756c", "/dev/rhel/root"])
def test_a_root_by_name(root: str) -> None:
    """The ways in which a root is named."""
    assert parse_root(root) == root


@pytest.mark.parametrize("root", ["", "/dev/vda", "LABEL=", "LABEL=a b", "/dev/a/b/c", "/dev/$(x)/root", "PARTUUID=1"])
def test_what_names_no_root(root: str) -> None:
    """Nothing else reaches a kernel's command line and a shell."""
    with pytest.raises(UsageError, match="names no root"):
        parse_root(root)
