"""A guest's RAM, read from outside while its vCPUs are stopped.

RAM is an anonymous memory file that we make and QEMU maps. A machine that maps it shared is read through
our own map of the file; a clone, whose writes are private to its QEMU, through /proc/PID/mem.
"""

from __future__ import annotations

import mmap
import os
from typing import Protocol, runtime_checkable

from harness.errors import ChannelError

__all__ = [
    "RAM_BASE_PA",
    "ContiguousMemory",
    "PhysicalMemory",
    "PrivateRam",
    "SharedRam",
    "WritableMemory",
    "make_ram",
]

RAM_BASE_PA = 0x4000_0000
"""Where the `virt` machine puts RAM, in one block (QEMU hw/arm/virt.c, `base_memmap`)."""

BULK_BYTES = 1 << 20
"""Reads from this size on leave the holes of a memory file alone."""


class PhysicalMemory(Protocol):
    """Something that answers reads of a guest's physical memory."""

    @property
    def ranges(self) -> tuple[range, ...]:
        """The physical addresses that are there, in order."""
        ...

    def read(self, pa: int, size_bytes: int) -> bytes:
        """The bytes at physical address `pa`; raises ChannelError when any of them is not RAM."""
        ...


class WritableMemory(PhysicalMemory, Protocol):
    """Memory of a stopped machine, which faults can be planted in."""

    def write(self, pa: int, data: bytes) -> None:
        """Store bytes at physical address `pa`; raises ChannelError when any of them is not RAM."""
        ...


@runtime_checkable
class ContiguousMemory(PhysicalMemory, Protocol):
    """Memory of which NumPy may take whole tables at once, where it is in one piece."""

    @property
    def contiguous(self) -> tuple[int, mmap.mmap | memoryview] | None:
        """The physical address of the first byte, and all bytes without a copy; None: in several pieces.

        The buffer is good until the memory is closed.
        """
        ...


def make_ram(size_mib: int) -> int:
    """A file descriptor of an anonymous memory file of that size; it takes memory only as it is written."""
    descriptor = os.memfd_create("granule-ram", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size_mib << 20)
    return descriptor


def _offset(pa: int, size_bytes: int, ram_bytes: int) -> int:
    offset = pa - RAM_BASE_PA
    if offset < 0 or size_bytes < 0 or offset + size_bytes > ram_bytes:
        end_pa = RAM_BASE_PA + ram_bytes
        raise ChannelError(
            f"physical range {pa:#x}+{size_bytes:#x} is not within RAM [{RAM_BASE_PA:#x}, {end_pa:#x})"
        )
    return offset


class SharedRam:
    """RAM whose file QEMU maps shared: a map of our own shows every write at once."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._map = mmap.mmap(descriptor, size_bytes)
        self._descriptor = os.dup(descriptor)

    @property
    def ranges(self) -> tuple[range, ...]:
        """See PhysicalMemory."""
        return (range(RAM_BASE_PA, RAM_BASE_PA + len(self._map)),)

    @property
    def contiguous(self) -> tuple[int, mmap.mmap]:
        """See ContiguousMemory."""
        return RAM_BASE_PA, self._map

    def read(self, pa: int, size_bytes: int) -> bytes:
        """See PhysicalMemory."""
        offset = _offset(pa, size_bytes, len(self._map))
        if size_bytes >= BULK_BYTES:
            # A read through the map gives a hole in the file a page of its own: saving a large guest, most
            # of which it has never touched, would take its whole size of host memory (mm/shmem.c).
            data = os.pread(self._descriptor, size_bytes, offset)
            if len(data) == size_bytes:
                return data
        return self._map[offset : offset + size_bytes]

    def write(self, pa: int, data: bytes) -> None:
        """See WritableMemory."""
        offset = _offset(pa, len(data), len(self._map))
        self._map[offset : offset + len(data)] = data

    def close(self) -> None:
        """Unmap; safe to call again."""
        if not self._map.closed:
            self._map.close()
            os.close(self._descriptor)


class PrivateRam:
    """RAM that QEMU maps copy-on-write, read from QEMU's own address space.

    `hva` is where QEMU mapped it: QMP's `gpa2hva` of RAM_BASE_PA. Works for a child of this process, which
    the kernel lets us trace (ptrace(2), PTRACE_MODE_ATTACH_FSCREDS).
    """

    def __init__(self, pid: int, hva: int, size_bytes: int) -> None:
        self._descriptor = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self._hva = hva
        self._size_bytes = size_bytes

    @property
    def ranges(self) -> tuple[range, ...]:
        """See PhysicalMemory."""
        return (range(RAM_BASE_PA, RAM_BASE_PA + self._size_bytes),)

    def read(self, pa: int, size_bytes: int) -> bytes:
        """See PhysicalMemory."""
        offset = _offset(pa, size_bytes, self._size_bytes)
        data = os.pread(self._descriptor, size_bytes, self._hva + offset)
        if len(data) != size_bytes:
            raise ChannelError(f"QEMU's memory gave {len(data)} of {size_bytes} bytes at {pa:#x}")
        return data

    def write(self, pa: int, data: bytes) -> None:
        """See WritableMemory."""
        offset = _offset(pa, len(data), self._size_bytes)
        if os.pwrite(self._descriptor, data, self._hva + offset) != len(data):
            raise ChannelError(f"QEMU's memory did not take {len(data)} bytes at {pa:#x}")

    def close(self) -> None:
        """Let go of QEMU's memory."""
        os.close(self._descriptor)
