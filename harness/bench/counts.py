"""What the plugin writes (harness/bench/plugin/count.c): how often each instruction ran between two marks.

All numbers are little-endian. May import harness.errors, numpy and the standard library.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.errors import InfraError

__all__ = ["Interval", "read_intervals"]

MAGIC: Final = b"granules"
_HEAD: Final = struct.Struct("<8sQQ")
_ENTRY: Final = np.dtype([("va", "<u8"), ("count", "<u8"), ("opcode", "<u4"), ("zero", "<u4")])
ENTRIES_LIMIT: Final = 1 << 22
"""Instructions of a kernel's text of 16 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One sample: from mark to mark."""

    user: int
    """Instructions of user space."""
    entries: NDArray[Any]
    """The kernel's: `va`, `count`, `opcode` of each that ran."""

    @property
    def kernel(self) -> int:
        """Instructions of the kernel."""
        return int(self.entries["count"].sum())

    def executed(self, va: int) -> int:
        """How often the kernel's instruction at an address ran."""
        return int(self.entries["count"][self.entries["va"] == np.uint64(va)].sum())

    @property
    def total(self) -> int:
        """All of them; one that faults and is repeated counts twice."""
        return self.user + self.kernel


def read_intervals(data: bytes) -> Iterator[Interval]:
    """The samples in the order they were taken; raises InfraError where the file is cut or damaged."""
    at = 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise InfraError("the plugin's counts end within a head: QEMU was ended while it wrote them")
        magic, user, count = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if magic != MAGIC or count > ENTRIES_LIMIT:
            raise InfraError(f"the plugin's counts are damaged at byte {at - _HEAD.size}")
        if at + count * _ENTRY.itemsize > len(data):
            raise InfraError("the plugin's counts end within a sample: QEMU was ended while it wrote them")
        yield Interval(user=user, entries=np.frombuffer(data, _ENTRY, count, at))
        at += count * _ENTRY.itemsize
