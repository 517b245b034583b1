"""The blocks of a disk that is too large to copy: what a guest writes lies in a layer above the image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from harness.errors import InfraError, UsageError
from harness.hyperv.scsi.command import BLOCK_BYTES
from harness.memory.sparse import unnamed_file

__all__ = ["Layer"]

PAGE_BYTES: Final = 4096
"""What the layer has or has not, as a whole."""
_HERE, _BELOW = b"\1", b"\0"


class Layer:
    """A raw image, read-only, and a file without a name above it; a context manager, and closed by `close`.

    `read` and `write` raise OSError as pread(2) does, also where the host's disk is full.
    """

    def __init__(self, image: Path) -> None:
        """Raises UsageError where the image is none, InfraError where no layer can be made."""
        self._image = self._top = -1
        try:
            self._image = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"cannot open the disk image {image}: {error.strerror}") from error
        try:
            size_bytes = os.fstat(self._image).st_size
            if size_bytes <= 0 or size_bytes % BLOCK_BYTES:
                raise UsageError(
                    f"the disk {image.name} has {size_bytes} bytes: a multiple of {BLOCK_BYTES} is wanted"
                )
            self.blocks = size_bytes // BLOCK_BYTES
            self._written = bytearray(-(-size_bytes // PAGE_BYTES))
            self._top = unnamed_file()
            os.ftruncate(self._top, size_bytes)
        except OSError as error:
            self.close()
            raise InfraError(f"cannot make a layer above the disk image {image}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def read(self, lba: int, size_bytes: int) -> bytes:
        """Bytes from the beginning of a block on."""
        start = lba * BLOCK_BYTES
        parts = (os.pread(file, length, at) for file, at, length in self._runs(start, start + size_bytes))
        return b"".join(parts)

    def write(self, lba: int, data: bytes) -> None:
        """Store bytes at the beginning of a block; the image keeps its own."""
        if not data:
            return
        start, end = lba * BLOCK_BYTES, lba * BLOCK_BYTES + len(data)
        first, last = start // PAGE_BYTES, -(-end // PAGE_BYTES)
        for page, whole in ((first, start % PAGE_BYTES == 0), (last - 1, end % PAGE_BYTES == 0)):
            if not whole and not self._written[page]:
                self._store(os.pread(self._image, PAGE_BYTES, page * PAGE_BYTES), page * PAGE_BYTES)
        self._store(data, start)
        self._written[first:last] = _HERE * (last - first)

    def clear(self, lba: int, blocks: int) -> None:
        """Make blocks read as zeros."""
        self.write(lba, bytes(blocks * BLOCK_BYTES))

    def _store(self, data: bytes, at: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._top, data[done:], at + done)

    def _runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Where the bytes from `start` to `end` are: a file, the place in it, and how many."""
        while start < end:
            page = start // PAGE_BYTES
            here = bool(self._written[page])
            change = self._written.find(_BELOW if here else _HERE, page, -(-end // PAGE_BYTES))
            stop = end if change < 0 else min(end, change * PAGE_BYTES)
            yield (self._top if here else self._image), start, stop - start
            start = stop

    def close(self) -> None:
        """Let go of both files, and of what was written; safe to call again."""
        for descriptor in (self._top, self._image):
            if descriptor >= 0:
                os.close(descriptor)
        self._top = self._image = -1

    def __enter__(self) -> Layer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
