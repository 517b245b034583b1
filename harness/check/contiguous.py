"""Contiguous groups: complete, aligned, uniform, and of consecutive memory; of either half.

Hardware may cache a group as one translation taken from any of its descriptors: one that differs makes
memory appear and vanish (Arm ARM DDI 0487, D8.6.1). May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.bulk import Leaves
from harness.bulk.columns import Bools, Words
from harness.check.half import SHOWN, KernelHalf
from harness.verdict import Finding
from harness.vmsa import Regime
from harness.vmsa.descriptor import Leaf
from harness.vmsa.field import ones

__all__ = ["BrokenGroups", "broken_groups", "contiguous_groups_are_whole"]

# What hardware or Linux may write to one descriptor of a group alone: AF, dirty state with DBM, and
# software's bits (ASL takes AF and AP[2] of a group as any of its descriptors has them).
_MAY_DIFFER: Final = Leaf.af.mask | Leaf.ndirty.mask | Leaf.software.mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BrokenGroups:
    """What is wrong with the contiguous groups of some leaves."""

    incomplete: int
    """Groups of which a descriptor lacks the mark, or is no leaf."""
    missing: tuple[tuple[int, int], ...]
    """The address of the first such, and its group's, of the first few groups."""
    elsewhere: NDArray[np.intp]
    """Leaves whose output address is not in line with their group's, or that are of a group out of line."""
    unlike: NDArray[np.intp]
    """Leaves whose attributes are not those of most of their group."""


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
    broken = broken_groups(half.leaves, half.pa)
    if broken.incomplete:
        places = [
            f"{va:#x} of the group at {base:#x} (descriptor{half.descriptor_at(va)})"
            for va, base in broken.missing
        ]
        yield Finding(
            what="contiguous groups: incomplete",
            wanted="every descriptor of a group",
            seen=f"{broken.incomplete}: not {', '.join(places)}",
        )
    yield from half.broken(
        "contiguous groups: output address", "consecutive, and aligned to the group", broken.elsewhere
    )
    yield from half.broken("contiguous groups: attributes", "the same throughout a group", broken.unlike)


def broken_groups(leaves: Leaves, written_pa: Words) -> BrokenGroups:
    """Look at every group that has a leaf; `written_pa` are the output addresses as leaves have them."""
    marked = np.flatnonzero(leaves.group_log2 > leaves.size_log2)
    groups = _grouped(leaves, marked)
    short = _short(leaves, groups)
    # Where the memory of a whole group would be, by each of its leaves.
    start_pa = written_pa[marked] - (leaves.va[marked] - groups.base)
    unaligned = start_pa & groups.mask != 0
    return BrokenGroups(
        incomplete=len(short),
        missing=tuple(_missing(leaves, groups, group) for group in short[:SHOWN].tolist()),
        elsewhere=marked[_odd_ones(groups, start_pa) | unaligned],
        unlike=marked[_odd_ones(groups, _compared(leaves.regime, leaves.word[marked]))],
    )


def _grouped(leaves: Leaves, marked: NDArray[np.intp]) -> _Groups:
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


def _short(leaves: Leaves, groups: _Groups) -> NDArray[np.intp]:
    """The groups that have fewer leaves with the mark than they should."""
    first = groups.marked[groups.first]
    wanted = np.uint64(1) << (leaves.group_log2[first] - leaves.size_log2[first]).astype(np.uint64)
    return np.flatnonzero(groups.count.astype(np.uint64) < wanted)


def _missing(leaves: Leaves, groups: _Groups, group: int) -> tuple[int, int]:
    """The first address of a group that has no leaf with the mark, and the group's."""
    first = int(groups.first[group])
    mine = set(leaves.va[groups.marked[groups.which == group]].tolist())
    base, size_bytes = int(groups.base[first]), 1 << int(leaves.size_log2[groups.marked[first]])
    whole = range(base, base + int(groups.mask[first]) + 1, size_bytes)
    return next(va for va in whole if va not in mine), base


def _odd_ones(groups: _Groups, value: Words) -> Bools:
    """Which leaves have another value than most of their group."""
    differs = value != value[groups.first][groups.which]
    others = np.bincount(groups.which, weights=differs)
    # Where most differ from the first, it is the first that is odd.
    flipped = (2 * others > groups.count)[groups.which]
    odd: Bools = differs ^ flipped
    return odd


def _compared(regime: Regime, word: Words) -> Words:
    """What has to be alike: AP[2] too, but for descriptors with DBM, whose dirty state it is."""
    kept = ones(64) & ~_MAY_DIFFER & ~regime.address_format.mask(regime.geometry.granule_log2)
    has_no_dbm = (word & np.uint64(Leaf.dbm.mask)) == 0
    compared: Words = word & np.uint64(kept) | word & np.uint64(Leaf.ndirty.mask) * has_no_dbm
    return compared
