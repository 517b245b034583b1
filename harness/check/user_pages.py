"""Page by page: what the tables map is what the kernel says, in both directions.

The detector of wrong output addresses, of entries that lost their valid bit, and of mappings that nobody
asked for: no rule about tables alone can see those.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.check.user_held import Backing, HeldMapping
from harness.check.user_process import Bools, View, told
from harness.linux.kpageflags import PageFlag
from harness.verdict import Finding
from harness.vmsa import Right

__all__ = ["check_held", "check_pages"]

MOST_UNSTABLE = 1 / 8
MOST_HIDDEN = 10_000  # each costs a walk; a process of ours has one


def check_pages(view: View) -> Iterator[Finding]:
    """Every page that did not change meanwhile, and every leaf."""
    total = len(view.pages) + view.unstable
    if view.unstable > total * MOST_UNSTABLE:
        yield Finding(
            what="user pages: changed while they were looked at",
            wanted=f"at most an eighth of {total}",
            seen=str(view.unstable),
        )
    yield from _in_ranges(view)
    yield from _forwards(view)
    yield from _backwards(view)
    yield from _by_flags(view)


def _in_ranges(view: View) -> Iterator[Finding]:
    yield from view.leaves_where("mapped where /proc/PID/maps has no range", view.around < 0)
    named = {one.vma.start_va: one for one in view.process.before.smaps}
    changed = [
        str(one.vma)
        for one in view.process.after.smaps
        if one.vma.start_va not in named or named[one.vma.start_va].vma != one.vma
    ]
    yield from told("ranges that changed while they were looked at", changed)


def _forwards(view: View) -> Iterator[Finding]:
    """From pagemap to the tables."""
    pages, mapped = view.pages, view.leaf_of >= 0
    at = view.ranges.around(pages.va, pages.va + np.uint64(view.page_bytes))
    accessible = view.ranges.where(lambda one: one.vma.accessible, at)
    present = pages.present
    yield from view.pages_where(
        "present to the kernel and not mapped", present & ~mapped & accessible & (at >= 0)
    )
    yield from view.pages_where("mapped without a right to it (PROT_NONE)", mapped & ~accessible & (at >= 0))
    yield from view.pages_where("in swap, and mapped", mapped & pages.swapped)
    hidden = present & ~mapped & ~accessible & (at >= 0)
    yield from view.pages_where("PROT_NONE, and the descriptor is not its page's", _mislaid(view, hidden))
    yield from view.pages_where("output address that is not the page's", _elsewhere(view, present & mapped))


def _elsewhere(view: View, which: Bools) -> Bools:
    """Of pages that are mapped, those whose leaf leads to another frame."""
    wrong = np.zeros(len(view.pages), np.bool_)
    leaf, va = view.leaf_of[which], view.pages.va[which]
    pa = view.written_pa[leaf] + va - view.leaves.va[leaf]
    wrong[which] = pa >> np.uint64(view.page_bytes.bit_length() - 1) != view.pages.pfn[which]
    return wrong


def _mislaid(view: View, which: Bools) -> Bools:
    """Of pages that the kernel keeps from hardware, those whose descriptor does not hold their frame."""
    regime = view.captured.regime
    page_log2 = regime.geometry.granule_log2
    wrong = np.zeros(len(view.pages), np.bool_)
    for index in np.flatnonzero(which)[:MOST_HIDDEN]:
        word = view.raw(int(view.pages.va[index])) or 0
        frame = regime.address_format.address(word, page_log2) >> page_log2
        wrong[index] = bool(word & 1) or frame != int(view.pages.pfn[index])
    return wrong


def _backwards(view: View) -> Iterator[Finding]:
    """From the tables to pagemap: a leaf maps only pages that are present."""
    present = view.pages.va[view.pages.present]
    start, end = view.leaves.va, view.leaves.va + view.leaves.size_bytes
    unsure = np.searchsorted(view.unstable_va, end) > np.searchsorted(view.unstable_va, start)
    count = np.searchsorted(present, end) - np.searchsorted(present, start)
    wanted = (view.leaves.size_bytes // np.uint64(view.page_bytes)).astype(np.int64)
    yield from view.leaves_where(
        "mapped and not present to the kernel", (count < wanted) & ~unsure & (view.around >= 0)
    )


def _by_flags(view: View) -> Iterator[Finding]:
    """What the kernel says of the frames agrees with how they are mapped."""
    on = view.leaf_of >= 0
    leaf = view.leaf_of[on]
    flags = np.zeros(len(view.pages), np.uint64)
    flags[on] = view.pages.flags[on]
    writable = np.zeros(len(view.pages), np.bool_)
    may_write = view.rights.user_may(Right.WRITE) | view.rights.privileged_may(Right.WRITE)
    writable[on] = may_write[leaf]
    yield from view.pages_where(
        "the zero page, writable", writable & ((flags & np.uint64(PageFlag.ZERO_PAGE)) != 0)
    )
    large = np.zeros(len(view.pages), np.bool_)
    large[on] = (view.leaves.group_log2 > view.captured.regime.geometry.granule_log2)[leaf]
    compound = (flags & np.uint64(PageFlag.COMPOUND_HEAD | PageFlag.COMPOUND_TAIL)) != 0
    yield from view.pages_where(
        "mapped as part of something large, and alone to the kernel", large & ~compound
    )
    hugetlb = np.zeros(len(view.pages), np.bool_)
    hugetlb[on] = view.ranges.where(lambda one: one.is_hugetlb, view.around[leaf])
    is_huge = (flags & np.uint64(PageFlag.HUGE)) != 0
    yield from view.pages_where(
        "of hugetlb in maps or in kpageflags, and not in both", on & (hugetlb != is_huge)
    )


def check_held(view: View) -> Iterator[Finding]:
    """Every mapping that the process made is backed as that kind should be."""
    for one in view.process.held.mappings:
        wrong = _wrong_backing(view, one)
        yield from told(f"backing of '{one.name}', which should be {one.backing.value}", wrong)


def _wrong_backing(view: View, one: HeldMapping) -> list[str]:
    leaves = view.leaves
    start, end = np.uint64(one.start_va), np.uint64(one.end_va)
    some = np.flatnonzero((leaves.va < end) & (leaves.va + leaves.size_bytes > start))
    if not one.backing.is_mapped:
        return [view.leaf(int(index)) for index in some]
    wrong = [int(index) for index in some if leaves.level[index] != one.backing.level]
    wanted = _is_grouped(view, one)
    if wanted is not None:
        grouped = leaves.group_log2 > leaves.size_log2
        wrong += [int(index) for index in some if grouped[index] != wanted and index not in wrong]
    said = [view.leaf(index) for index in wrong] + [view.hole(va) for va in _gaps(view, one, some.tolist())]
    if one.backing is Backing.ZERO:
        zero = (view.pages.flags & np.uint64(PageFlag.ZERO_PAGE)) != 0
        inside = (view.pages.va >= start) & (view.pages.va < end)
        said += [f"{int(va):#x} is not the zero page" for va in view.pages.va[inside & ~zero]]
    return said


def _is_grouped(view: View, one: HeldMapping) -> bool | None:
    """Whether a mapping's leaves should be contiguous groups; None where either would do."""
    if one.backing not in (Backing.CONT_PTE, Backing.PMD, Backing.CONT_PMD):
        return None
    is_folio = one.name.startswith("folio")
    return view.process.folds if one.backing.is_contiguous and is_folio else one.backing.is_contiguous


def _gaps(view: View, one: HeldMapping, some: list[int]) -> Iterator[int]:
    """Where within a mapping nothing is mapped: the first address of each stretch."""
    at = one.start_va
    for index in some:
        start = int(view.leaves.va[index])
        if start > at:
            yield at
        at = start + int(view.leaves.size_bytes[index])
    if at < one.end_va:
        yield at
