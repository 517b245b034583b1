"""Contiguous groups: complete, aligned, uniform, and of consecutive memory.

Hardware may cache a group as one translation taken from any of its descriptors: one that differs makes
memory appear and vanish (Arm ARM DDI 0487, D8.6.1). May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.bulk.columns import Bools, Words
from harness.check.half import SHOWN, KernelHalf
from harness.verdict import Finding
from harness.vmsa.descriptor import Leaf
from harness.vmsa.field import ones

__all__ = ["contiguous_groups_are_whole"]

# What hardware or Linux may write to one descriptor of a group alone: AF, dirty state with DBM, and
# software's bits (ASL takes AF and AP[2] of a group as any of its descriptors has them).
_MAY_DIFFER: Final = Leaf.af.mask | Leaf.ndirty.mask | Leaf.software.mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Groups:
    """The leaves that are marked, and the groups that they make."""

    marked: NDArray[np.intp]
    """Indices of the leaves."""
    base: Words
    """Of each, the address at which its group starts."""
    mask: Words
    """Of each, its group's size less one."""
    which: NDArray[np.intp]
    """Of each, the number of its group."""
    first: NDArray[np.intp]
    """Of each group, the place of its first leaf in `marked`."""
    count: NDArray[np.intp]
    """Of each group, how many of its leaves are marked."""


def contiguous_groups_are_whole(half: KernelHalf) -> Iterator[Finding]:
    """Each group has all of its descriptors, alike, and its memory is one aligned piece."""
    leaves = half.leaves
    marked = np.flatnonzero(leaves.group_log2 > leaves.size_log2)
    if not len(marked):
        return
    groups = _grouped(half, marked)
    yield from _incomplete(half, groups)
    # Where the memory of a whole group would be, by each of its leaves.
    start_pa = half.pa[marked] - (leaves.va[marked] - groups.base)
    unaligned = start_pa & groups.mask != 0
    yield from half.broken(
        "contiguous groups: output address", "consecutive, and aligned to the group",
        marked[_odd_ones(groups, start_pa) | unaligned],
    )  # fmt: skip
    yield from half.broken(
        "contiguous groups: attributes", "the same throughout a group",
        marked[_odd_ones(groups, _compared(half, leaves.word[marked]))],
    )  # fmt: skip


def _grouped(half: KernelHalf, marked: NDArray[np.intp]) -> _Groups:
    leaves = half.leaves
    mask = (np.uint64(1) << leaves.group_log2[marked].astype(np.uint64)) - np.uint64(1)
    base = leaves.va[marked] & ~mask
    # In order of addresses the leaves of a group are neighbours. Groups of two levels may start at one base.
    is_first = np.full(len(marked), True)
    is_first[1:] = (base[1:] != base[:-1]) | (mask[1:] != mask[:-1])
    which = np.cumsum(is_first) - 1
    return _Groups(
        marked=marked, base=base, mask=mask, which=which,
        first=np.flatnonzero(is_first), count=np.bincount(which),
    )  # fmt: skip


def _incomplete(half: KernelHalf, groups: _Groups) -> Iterator[Finding]:
    leaves = half.leaves
    level = leaves.level[groups.marked[groups.first]]
    wanted = np.array([1 << half.regime.geometry.contiguous_log2(one) for one in range(4)])[level]
    short = np.flatnonzero(groups.count < wanted)
    if not len(short):
        return
    places = []
    for group in short[:SHOWN].tolist():
        at = int(groups.first[group])
        mine = set(leaves.va[groups.marked[groups.which == group]].tolist())
        size_bytes = 1 << int(leaves.size_log2[groups.marked[at]])
        base = int(groups.base[at])
        missing = next(
            va for va in range(base, base + (int(wanted[group]) * size_bytes), size_bytes) if va not in mine
        )
        places.append(f"{missing:#x} of the group at {base:#x} (descriptor{half.descriptor_at(missing)})")
    yield Finding(
        what="contiguous groups: incomplete", wanted="every descriptor of a group",
        seen=f"{len(short)}: not {', '.join(places)}",
    )  # fmt: skip


def _odd_ones(groups: _Groups, value: Words) -> Bools:
    """Which leaves have another value than most of their group."""
    differs = value != value[groups.first][groups.which]
    others = np.bincount(groups.which, weights=differs)
    # Where most differ from the first, it is the first that is odd.
    flipped = (2 * others > groups.count)[groups.which]
    odd: Bools = differs ^ flipped
    return odd


def _compared(half: KernelHalf, word: Words) -> Words:
    """What has to be alike: AP[2] too, but for descriptors with DBM, whose dirty state it is."""
    form, granule_log2 = half.regime.address_format, half.regime.geometry.granule_log2
    kept = ones(64) & ~_MAY_DIFFER & ~form.mask(granule_log2)
    has_no_dbm = (word & np.uint64(Leaf.dbm.mask)) == 0
    compared: Words = word & np.uint64(kept) | word & np.uint64(Leaf.ndirty.mask) * has_no_dbm
    return compared
