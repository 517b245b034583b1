"""Physical memory in a file: mapped, so that nothing is read before somebody asks for it.

May import the standard library, NumPy, `harness.errors` and what else is in this package.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import ChannelError, UsageError

__all__ = ["MAX_EXTENTS", "Extent", "MappedMemory"]

MAX_EXTENTS: Final = 1 << 14
"""More pieces than this are not a machine's memory but a damaged table of them."""
PA_LIMIT: Final = 1 << 56
"""No architecture of Arm's has wider physical addresses (ID_AA64MMFR0_EL1.PARange)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Where a piece of physical memory is in a file."""

    base_pa: int
    offset_bytes: int
    size_bytes: int

    @property
    def end_pa(self) -> int:
        """The first address after it."""
        return self.base_pa + self.size_bytes


class MappedMemory:
    """Physical memory by a map of a file; see `PhysicalMemory`. Close it when done.

    The file must not be shortened meanwhile: the kernel kills whoever reads a map beyond its file's end.
    Raises UsageError where extents overlap, leave the file or the 56 bits of a physical address, or are
    absurdly many, and where the file cannot be mapped; `path` is for messages and for opening.
    """

    def __init__(self, path: Path, extents: Iterable[Extent]) -> None:
        try:
            with path.open("rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                self._extents = _checked(extents, size_bytes, path)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot map {path}: {error}") from error
        self._whole = self._one_piece()

    def _one_piece(self) -> memoryview | None:
        """The bytes of memory that is in one piece, without a copy."""
        if len(self._extents) != 1:
            return None
        (only,) = self._extents
        return memoryview(self._map)[only.offset_bytes : only.offset_bytes + only.size_bytes]

    @property
    def ranges(self) -> tuple[range, ...]:
        """See PhysicalMemory."""
        joined: list[range] = []
        for extent in self._extents:
            if joined and joined[-1].stop == extent.base_pa:
                joined[-1] = range(joined[-1].start, extent.end_pa)
            else:
                joined.append(range(extent.base_pa, extent.end_pa))
        return tuple(joined)

    @property
    def contiguous(self) -> tuple[int, memoryview] | None:
        """See ContiguousMemory."""
        return None if self._whole is None else (self._extents[0].base_pa, self._whole)

    def read(self, pa: int, size_bytes: int) -> bytes:
        """See PhysicalMemory; raises ValueError after `close`."""
        pieces: list[bytes] = []
        at, end = pa, pa + size_bytes
        if size_bytes >= 0:
            for extent in self._extents:
                if extent.base_pa <= at < extent.end_pa:
                    start = extent.offset_bytes + at - extent.base_pa
                    taken = min(end, extent.end_pa) - at
                    pieces.append(self._map[start : start + taken])
                    at += taken
                if at == end:
                    return b"".join(pieces)
        raise ChannelError(f"physical range {pa:#x}+{size_bytes:#x} is not within the memory that is known")

    def close(self) -> None:
        """Unmap; safe to call again."""
        if self._whole is not None:
            self._whole.release()
        # A caller's array that still looks at the map keeps it until it goes.
        with contextlib.suppress(BufferError):
            self._map.close()


def _checked(extents: Iterable[Extent], file_bytes: int, path: Path) -> tuple[Extent, ...]:
    """Extents in order of addresses; raises UsageError where they cannot be memory in that file."""
    ordered = sorted(extents, key=lambda extent: extent.base_pa)
    if not ordered:
        raise UsageError(f"{path} holds no memory: it says nothing about where any would be")
    if len(ordered) > MAX_EXTENTS:
        raise UsageError(f"{path} is damaged: it claims {len(ordered)} pieces of memory")
    end_pa = 0
    for extent in ordered:
        what = f"memory at {extent.base_pa:#x}+{extent.size_bytes:#x}"
        if extent.base_pa < 0 or extent.size_bytes <= 0 or extent.end_pa > PA_LIMIT:
            raise UsageError(f"{path} is damaged: {what} is not within 56 bits of physical address")
        if extent.base_pa < end_pa:
            raise UsageError(f"{path} is damaged: {what} overlaps what is before it, up to {end_pa:#x}")
        if extent.offset_bytes < 0 or extent.offset_bytes + extent.size_bytes > file_bytes:
            missing = extent.offset_bytes + extent.size_bytes - file_bytes
            raise UsageError(f"{path} is truncated: {what} needs {missing} bytes more than the file has")
        end_pa = extent.end_pa
    return tuple(ordered)
