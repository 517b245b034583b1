"""Disk images for the checks: made, and afterwards judged, by the host's own e2fsprogs.

The host is the second opinion: what a guest's ext4 wrote is read back by a program that shares no code
and no page size with it.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import tempfile
from pathlib import Path

from harness.build.disk_tools import failed, raise_for_host, run_tool, text_of
from harness.cache import Cache
from harness.errors import InfraError
from harness.spec import Disk, PageSize

__all__ = [
    "PATTERN_BYTES",
    "PATTERN_SHA256",
    "block_sizes_for",
    "check_ext4",
    "ext4_disk",
    "pattern",
    "prepare_disks",
]

# Sparse: it costs what is written. A journal takes 1024 blocks at least, and half of the file system at most.
IMAGE_BYTES = 256 << 20
JOURNAL_BLOCKS = 1024
# Not a multiple of any page or block size, so that the last block is partly used.
PATTERN_BYTES = (1 << 20) + 3 * 4096 + 1234
EXT4_BLOCK_LIMIT_BYTES = 1 << 16  # include/linux/ext4_fs: EXT4_MAX_BLOCK_SIZE
IMAGE_FORMAT = 1  # part of the cache key: raise it when the recipe below changes
# e2fsck(8), EXIT CODE, is a sum: 1, 2 and 4 speak of the file system, and 8 too when its superblock is gone.
E2FSCK_OF_IMAGE = 1 | 2 | 4 | 8


def pattern() -> bytes:
    """The content of the file that the images begin with."""
    return random.Random(0).randbytes(PATTERN_BYTES)  # noqa: S311 - content to compare, not a secret


PATTERN_SHA256 = hashlib.sha256(pattern()).hexdigest()


def block_sizes_for(page: PageSize) -> tuple[int, ...]:
    """Block sizes to try at a page size, in bytes: one below, the page size, and one above if ext4 has it."""
    below = 1024 if page is PageSize.K4 else 4096
    above = page.bytes * 4
    return (below, page.bytes, *((above,) if above <= EXT4_BLOCK_LIMIT_BYTES else ()))


def ext4_disk(cache: Cache, block_bytes: int) -> Disk:
    """A sparse 256 MiB ext4 image of that block size with one file, `/pattern`; serial `ext4-BLOCKSIZE`."""
    key = f"ext4-{block_bytes}-v{IMAGE_FORMAT}"
    made = cache.make("disks", key, lambda directory: _make_ext4(directory / "disk.img", block_bytes))
    return Disk(path=made / "disk.img", serial=f"ext4-{block_bytes}")


def _make_ext4(image: Path, block_bytes: int) -> None:
    with tempfile.TemporaryDirectory(dir=image.parent) as root:
        Path(root, "pattern").write_bytes(pattern())
        done = run_tool(
            *("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(block_bytes), "-N", "64", "-I", "256"),
            *("-O", "^resize_inode,^metadata_csum_seed,^orphan_file"),
            *("-U", "6772616e-756c-6500-0000-000000000001"),
            *("-E", "root_owner=0:0,lazy_itable_init=0"),
            *("-J", f"size={max(4, JOURNAL_BLOCKS * block_bytes >> 20)}"),
            *("-d", root, str(image), str(IMAGE_BYTES // block_bytes)),
        )
    if done.returncode != 0:
        raise failed("mke2fs", done)


def prepare_disks(cache: Cache, page: PageSize) -> tuple[Disk, ...]:
    """The disks of `block_sizes_for(page)`, made unless they are cached; raises as `ext4_disk` does.

    Whoever calls this first makes them in a thread of its choice: one that Ctrl-C reaches.
    """
    return tuple(ext4_disk(cache, block_bytes) for block_bytes in block_sizes_for(page))


def check_ext4(path: str, copy: str) -> str:
    """What is wrong with an image: `clean, same content` if e2fsck is content and `copy` has the pattern.

    Only a file of the right length is read, so a guest cannot fill the host's memory. Raises InfraError for
    what the host is to blame for, ToolMissing without e2fsprogs.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise InfraError(f"cannot open the guest's disk {path} to check it: {error.strerror}") from error
    done = run_tool("e2fsck", "-f", "-n", path)
    if done.returncode & ~E2FSCK_OF_IMAGE:  # and a signal's negative number
        raise failed("e2fsck", done)
    if done.returncode != 0:
        raise_for_host("e2fsck", done)
        return f"e2fsck: {(text_of(done.stdout) + text_of(done.stderr)).strip()[-300:]}"
    size_bytes = _size_of(path, copy)
    if size_bytes is None:
        return f"{copy} is not there, or is no regular file"
    if size_bytes != PATTERN_BYTES:
        return f"{copy} has other content ({size_bytes} bytes)"
    content = _debugfs(f"cat {copy}", path).stdout
    if hashlib.sha256(content).hexdigest() != PATTERN_SHA256:
        return f"{copy} has other content ({len(content)} bytes)"
    return "clean, same content"


def _size_of(path: str, name: str) -> int | None:
    """The length in bytes of a regular file in an image; None where there is no such file."""
    said = text_of(_debugfs(f"stat {name}", path).stdout)
    found = re.search(r"^User:.*\bSize: (\d+)$", said, re.MULTILINE)
    return int(found[1]) if found and re.search(r"\bType: regular\b", said) else None


def _debugfs(request: str, path: str) -> subprocess.CompletedProcess[bytes]:
    """Ask debugfs, which ends with 0 whatever happened: what went wrong is on stderr, with its version."""
    done = run_tool("debugfs", "-R", request, path)
    if done.returncode != 0:
        raise failed("debugfs", done)
    raise_for_host("debugfs", done)
    return done
