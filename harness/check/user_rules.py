"""Leaf by leaf: rights, memory type and size are what the range's protection allows.

Linux's choices: arch/arm64/include/asm/pgtable-prot.h and arch/arm64/mm/mmap.c (protection_map).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.check.user_process import Bools, View, told
from harness.linux.kpageflags import PageFlag
from harness.linux.smaps import Smap
from harness.verdict import Finding
from harness.vmsa import Right, Shareability, memory_type, shareability
from harness.vmsa.attributes import CachePolicy, NormalMemory
from harness.vmsa.descriptor import Leaf

__all__ = ["check_rules", "check_tables"]


def check_rules(view: View) -> Iterator[Finding]:
    """Every leaf against the range that it lies in; those in none are told elsewhere."""
    yield from _never_for_el1(view)
    yield from _rights(view)
    yield from _attributes(view)
    yield from _sizes(view)


def _has(view: View, mask: int) -> Bools:
    is_set: Bools = (view.leaves.word & np.uint64(mask)) != 0
    return is_set


def _never_for_el1(view: View) -> Iterator[Finding]:
    """PXN, in the leaf itself: with PXNTable above it, and alone, either would do for hardware.

    With indirect permissions the bit is one of PIIndex, and Linux sets it as before.
    """
    yield from view.leaves_where("PXN clear", ~_has(view, Leaf.pxn.mask))
    yield from view.leaves_where("executable at EL1", view.rights.privileged_may(Right.EXECUTE))


def _rights(view: View) -> Iterator[Finding]:
    known = view.around >= 0

    def may(letter: str) -> Bools:
        return view.ranges.where(lambda one: bool(getattr(one.vma, letter)), view.around)

    read, write, execute = may("readable"), may("writable"), may("executable")
    user = view.rights.user_may
    accessible = read | write | execute
    yield from view.leaves_where("writable in a range that is not", known & user(Right.WRITE) & ~write)
    yield from view.leaves_where("executable in a range that is not", known & user(Right.EXECUTE) & ~execute)
    yield from view.leaves_where("not executable in a range that is", known & ~user(Right.EXECUTE) & execute)
    # What may be written may be read: arm64 has no page that is write-only.
    yield from view.leaves_where(
        "not accessible to EL0 in a range that is", known & ~user(Right.READ) & (read | write)
    )
    yield from view.leaves_where(
        "accessible to EL0 in a range that is not", known & user(Right.READ) & ~accessible
    )
    if view.captured.regime.epan:
        # Without EPAN the kernel could not tell it from its own pages, and makes it readable.
        only = execute & ~read & ~write
        yield from view.leaves_where(
            "readable in a range for execution only", known & user(Right.READ) & only
        )


def _attributes(view: View) -> Iterator[Finding]:
    known, leaves, regime = view.around >= 0, view.leaves, view.captured.regime
    normal, tagged = np.zeros(len(leaves), np.bool_), np.zeros(len(leaves), np.bool_)
    inner = np.zeros(len(leaves), np.bool_)
    # The specification is asked once for each combination of the bits that decide.
    decisive = leaves.word & np.uint64(Leaf.attr_indx.mask | Leaf.attr_indx_high.mask | Leaf.sh.mask)
    for first in np.unique(decisive, return_index=True)[1].tolist():
        alike = decisive == decisive[first]
        leaf = leaves[first].leaf
        kind = memory_type(regime, leaf)
        is_back = isinstance(kind, NormalMemory) and (
            kind.inner.policy is kind.outer.policy is CachePolicy.WRITE_BACK
        )
        normal[alike] = is_back
        tagged[alike] = isinstance(kind, NormalMemory) and kind.tagged
        inner[alike] = shareability(regime, leaf) is Shareability.INNER
    wants_tags = view.ranges.where(lambda one: "mt" in one.flags, view.around)
    guarded = view.ranges.where(lambda one: "bt" in one.flags, view.around)
    yield from view.leaves_where("memory type that is not Normal write-back", known & ~normal)
    yield from view.leaves_where("tagged (MTE) unlike their range", known & normal & (tagged != wants_tags))
    yield from view.leaves_where("not inner shareable", known & ~inner)
    yield from view.leaves_where(
        "guarded (BTI) unlike their range", known & (_has(view, Leaf.gp.mask) != guarded)
    )
    yield from view.leaves_where("global (nG clear)", ~_has(view, Leaf.ng.mask))


def _sizes(view: View) -> Iterator[Finding]:
    known, leaves = view.around >= 0, view.leaves
    sizes = np.array([one.kernel_page_bytes for one in view.ranges.smaps] + [0], np.uint64)
    hugetlb = view.ranges.where(lambda one: one.is_hugetlb, view.around)
    group = np.uint64(1) << leaves.group_log2.astype(np.uint64)
    yield from view.leaves_where(
        "size that is not hugetlb's KernelPageSize", known & hugetlb & (group != sizes[view.around])
    )
    blocks = known & (leaves.level < 3)
    by_range = np.bincount(
        view.around[blocks], weights=leaves.size_bytes[blocks], minlength=len(view.ranges.smaps)
    )
    before = {one.vma.start_va: one for one in view.process.before.smaps}
    for number, one in enumerate(view.ranges.smaps):
        mapped = int(by_range[number])
        if one.is_hugetlb or mapped == one.pmd_mapped_bytes or not _is_steady(one, before):
            continue
        first = np.flatnonzero(view.around == number)[:1]
        place = view.leaf(int(first[0])) if len(first) else view.hole(one.vma.start_va)
        said = f"{mapped} bytes by blocks and {one.pmd_mapped_bytes} by smaps in {one.vma}: {place}"
        yield from told("huge pages unlike smaps", [said])


def _is_steady(one: Smap, before: dict[int, Smap]) -> bool:
    earlier = before.get(one.vma.start_va)
    return earlier is not None and earlier.pmd_mapped_bytes == one.pmd_mapped_bytes


def check_tables(view: View) -> Iterator[Finding]:
    """Every table descriptor, and what the kernel says of the tables' frames."""
    links = view.captured.links
    if view.process.tables_are_pxn:
        yield from told("PXNTable clear", [str(link) for link in links if not link.table.pxn_table])
    yield from told("UXNTable set", [str(link) for link in links if link.table.uxn_table])
    yield from told("APTable not 0", [str(link) for link in links if link.table.ap_table])
    page_log2 = view.captured.regime.geometry.granule_log2
    flags = view.process.table_flags
    # Levels 2 and 3: tables above them are marked by newer kernels only.
    unmarked = [
        f"{link}, kpageflags {flags[link.table.next_pa >> page_log2]:#x}"
        for link in links
        if link.table.level >= 1
        and not flags.get(link.table.next_pa >> page_log2, PageFlag.PGTABLE) & PageFlag.PGTABLE
    ]
    yield from told("tables that are none to the kernel (KPF_PGTABLE)", unmarked)
    unasked = [str(link) for link in links if link.table.next_pa >> page_log2 not in flags]
    yield from told("tables of whose frames kpageflags said nothing", unasked)
