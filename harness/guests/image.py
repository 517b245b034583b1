"""A disk image of the user's: what kind of file it is, and why it cannot be used where it cannot.

Nobody vouches for such a file: only its first bytes are read here, and QEMU is told what it is, so that it
guesses nothing. Sources: QEMU docs/interop/qcow2.txt; LUKS1 and LUKS2 on-disk formats; UEFI 2.10, 5.3.2
(GPT); Linux Documentation/filesystems/ext4/super.rst and fs/xfs/libxfs/xfs_format.h.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.spec import Disk, DiskMode, ImageFormat

__all__ = ["AUTO", "DiskImage", "OwnDisk", "parse_root", "read_image"]

SECTOR_BYTES = 512
HEAD_BYTES = 0x10048  # to the end of the magic that lies farthest in, that of btrfs

QCOW2_MAGIC = b"QFI\xfb"
# version, backing_file_offset, backing_file_size, cluster_bits, size, crypt_method; from byte 4.
QCOW2_HEADER = struct.Struct(">IQIIQI")
QCOW2_FEATURES_AT = 72
QCOW2_CORRUPT, QCOW2_EXTERNAL_DATA = 1 << 1, 1 << 2

OTHERS = (
    (0, b"KDMV", "a VMware disk (vmdk)"),
    (0, b"vhdxfile", "a Hyper-V disk (vhdx)"),
    (0, b"conectix", "a Hyper-V disk (vhd)"),
    (0x40, b"\x7f\x10\xda\xbe", "a VirtualBox disk (vdi)"),
)
PACKED = (
    (b"\x1f\x8b", "gzip -d"),
    (b"\xfd7zXZ\0", "xz -d"),
    (b"\x28\xb5\x2f\xfd", "zstd -d"),
    (b"BZh", "bzip2 -d"),
    (b"PK\x03\x04", "unzip"),
)
LUKS = b"LUKS\xba\xbe"


AUTO = "auto"
"""As a root: the one that is found."""
ROOT = re.compile(r"auto|(?:LABEL|UUID)=[\w.:-]{1,64}|/dev/[\w.+-]{1,64}/[\w.+-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskImage:
    """A file that can be a guest's disk; it is never written to."""

    path: Path
    format: ImageFormat
    size_bytes: int
    """Of the disk that a guest sees."""
    identity: str
    """Another when the file is another, or has been written to."""
    partitioned: bool
    """It begins with a partition table; else it is one file system, or volume group, as a whole.

    Of a qcow2 image nothing is known here, and it is taken to have one.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDisk:
    """A disk image of the user's as a guest, under a kernel of ours."""

    image: DiskImage
    root: str = AUTO
    """Where its root is: `LABEL=…`, `UUID=…`, a logical volume `/dev/VG/LV`, or AUTO."""
    words: tuple[str, ...] = ()
    """Of the kernel's command line."""

    @property
    def disk(self) -> Disk:
        """As a machine has it: what is written goes to a layer above it."""
        return Disk(
            path=self.image.path,
            serial="root",
            mode=DiskMode.OVERLAY,
            format=self.image.format,
            size_bytes=self.image.size_bytes,
            identity=self.image.identity,
        )


def parse_root(text: str) -> str:
    """`text` where it is a root that an initramfs finds; raises UsageError with the ways to name one."""
    if not ROOT.fullmatch(text):
        raise UsageError(f"'{text}' names no root: say LABEL=NAME, UUID=ID, /dev/GROUP/VOLUME, or {AUTO}")
    return text


def read_image(path: Path) -> DiskImage:
    """What `path` is; raises UsageError with what to do where it is nothing that a guest can have."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the disk image {path}: {error.strerror}") from error
    size_bytes = about.st_size
    identity = f"{about.st_dev}:{about.st_ino}:{size_bytes}:{about.st_mtime_ns}"
    if head.startswith(QCOW2_MAGIC):
        return _qcow2(path, head, identity)
    for at, magic, what in OTHERS:
        if head[at : at + len(magic)] == magic:
            raise UsageError(
                f"{path} is {what}: make it one that is taken, with "
                f"`qemu-img convert -O qcow2 {path.name} new.qcow2`"
            )
    for magic, command in PACKED:
        if head.startswith(magic):
            raise UsageError(f"{path} is packed: unpack it first, with `{command}`")
    if head.startswith(LUKS):
        raise UsageError(f"{path} is encrypted as a whole (LUKS): there is no way to give its passphrase")
    if size_bytes < SECTOR_BYTES or size_bytes % SECTOR_BYTES:
        raise UsageError(f"{path} is no raw disk image: {size_bytes} bytes are no whole number of sectors")
    partitioned = _has_table(head)
    if not partitioned and not _has_content(head):
        raise UsageError(
            f"{path} has no partition table, and begins with no file system or volume group that is known: "
            "is it damaged, or encrypted?"
        )
    return DiskImage(path=path, format=ImageFormat.RAW, size_bytes=size_bytes, identity=identity, partitioned=partitioned)


def _qcow2(path: Path, head: bytes, identity: str) -> DiskImage:
    try:
        version, backing_at, _, cluster_bits, size_bytes, encryption = QCOW2_HEADER.unpack_from(head, 4)
        (features,) = struct.unpack_from(">Q", head, QCOW2_FEATURES_AT) if version == 3 else (0,)
    except struct.error:
        raise UsageError(f"{path} is a qcow2 image that ends within its header: it is damaged") from None
    if version not in (2, 3) or not 9 <= cluster_bits <= 21:
        raise UsageError(
            f"{path} is no qcow2 image that QEMU reads: version {version}, {cluster_bits} cluster bits"
        )
    if encryption:
        raise UsageError(f"{path} is encrypted: there is no way to give its passphrase")
    if features & QCOW2_CORRUPT:
        raise UsageError(
            f"{path} says of itself that it is corrupt: `qemu-img check -r all {path.name}` may mend it"
        )
    if backing_at or features & QCOW2_EXTERNAL_DATA:
        # The name in it would be opened, whatever file of this host's it names.
        raise UsageError(
            f"{path} is not the whole disk, but names another file that has the rest: make it whole with "
            f"`qemu-img convert -O qcow2 {path.name} whole.qcow2`"
        )
    return DiskImage(path=path, format=ImageFormat.QCOW2, size_bytes=size_bytes, identity=identity, partitioned=True)


def _has_table(head: bytes) -> bool:
    gpt = any(head[sector : sector + 8] == b"EFI PART" for sector in (512, 4096))
    mbr = head[510:512] == b"\x55\xaa"
    return gpt or mbr


def _has_content(head: bytes) -> bool:
    ext4 = head[0x438:0x43A] == b"\x53\xef"
    xfs = head.startswith(b"XFSB")
    btrfs = head[0x10040:0x10048] == b"_BHRfS_M"
    volume_group = any(head[at : at + 8] == b"LABELONE" for at in range(0, 4 * SECTOR_BYTES, SECTOR_BYTES))
    return ext4 or xfs or btrfs or volume_group
