"""The tables of a stopped guest, kept as they are read, so that questions can be asked once it runs again.

May import `harness.vmsa`.
"""

from __future__ import annotations

from harness.vmsa import Memory
from harness.vmsa.walk import read

__all__ = ["CopiedTables"]


class CopiedTables:
    """A reader of physical memory that keeps every granule it has read; after `close` it knows no others."""

    def __init__(self, memory: Memory, granule_bytes: int) -> None:
        self._memory: Memory | None = memory
        self._granule_bytes = granule_bytes
        self._kept: dict[int, bytes | None] = {}

    def read(self, pa: int, size_bytes: int) -> bytes | None:
        """The bytes at a physical address, or None where any of them is not memory or was not kept."""
        first = pa - pa % self._granule_bytes
        pieces = [self._granule(at) for at in range(first, pa + size_bytes, self._granule_bytes)]
        if any(piece is None for piece in pieces):
            return None
        joined = b"".join(piece for piece in pieces if piece is not None)
        return joined[pa - first : pa - first + size_bytes]

    def close(self) -> None:
        """Read no more: the guest goes on."""
        self._memory = None

    def _granule(self, pa: int) -> bytes | None:
        if pa not in self._kept:
            if self._memory is None:
                return None
            self._kept[pa] = read(self._memory, pa, self._granule_bytes)
        return self._kept[pa]
