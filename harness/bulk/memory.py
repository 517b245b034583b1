"""Where tables are read from, many at a time.

`Ram` is a buffer, gathered from without a copy of the whole; `Reads` is any reader of physical memory, asked
once per table. May import NumPy and `harness.vmsa` only.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.bulk.columns import Bools, Words
from harness.vmsa.walk import Memory, read

__all__ = ["Buffer", "Ram", "Reads", "TableSource"]


Buffer = bytes | bytearray | memoryview | mmap.mmap | NDArray[Any]


class TableSource(Protocol):
    """Something that translation tables can be read from."""

    def words(self, pa: int, count: int, *, big_endian: bool) -> Words | None:
        """The `count` descriptors at a physical address, or None where any of it is not memory."""
        ...

    def tables(self, pas: Words, size_bytes: int, *, big_endian: bool) -> tuple[Words, Bools]:
        """The tables at those addresses, a row each, of `size_bytes`, which the addresses are multiples of.

        Tables that are not wholly in memory have no row, and False in the mask that goes with the rows.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Ram:
    """Physical memory from `base_pa` on, in a buffer: bytes, an mmap, a np.memmap, any contiguous array.

    Nothing is held but the buffer itself: every call looks at it anew and returns copies, so that a map can
    be closed afterwards. Raises ValueError for a negative base and a buffer that is not contiguous.
    """

    buffer: Buffer
    base_pa: int = 0

    def __post_init__(self) -> None:
        if self.base_pa < 0:
            raise ValueError(f"{self.base_pa:#x} is not a physical address")
        np.frombuffer(self.buffer, np.uint8)

    def words(self, pa: int, count: int, *, big_endian: bool) -> Words | None:
        """See TableSource."""
        at = pa - self.base_pa
        if at < 0 or at + 8 * count > np.frombuffer(self.buffer, np.uint8).size:
            return None
        return np.frombuffer(self.buffer, _stored(big_endian), count, at).astype(np.uint64)

    def tables(self, pas: Words, size_bytes: int, *, big_endian: bool) -> tuple[Words, Bools]:
        """See TableSource."""
        count = size_bytes // 8
        first_pa = self.base_pa + -self.base_pa % size_bytes
        whole = max(0, self.base_pa + np.frombuffer(self.buffer, np.uint8).size - first_pa) // size_bytes
        if not whole or first_pa >> 63:
            return np.empty((0, count), np.uint64), np.zeros(len(pas), np.bool_)
        # Addresses below the first wrap, and are far beyond the last.
        rows = (pas - np.uint64(first_pa)) // np.uint64(size_bytes)
        there = rows < np.uint64(whole)
        stored = np.frombuffer(self.buffer, _stored(big_endian), whole * count, first_pa - self.base_pa)
        wanted = (rows if there.all() else rows[there]).astype(np.intp)
        found = stored.reshape(whole, count).take(wanted, axis=0)
        return found.astype(np.uint64, copy=False), there


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """Physical memory behind a reader, such as a clone's, whose memory cannot be mapped."""

    memory: Memory

    def words(self, pa: int, count: int, *, big_endian: bool) -> Words | None:
        """See TableSource."""
        data = read(self.memory, pa, 8 * count)
        return None if data is None else np.frombuffer(data, _stored(big_endian)).astype(np.uint64)

    def tables(self, pas: Words, size_bytes: int, *, big_endian: bool) -> tuple[Words, Bools]:
        """See TableSource."""
        found = [read(self.memory, pa, size_bytes) for pa in pas.tolist()]
        there = np.array([data is not None for data in found], np.bool_)
        joined = b"".join(data for data in found if data is not None)
        words = np.frombuffer(joined, _stored(big_endian)).astype(np.uint64, copy=False)
        return words.reshape(-1, size_bytes // 8), there


def _stored(big_endian: bool) -> np.dtype[np.uint64]:
    return np.dtype(">u8" if big_endian else "<u8")
