"""A guest's physical memory while its vCPUs run: every address and length that it names is checked.

Both sides write at once. What both read and write is one aligned 32-bit word, loaded and stored whole:
`struct` and `memoryview` copy such a word with one instruction on little-endian hosts. `fence` orders stores
before loads on x86; see docs/hyperv.md for hosts of other kinds.
"""

from __future__ import annotations

import mmap
import threading
from typing import Final

from harness.hyperv.violation import Rule, Violated
from harness.memory.ram import RAM_BASE_PA

__all__ = ["HV_PAGE_BYTES", "HV_PAGE_SHIFT", "GuestMemory", "fence"]

HV_PAGE_SHIFT: Final = 12
HV_PAGE_BYTES: Final = 1 << HV_PAGE_SHIFT
"""HV_HYP_PAGE_SIZE: the unit of everything on the wire, whatever the guest's page size."""

_FENCE = threading.Lock()


def fence() -> None:
    """A full barrier on x86, where taking a lock is a locked instruction."""
    with _FENCE:
        pass


class GuestMemory:
    """RAM in one piece at `base_pa`; close it when done.

    Every method raises Violated (Rule.MEMORY) for what is not RAM, before anything is read or written.
    """

    def __init__(self, buffer: bytearray | mmap.mmap | memoryview, base_pa: int = RAM_BASE_PA) -> None:
        self.base_pa = base_pa
        self._bytes = memoryview(buffer).cast("B")
        self.size_bytes = len(self._bytes) & ~(HV_PAGE_BYTES - 1)
        self._words = self._bytes[: self.size_bytes].cast("I")

    def _offset(self, pa: int, size_bytes: int) -> int:
        offset = pa - self.base_pa
        if offset < 0 or size_bytes < 0 or offset + size_bytes > self.size_bytes:
            raise Violated(Rule.MEMORY, f"physical range {pa:#x}+{size_bytes:#x} is not within RAM")
        return offset

    def _word(self, pa: int) -> int:
        if pa & 3:
            raise Violated(Rule.MEMORY, f"the 32-bit word at {pa:#x} is not aligned")
        return self._offset(pa, 4) >> 2

    def read(self, pa: int, size_bytes: int) -> bytes:
        """A copy of the bytes at `pa`."""
        offset = self._offset(pa, size_bytes)
        return bytes(self._bytes[offset : offset + size_bytes])

    def write(self, pa: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes at `pa`."""
        offset = self._offset(pa, len(data))
        self._bytes[offset : offset + len(data)] = data

    def load32(self, pa: int) -> int:
        """The aligned little-endian word at `pa`, read whole."""
        return self._words[self._word(pa)]

    def store32(self, pa: int, value: int) -> None:
        """Store an aligned word at `pa`, whole."""
        self._words[self._word(pa)] = value & 0xFFFF_FFFF

    def has_page(self, pfn: int) -> bool:
        """True when the 4 KiB page of that number is RAM."""
        return self.base_pa <= pfn << HV_PAGE_SHIFT < self.base_pa + self.size_bytes

    def close(self) -> None:
        """Let go of the buffer; safe to call again."""
        self._words.release()
        self._bytes.release()
