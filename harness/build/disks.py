"""Disk images for the checks: made, and afterwards judged, by the host's own e2fsprogs.

The host is the second opinion: what a guest's ext4 wrote is read back by a program that shares no code
and no page size with it.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import tempfile
from pathlib import Path

from harness.cache import Cache
from harness.errors import InfraError, ToolMissing
from harness.spec import Disk, PageSize

__all__ = ["PATTERN_SHA256", "block_sizes_for", "check_ext4", "ext4_disk"]

# Sparse: it costs what is written. A journal takes 1024 blocks at least, and half of the file system at most.
IMAGE_BYTES = 256 << 20
JOURNAL_BLOCKS = 1024
# Not a multiple of any page or block size, so that the last block is partly used.
PATTERN_BYTES = (1 << 20) + 3 * 4096 + 1234
EXT4_BLOCK_LIMIT_BYTES = 1 << 16  # include/linux/ext4_fs: EXT4_MAX_BLOCK_SIZE
TOOL_S = 60
IMAGE_FORMAT = 1  # part of the cache key: raise it when the recipe below changes


def _pattern() -> bytes:
    return random.Random(0).randbytes(PATTERN_BYTES)  # noqa: S311 - content to compare, not a secret


PATTERN_SHA256 = hashlib.sha256(_pattern()).hexdigest()


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
        Path(root, "pattern").write_bytes(_pattern())
        _run(
            *("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(block_bytes), "-N", "64", "-I", "256"),
            *(
                "-O",
                "^resize_inode,^metadata_csum_seed,^orphan_file",
                "-U",
                "6772616e-756c-6500-0000-000000000001",
            ),
            *(
                "-E",
                "root_owner=0:0,lazy_itable_init=0",
                "-J",
                f"size={max(4, JOURNAL_BLOCKS * block_bytes >> 20)}",
                "-d",
                root,
                str(image),
            ),
            str(IMAGE_BYTES // block_bytes),
        )


def check_ext4(path: str, copy: str) -> str:
    """What is wrong with an image: `clean, same content` if e2fsck is content and `copy` has the pattern."""
    done = _run("e2fsck", "-f", "-n", path, check=False)
    if done.returncode != 0:
        return f"e2fsck: {(done.stdout + done.stderr).strip()[-300:]}"
    # debugfs prints its version on stderr, so the content is written to a file and not to stdout.
    with tempfile.NamedTemporaryFile() as dumped:
        _run("debugfs", "-R", f"dump {copy} {dumped.name}", path, check=False)
        content = os.pread(dumped.fileno(), 2 * PATTERN_BYTES, 0)
    if hashlib.sha256(content).hexdigest() != PATTERN_SHA256:
        return f"{copy} has other content ({len(content)} bytes)"
    return "clean, same content"


def _run(tool: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    # e2fsprogs live in sbin, which is not on an ordinary user's PATH in Debian.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    try:
        done = subprocess.run(
            (tool, *arguments), capture_output=True, text=True, errors="replace", check=False,
            timeout=TOOL_S, env={**os.environ, "PATH": path, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise ToolMissing(tool, package="e2fsprogs") from None
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"{tool} did not end within {TOOL_S} s") from error
    if check and done.returncode != 0:
        raise InfraError(f"{tool} failed with status {done.returncode}: {done.stderr.strip()[-300:]}")
    return done
