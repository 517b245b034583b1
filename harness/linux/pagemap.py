"""/proc/PID/pagemap: the frame behind each page of a process.

Source: Linux Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c, pte_to_pagemap_entry(). A page
that is `present` may be one that hardware cannot use: PROT_NONE takes away the valid bit and leaves the rest
(arch/arm64/include/asm/pgtable-prot.h, PTE_PRESENT_INVALID).
May import NumPy, `harness.vmsa.field` and the standard library.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.vmsa.field import Field, Flag

__all__ = ["PagemapWord", "Pages", "parse_pagemap", "parse_pages"]

LIMIT_BYTES = 64 << 20
_RECORD_WORDS: Final = 3

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class PagemapWord:
    """One word, which stands for one page of the base size, of a huge page too."""

    word: int

    pfn = Field(54, 0)
    """Of a page that is present: its frame, in base pages; 0 where the reader lacks CAP_SYS_ADMIN."""
    swap_type = Field(4, 0)
    swap_offset = Field(54, 5)
    soft_dirty = Flag(55)
    exclusive = Flag(56)
    """Mapped by nobody else."""
    uffd_wp = Flag(57)
    file = Flag(61)
    """Of a file, or shared."""
    swapped = Flag(62)
    present = Flag(63)


def parse_pagemap(raw: bytes) -> tuple[PagemapWord, ...]:
    """Words of the file, as many as are whole in the first 64 MiB."""
    whole = raw[: min(len(raw), LIMIT_BYTES) // 8 * 8]
    return tuple(PagemapWord(word) for (word,) in struct.iter_unpack("<Q", whole))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pages:
    """Pages of a process as columns of one length, in order of addresses, each address once."""

    va: Words
    word: Words
    """From pagemap; never 0."""
    flags: Words
    """From kpageflags; 0 for a page that is not present."""

    def __len__(self) -> int:
        return len(self.va)

    @property
    def pfn(self) -> Words:
        """Frames of pages that are present."""
        return self.word & np.uint64(PagemapWord.pfn.mask)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Where a page has a frame."""
        return self._has(PagemapWord.present)

    @property
    def swapped(self) -> NDArray[np.bool_]:
        """Where a page is elsewhere: in swap, or under way."""
        return self._has(PagemapWord.swapped)

    def _has(self, flag: Flag) -> NDArray[np.bool_]:
        there: NDArray[np.bool_] = (self.word & np.uint64(flag.mask)) != 0
        return there


def parse_pages(raw: bytes) -> Pages:
    """What `probe pages PID` prints (guests/programs/probe/pages.c): address, pagemap, kpageflags of a page.

    Takes the records that are whole in the first 64 MiB; of an address that comes twice, the first.
    """
    size_bytes = 8 * _RECORD_WORDS
    whole = min(len(raw), LIMIT_BYTES) // size_bytes * size_bytes
    table = np.frombuffer(raw[:whole], "<u8").astype(np.uint64).reshape(-1, _RECORD_WORDS)
    table = table[table[:, 1] != 0]
    va, first = np.unique(table[:, 0], return_index=True)
    return Pages(va=va, word=table[first, 1], flags=table[first, 2])
