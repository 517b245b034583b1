"""Files that are mostly holes: guest RAM and disk images, read and copied for the price of their data."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator

__all__ = ["copy_data", "digest_of", "unnamed_file"]

READ_BYTES = 1 << 20
# A power of two that divides READ_BYTES, and no less than a page of any file system.
CHUNK_BYTES = 1 << 16
ZEROS = bytes(CHUNK_BYTES)
# As QEMU's own temporary layers (block.c): /tmp may be in memory, and a layer grows with what a guest writes.
LAYER_DIRECTORY = "/var/tmp"  # noqa: S108 - a file without a name


def unnamed_file() -> int:
    """A descriptor of a new file on a disk of this host's, gone when it is closed; OSError as open(2)."""
    where = os.environ.get("TMPDIR", LAYER_DIRECTORY)
    return os.open(where, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _extents(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Where data is, as start and end in bytes, rounded outwards to chunks and in order (lseek(2))."""
    position = 0
    while position < size_bytes:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        start = max(start // CHUNK_BYTES * CHUNK_BYTES, position)
        position = min(-(-end // CHUNK_BYTES) * CHUNK_BYTES, size_bytes)
        yield start, position


def _chunks(descriptor: int, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Every chunk that is not all zeros, with its offset; OSError when the file ends too soon."""
    for start, end in _extents(descriptor, size_bytes):
        for offset in range(start, end, READ_BYTES):
            wanted = min(READ_BYTES, end - offset)
            data = os.pread(descriptor, wanted, offset)
            if len(data) != wanted:
                raise OSError(errno.EIO, "it became shorter while it was read")
            for at in range(0, wanted, CHUNK_BYTES):
                chunk = data[at : at + CHUNK_BYTES]
                if chunk != ZEROS[: len(chunk)]:
                    yield offset + at, chunk


def copy_data(source: int, target: int, size_bytes: int) -> None:
    """Copy what is not zero to a file that is all zeros, so that a large sparse file costs only its data."""
    for offset, chunk in _chunks(source, size_bytes):
        done = 0
        while done < len(chunk):
            done += os.pwrite(target, chunk[done:], offset + done)


def digest_of(descriptor: int, size_bytes: int) -> str:
    """SHA-256, in hex, of the size and of every chunk that is not zero with its offset.

    The same for files of the same content, wherever their holes are. Raises OSError when the file is shorter.
    """
    if os.fstat(descriptor).st_size != size_bytes:
        raise OSError(errno.EIO, f"it has {os.fstat(descriptor).st_size} bytes and not {size_bytes}")
    digest = hashlib.sha256(b"%d" % size_bytes)
    for offset, chunk in _chunks(descriptor, size_bytes):
        digest.update(b"%d:" % offset)
        digest.update(chunk)
    return digest.hexdigest()
