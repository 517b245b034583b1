"""The blocks of a disk: a private copy of an image in memory, so that no guest writes to the user's file."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

from harness.errors import InfraError, UsageError
from harness.hyperv.scsi.command import BLOCK_BYTES
from harness.memory.sparse import copy_data

__all__ = ["Backing", "Blocks"]

_PAGE_BYTES = mmap.PAGESIZE
_ZEROS = bytes(1 << 20)


class Blocks(Protocol):
    """What a disk is carried out on: offsets and lengths are within it, OSError is a medium error."""

    blocks: int
    """How many."""

    def read(self, lba: int, size_bytes: int) -> bytes:
        """Bytes from the beginning of a block on."""

    def write(self, lba: int, data: bytes) -> None:
        """Store whole blocks at the beginning of one."""

    def clear(self, lba: int, blocks: int) -> None:
        """Make blocks read as zeros."""


class Backing:
    """A memory file of `blocks` blocks; a context manager, and closed by `close`.

    Offsets and lengths are the caller's to check. `read` and `write` raise OSError as pread(2) does.
    """

    def __init__(self, size_bytes: int, name: str = "disk") -> None:
        """A disk of zeros; raises UsageError where the size is no multiple of a block."""
        if size_bytes <= 0 or size_bytes % BLOCK_BYTES:
            raise UsageError(
                f"the disk {name} would have {size_bytes} bytes: a multiple of {BLOCK_BYTES} is wanted"
            )
        self.blocks = size_bytes // BLOCK_BYTES
        self._descriptor = os.memfd_create(f"granule-{name}", os.MFD_CLOEXEC)
        self._map: mmap.mmap | None = None
        try:
            os.ftruncate(self._descriptor, size_bytes)
            self._map = mmap.mmap(self._descriptor, size_bytes)
        except OSError as error:
            self.close()
            raise InfraError(f"no memory for a disk of {size_bytes} bytes: {error.strerror}") from error

    @classmethod
    def copy_of(cls, image: Path) -> Backing:
        """A copy of a raw image; raises UsageError where it cannot be read or is no multiple of a block."""
        try:
            with image.open("rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                made = cls(size_bytes, image.name[:200])
                try:
                    copy_data(file.fileno(), made._descriptor, size_bytes)
                except BaseException:
                    made.close()
                    raise
        except OSError as error:
            raise UsageError(f"cannot copy the disk image {image}: {error.strerror}") from error
        return made

    @property
    def path(self) -> str:
        """Where the host's tools find the copy while it is open."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def read(self, lba: int, size_bytes: int) -> bytes:
        """Bytes from the beginning of a block on."""
        return os.pread(self._descriptor, size_bytes, lba * BLOCK_BYTES)

    def write(self, lba: int, data: bytes) -> None:
        """Store bytes at the beginning of a block."""
        done, at = 0, lba * BLOCK_BYTES
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], at + done)

    def clear(self, lba: int, blocks: int) -> None:
        """Make blocks read as zeros, giving their memory back where whole pages are among them."""
        start, end = lba * BLOCK_BYTES, (lba + blocks) * BLOCK_BYTES
        first, last = -(-start // _PAGE_BYTES) * _PAGE_BYTES, end // _PAGE_BYTES * _PAGE_BYTES
        if first >= last or self._map is None:
            self._zero(start, end)
            return
        self._zero(start, first)
        self._map.madvise(mmap.MADV_REMOVE, first, last - first)
        self._zero(last, end)

    def _zero(self, start: int, end: int) -> None:
        while start < end:
            start += os.pwrite(self._descriptor, _ZEROS[: end - start], start)

    def close(self) -> None:
        """Give the memory back; safe to call again."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Backing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
