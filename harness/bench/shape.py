"""The page tables that the large area takes: why a fork or an munmap costs what it does.

Once as the geometry of a page size has it, once as it was found in a guest: the two are to agree. May import
harness.bulk, harness.vmsa, harness.spec, numpy and the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.bulk import Leaves
from harness.spec import PageSize
from harness.vmsa.geometry import FINAL_LEVEL, Geometry

__all__ = ["Shape", "due_shape", "found_shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Tables and leaves of an area of user memory whose pages are all there."""

    page_size: PageSize
    area_bytes: int
    leaves: Mapping[int, int]
    """Descriptors that map memory, by level: what a fork copies and an munmap clears."""
    tables: Mapping[int, int]
    """Tables that the area is in, by level, but for those that all processes have one of: levels 2 and 3."""
    contiguous: int
    """Leaves with the Contiguous bit (Arm ARM D8.7.1)."""

    @property
    def table_bytes(self) -> int:
        """Of those tables, each a page."""
        return sum(self.tables.values()) * self.page_size.bytes


def due_shape(page_size: PageSize, start_va: int, area_bytes: int) -> Shape:
    """By geometry: an area of single pages, none of them in a contiguous set."""
    geometry = Geometry(granule_log2=page_size.value)
    last_va = start_va + area_bytes - 1
    return Shape(
        page_size=page_size,
        area_bytes=area_bytes,
        leaves={FINAL_LEVEL: area_bytes // page_size.bytes},
        tables={
            level: (last_va >> log2) - (start_va >> log2) + 1
            for level, log2 in _spans(geometry).items()
        },
        contiguous=0,
    )  # fmt: skip


def found_shape(leaves: Leaves, page_size: PageSize, start_va: int, area_bytes: int) -> Shape:
    """What of the leaves of a process lies in the area."""
    here = (leaves.va >= np.uint64(start_va)) & (leaves.va < np.uint64(start_va + area_bytes))
    levels, counts = np.unique(leaves.level[here], return_counts=True)
    joined = leaves.group_log2 > leaves.size_log2
    return Shape(
        page_size=page_size,
        area_bytes=area_bytes,
        leaves=dict(zip(levels.tolist(), counts.tolist(), strict=True)),
        tables={
            level: len(np.unique(leaves.va[here & (leaves.level >= level)] >> np.uint64(log2)))
            for level, log2 in _spans(leaves.regime.geometry).items()
        },
        contiguous=int(np.count_nonzero(joined & here)),
    )


def _spans(geometry: Geometry) -> dict[int, int]:
    """log2 of the bytes that one table maps, by its level."""
    return {level: geometry.size_log2(level - 1) for level in (FINAL_LEVEL - 1, FINAL_LEVEL)}
