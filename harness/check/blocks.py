"""Leaves that are smaller than the memory behind them would have let them be.

May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from harness.bulk.columns import Bools
from harness.check.half import KernelHalf
from harness.vmsa.geometry import FINAL_LEVEL

__all__ = ["could_be_larger"]


def could_be_larger(half: KernelHalf, which: Bools, pieces: Collection[range], *, groups: bool) -> Bools:
    """Which of some pages could be part of a PMD block or, with `groups`, of a contiguous group.

    A block fits where its virtual and physical address are aligned and its memory lies within one of
    `pieces` of physical memory: the test of Linux's init_pmd, map_range and alloc_init_cont_pte.
    """
    leaves, geometry = half.leaves, half.regime.geometry
    page_log2 = geometry.granule_log2
    is_page = which & (leaves.size_log2 == page_log2)
    found: Bools = np.zeros(len(leaves), np.bool_)
    sizes_log2 = [geometry.size_log2(FINAL_LEVEL - 1)]
    if groups:
        sizes_log2.append(page_log2 + geometry.contiguous_log2(FINAL_LEVEL))
    for size_log2 in sizes_log2:
        rest = np.uint64((1 << size_log2) - 1)
        start_pa = half.pa - (leaves.va & rest)
        fits: Bools = np.zeros(len(leaves), np.bool_)
        for piece in pieces:
            if len(piece) >> size_log2:
                last = np.uint64(piece.stop - (1 << size_log2))
                fits |= (start_pa >= np.uint64(piece.start)) & (start_pa <= last)
        lacks = is_page & fits & (start_pa & rest == 0)
        if size_log2 != sizes_log2[0]:
            lacks &= leaves.group_log2 == leaves.size_log2
        found |= lacks
    return found
