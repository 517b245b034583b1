"""Contiguous groups: all entries there, alike, and leading to one aligned run (Arm ARM DDI 0487, D8.7.1).

Hardware may use any one of a group's entries for all of it: where they differ, it is unpredictable which.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.check.user_process import View, Words, told
from harness.verdict import Finding
from harness.vmsa.descriptor import Leaf
from harness.vmsa.field import ones

__all__ = ["check_groups"]

MOST_ODD = 1000


def check_groups(view: View) -> Iterator[Finding]:
    """Every contiguous group that has a leaf, told by the leaves that are unlike most of it."""
    leaves = view.leaves
    grouped = leaves.group_log2 > leaves.size_log2
    level, size_log2, group_log2 = (
        leaves.level[grouped],
        leaves.size_log2[grouped],
        leaves.group_log2[grouped],
    )
    base = leaves.va[grouped] & ~((np.uint64(1) << group_log2.astype(np.uint64)) - np.uint64(1))
    odd: list[str] = []
    for first in np.unique(base, return_index=True)[1].tolist():
        if len(odd) >= MOST_ODD:
            break
        odd += _odd(view, int(base[first]), int(size_log2[first]), int(group_log2[first]), int(level[first]))
    yield from told("broken contiguous group", odd)


def _odd(view: View, base: int, size_log2: int, group_log2: int, level: int) -> list[str]:
    leaves = view.leaves
    first, last = np.searchsorted(leaves.va, np.array([base, base + (1 << group_log2)], np.uint64))
    va, pa = leaves.va[first:last], view.written_pa[first:last]
    wanted = np.arange(base, base + (1 << group_log2), 1 << size_log2, dtype=np.uint64)
    missing = [view.hole(int(one)) for one in np.setdiff1d(wanted, va)]
    attributes = _attributes(view, leaves.word[first:last]) ^ leaves.level[first:last].astype(np.uint64)
    start = pa - (va - np.uint64(base))
    common = _most(start)
    different = (start != common) | (attributes != _most(attributes))
    if int(common) & ones(group_log2):
        different[:] = True
    return missing + [view.leaf(int(first) + int(index)) for index in np.flatnonzero(different)]


def _attributes(view: View, word: Words) -> Words:
    """All but the address, and what may differ: the access flag and dirty state, in hardware and software."""
    regime = view.captured.regime
    free = Leaf.af.mask | 1 << 55 | regime.address_format.mask(regime.geometry.granule_log2)
    writable = (word & np.uint64(Leaf.dbm.mask)) >> np.uint64(Leaf.dbm.bit - Leaf.ndirty.bit)
    return word & np.uint64(ones(64) & ~free) & ~writable


def _most(values: Words) -> np.uint64:
    """The value that is the most frequent."""
    found, counts = np.unique(values, return_counts=True)
    most: np.uint64 = found[np.argmax(counts)]
    return most
