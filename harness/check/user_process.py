"""A process as its kernel tells of it, and as its tables were meanwhile: what the rules are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.bulk import Leaves, Reads, Rights, permissions, walk_all
from harness.bulk.leaves import addresses
from harness.check.user_capture import Captured
from harness.check.user_held import Held
from harness.linux.pagemap import PagemapWord, Pages
from harness.linux.smaps import Smap
from harness.verdict import Finding
from harness.vmsa import Fault, walk

__all__ = ["Observed", "Process", "Ranges", "View", "told"]

SHOWN = 3

Bools = NDArray[np.bool_]
Index = NDArray[np.intp]
Words = NDArray[np.uint64]

# What decides which page it is: not who else maps it, nor whether somebody has looked.
COMPARED = PagemapWord.pfn.mask | PagemapWord.file.mask | PagemapWord.swapped.mask | PagemapWord.present.mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the kernel said of a process at one time."""

    smaps: tuple[Smap, ...]
    pages: Pages = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What the kernel says of a process, asked before and after its tables were read."""

    held: Held
    before: Observed
    after: Observed
    table_flags: Mapping[int, int]
    """kpageflags by frame, of the frames that its tables lie in."""
    tables_are_pxn: bool
    """Its kernel sets PXNTable above user addresses: Linux commit 59511cfd08f3 ("arm64: mm: use XN table
    mapping attributes for user/kernel mappings") (in v5.13)."""
    folds: bool | None
    """Its kernel makes contiguous groups of large folios (CONFIG_ARM64_CONTPTE, in v6.9); None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranges:
    """The ranges of a process as columns."""

    smaps: tuple[Smap, ...]
    start: Words
    end: Words

    @classmethod
    def of(cls, smaps: tuple[Smap, ...]) -> Ranges:
        """In order of addresses."""
        smaps = tuple(sorted(smaps, key=lambda one: one.vma.start_va))
        return cls(
            smaps=smaps,
            start=np.array([one.vma.start_va for one in smaps], np.uint64),
            end=np.array([one.vma.end_va for one in smaps], np.uint64),
        )

    def around(self, va: Words, end: Words) -> Index:
        """The range that each [va, end) lies in as a whole, or -1."""
        at = np.searchsorted(self.start, va, side="right") - 1
        if not len(self.smaps):
            return at
        return np.where((at >= 0) & (end <= self.end[at]), at, -1)

    def where(self, holds: Callable[[Smap], bool], at: Index) -> Bools:
        """Whether something holds of the range that each index, which is not -1, stands for."""
        return np.array([*map(holds, self.smaps), False], np.bool_)[at]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """Both sides, brought together."""

    captured: Captured
    process: Process
    leaves: Leaves
    rights: Rights
    ranges: Ranges
    around: Index
    """By leaf, the range that it lies in, or -1."""
    pages: Pages
    """Those that were the same before and after."""
    unstable: int
    """How many were not."""
    leaf_of: Index
    """By page, the leaf that maps it, or -1."""
    page_bytes: int
    unstable_va: Words
    written_pa: Words
    """By leaf, the output address as it is written: of a contiguous group hardware may take another's."""

    @classmethod
    def of(cls, captured: Captured, process: Process) -> View:
        """Walk the tables, and see which of the kernel's words can be held against them."""
        regime = captured.regime
        leaves = walk_all(regime, Reads(captured.read))
        ranges = Ranges.of(process.after.smaps)
        before, after = process.before.pages, process.after.pages
        _, first, second = np.intersect1d(before.va, after.va, assume_unique=True, return_indices=True)
        compared = np.uint64(COMPARED)
        same = before.word[first] & compared == after.word[second] & compared
        same &= before.va[first] < np.uint64(1 << regime.iasize_bits)
        kept = first[same]
        pages = Pages(va=before.va[kept], word=before.word[kept], flags=before.flags[kept])
        everything = np.union1d(before.va, after.va)
        at = np.searchsorted(leaves.va, pages.va, side="right") - 1
        inside = at >= 0
        inside[inside] = pages.va[inside] - leaves.va[at[inside]] < leaves.size_bytes[at[inside]]
        return cls(
            captured=captured,
            process=process,
            leaves=leaves,
            rights=permissions(regime, leaves),
            ranges=ranges,
            around=ranges.around(leaves.va, leaves.va + leaves.size_bytes),
            pages=pages,
            unstable=len(everything) - len(pages),
            leaf_of=np.where(inside, at, -1),
            page_bytes=1 << regime.geometry.granule_log2,
            written_pa=addresses(regime.address_format, leaves.word, regime.geometry.granule_log2)
            & ~(leaves.size_bytes - np.uint64(1)),
            unstable_va=np.setdiff1d(everything, pages.va, assume_unique=True),
        )

    def leaf(self, index: int) -> str:
        """A leaf in words: address, descriptor, level, and where it leads."""
        one = self.leaves[index]
        return f"{one.va:#x} -> {int(self.written_pa[index]):#x} (level {one.level} descriptor {one.word:#x})"

    def hole(self, va: int) -> str:
        """An address that is not mapped, with the descriptor that says so."""
        word = self.raw(va)
        return f"{va:#x} ({'no descriptor' if word is None else f'descriptor {word:#x}'})"

    def raw(self, va: int) -> int | None:
        """The last descriptor on the way to an address; None where there is none to be read."""
        if not 0 <= va < 1 << self.captured.regime.iasize_bits:
            return None
        found = walk(self.captured.regime, self.captured.read, va)
        if isinstance(found, Fault):
            return found.chain[-1].word if found.chain else None
        return found.leaf.word

    def leaves_where(self, what: str, wrong: Bools) -> Iterator[Finding]:
        """A finding that names the first few leaves of a mask, if there are any."""
        yield from told(what, [self.leaf(int(index)) for index in _some(wrong)], int(wrong.sum()))

    def pages_where(self, what: str, wrong: Bools) -> Iterator[Finding]:
        """A finding that names the first few pages of a mask, each with its leaf or descriptor."""
        places = []
        for index in _some(wrong):
            va, leaf = int(self.pages.va[index]), int(self.leaf_of[index])
            mapped = f"{va:#x}: {self.leaf(leaf)}" if leaf >= 0 else self.hole(va)
            places.append(f"{mapped}, pagemap {int(self.pages.word[index]):#x}")
        yield from told(what, places, int(wrong.sum()))


def _some(wrong: Bools) -> list[int]:
    return [int(index) for index in np.flatnonzero(wrong)[:SHOWN]]


def told(what: str, places: list[str], count: int | None = None) -> Iterator[Finding]:
    """A finding that counts what is wrong and names the first few places, if there are any."""
    if places:
        total = len(places) if count is None else count
        yield Finding(what=f"user pages: {what}", wanted="none", seen=f"{total}: {'; '.join(places[:SHOWN])}")
