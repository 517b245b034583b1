"""/proc/kpageflags: what the kernel says a frame is used for.

Source: Linux Documentation/admin-guide/mm/pagemap.rst; include/uapi/linux/kernel-page-flags.h;
fs/proc/page.c, stable_page_flags(). May import the standard library only.
"""

from __future__ import annotations

import struct
from enum import IntFlag

__all__ = ["PageFlag", "parse_kpageflags"]

LIMIT_BYTES = 64 << 20


class PageFlag(IntFlag):
    """Bits of a word; the names are those of KPF_*."""

    LRU = 1 << 5
    BUDDY = 1 << 10
    MMAP = 1 << 11
    ANON = 1 << 12
    COMPOUND_HEAD = 1 << 15
    COMPOUND_TAIL = 1 << 16
    HUGE = 1 << 17
    """Of hugetlb."""
    NOPAGE = 1 << 20
    THP = 1 << 22
    ZERO_PAGE = 1 << 24
    """The zero page, or a part of the huge one."""
    PGTABLE = 1 << 26
    """Holds tables. A process's; tables that were made before the page allocator are not marked."""
    RESERVED = 1 << 32

    @property
    def is_compound(self) -> bool:
        """Part of an allocation of several frames."""
        return bool(self & (PageFlag.COMPOUND_HEAD | PageFlag.COMPOUND_TAIL))


def parse_kpageflags(raw: bytes) -> tuple[int, ...]:
    """Words of the file, as many as are whole in the first 64 MiB."""
    whole = raw[: min(len(raw), LIMIT_BYTES) // 8 * 8]
    return tuple(word for (word,) in struct.iter_unpack("<Q", whole))
