"""Disk images for storvsc: ext4, XFS, and one of bytes; judged afterwards by the host's own tools."""

from __future__ import annotations

import hashlib
import random
import re
import tempfile
from pathlib import Path
from typing import Final

from harness.build.disk_tools import failed, raise_for_host, run_tool, text_of
from harness.build.disks import PATTERN_BYTES, PATTERN_SHA256, ext4_disk, pattern
from harness.cache import Cache
from harness.spec import Disk

__all__ = ["EXT4", "RAW", "RAW_BYTES", "XFS", "check_xfs", "scsi_disks"]

EXT4: Final = "granule-ext4"
XFS: Final = "granule-xfs"
RAW: Final = "granule-raw"
"""Serial numbers."""
RAW_BYTES: Final = 16 << 20
_PACKAGE: Final = "xfsprogs"
_FORMAT: Final = 1
_BLOCK_BYTES: Final = 4096
_XFS_BYTES: Final = 512 << 20
"""mkfs.xfs refuses less than 300 MiB. Sparse, but for a log of 64 MiB."""
_CLEAN: Final = "clean, same content"
_EXTENT: Final = re.compile(r"data offset (\d+) startblock \d+ \((\d+)/(\d+)\) count (\d+) flag 0")
_MAX_EXTENTS: Final = 1024


def scsi_disks(cache: Cache) -> tuple[Disk, ...]:
    """The three disks, made unless they are cached; raises ToolMissing and InfraError."""
    xfs = cache.make("disks", f"xfs-v{_FORMAT}", lambda directory: _make_xfs(directory / "disk.img"))
    raw = cache.make("disks", f"raw-v{_FORMAT}", lambda directory: _make_raw(directory / "disk.img"))
    return (
        Disk(path=ext4_disk(cache, _BLOCK_BYTES).path, serial=EXT4),
        Disk(path=xfs / "disk.img", serial=XFS),
        Disk(path=raw / "disk.img", serial=RAW),
    )


def _make_raw(image: Path) -> None:
    image.write_bytes(random.Random(1).randbytes(RAW_BYTES))  # noqa: S311 - content to compare, not a secret


def _make_xfs(image: Path) -> None:
    with tempfile.TemporaryDirectory(dir=image.parent) as directory:
        content, prototype = Path(directory, "pattern"), Path(directory, "prototype")
        content.write_bytes(pattern())
        # mkfs.xfs(8), -p: boot image, blocks and inodes (both ignored), the root, its one file, an end.
        prototype.write_text(f"/dev/null\n0 0\nd--755 0 0\npattern ---644 0 0 {content}\n$\n")
        with image.open("wb") as file:
            file.truncate(_XFS_BYTES)
        done = run_tool(
            "mkfs.xfs", "-q", "-f", "-b", f"size={_BLOCK_BYTES}",
            "-m", "uuid=6772616e-756c-6500-0000-000000000002", "-p", str(prototype), str(image),
            package=_PACKAGE,
        )  # fmt: skip
    if done.returncode != 0:
        raise failed("mkfs.xfs", done)


def check_xfs(path: str, copy: str) -> str:
    """As `check_ext4`: what is wrong with an image, or `clean, same content` when `copy` has the pattern."""
    done = run_tool("xfs_repair", "-n", "-f", path, package=_PACKAGE)
    if done.returncode != 0:
        raise_for_host("xfs_repair", done)
        return f"xfs_repair: {(text_of(done.stdout) + text_of(done.stderr)).strip()[-300:]}"
    said = _xfs_db(path, "sb 0", "p blocksize agblocks", f"path {copy}", "p core.size core.format", "bmap")
    numbers = dict(re.findall(r"^([\w.]+) = (\d+)", said, re.MULTILINE))
    if int(numbers.get("core.size", -1)) != PATTERN_BYTES or int(numbers.get("blocksize", 0)) != _BLOCK_BYTES:
        return f"{copy} is not there, or has other content ({numbers.get('core.size', 'no')} bytes)"
    content = bytearray(PATTERN_BYTES + _BLOCK_BYTES)
    with Path(path).open("rb") as image:
        for found in _EXTENT.findall(said)[:_MAX_EXTENTS]:
            at, group, block, count = map(int, found)
            start = at * _BLOCK_BYTES
            room = max(0, min(count * _BLOCK_BYTES, len(content) - start))
            image.seek((group * int(numbers.get("agblocks", 0)) + block) * _BLOCK_BYTES)
            part = image.read(room)
            content[start : start + len(part)] = part
    same = hashlib.sha256(content[:PATTERN_BYTES]).hexdigest() == PATTERN_SHA256
    return _CLEAN if same else f"{copy} has other content"


def _xfs_db(path: str, *requests: str) -> str:
    """What xfs_db answers; a file that is not there is an answer too."""
    words = [word for request in requests for word in ("-c", request)]
    done = run_tool("xfs_db", "-r", "-f", *words, path, package=_PACKAGE)
    return text_of(done.stdout)
