"""Mappings coalesced: neighbouring leaves that are alike under an attribute mask.

May import NumPy and `harness.vmsa` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.bulk.columns import Columns, Levels, Small, Words
from harness.bulk.leaves import Leaves
from harness.vmsa.descriptor import Leaf
from harness.vmsa.field import ones

__all__ = ["HW", "PTDUMP", "Runs", "runs"]

HW: Final = (
    Leaf.attr_indx.mask
    | Leaf.ns.mask
    | Leaf.ap.mask
    | Leaf.sh.mask
    | Leaf.ng.mask
    | Leaf.gp.mask
    | Leaf.dbm.mask
    | Leaf.contiguous.mask
    | Leaf.pxn.mask
    | Leaf.uxn.mask
    | Leaf.pbha.mask
)
"""What hardware acts on and does not write (Arm ARM DDI 0487, D8.3): all but AF, software's bits, and nT."""

PTDUMP: Final = 0x0074_0000_0000_0FDF
"""What Linux's kernel_page_tables tells apart (arch/arm64/mm/ptdump.c in v6.12: the masks of `pte_bits`)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs(Columns):
    """Runs of leaves, in order of addresses."""

    size_bytes: Words
    pa: Words
    """Of the first leaf; of all the others too only if they were joined by it."""
    attributes: Words
    """What the leaves' descriptors have in common: their bits under the mask."""
    level: Levels
    """Of the first leaf."""
    inherited: Small
    """Of the first leaf, packed (INHERITED_SHIFT)."""
    first: NDArray[np.intp]
    """Index of the first leaf."""
    count: NDArray[np.intp]
    """Number of leaves."""


def runs(
    leaves: Leaves,
    mask: int = HW,
    contiguous_pa: bool = True,
    *,
    by_level: bool = True,
    by_tables: bool = True,
) -> Runs:
    """Neighbours in the address space whose descriptors agree under `mask`, joined.

    Bits that hold an address are never compared. With `contiguous_pa` their output addresses must go on as
    well; with `by_level` and `by_tables` their levels and what their tables handed down must be the same
    (Linux's dump looks at levels, and neither at addresses nor at tables). A mask without the access flag
    leaves out what hardware writes: where it manages dirty state, AP[2] of a leaf with DBM counts as 0.
    """
    word = _attributes(leaves, mask)
    ends = leaves.va + leaves.size_bytes
    cut = (leaves.va[1:] != ends[:-1]) | (word[1:] != word[:-1])
    if contiguous_pa:
        cut |= leaves.pa[1:] != (leaves.pa + leaves.size_bytes)[:-1]
    if by_level:
        cut |= leaves.level[1:] != leaves.level[:-1]
    if by_tables:
        cut |= leaves.inherited[1:] != leaves.inherited[:-1]
    first = np.flatnonzero(np.append(True, cut)[: len(leaves)])
    count = np.diff(first, append=len(leaves))
    return Runs(
        va=leaves.va[first],
        size_bytes=ends[first + count - 1] - leaves.va[first],
        pa=leaves.pa[first],
        attributes=word[first],
        level=leaves.level[first],
        inherited=leaves.inherited[first],
        first=first,
        count=count,
    ).freeze()


def _attributes(leaves: Leaves, mask: int) -> Words:
    """Descriptors under a mask, without addresses and, unless the mask has AF, without dirty state."""
    regime = leaves.regime
    mask &= ones(64) & ~regime.address_format.mask(regime.geometry.granule_log2)
    word = leaves.word & np.uint64(mask)
    if mask & Leaf.af.mask or not (regime.ha and regime.hd) or regime.pie:
        return word
    ap2 = (leaves.word & np.uint64(Leaf.dbm.mask)) >> np.uint64(Leaf.dbm.bit - Leaf.ndirty.bit)
    return word & ~ap2
