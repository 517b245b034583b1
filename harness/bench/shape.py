"""The page tables that one area of user memory takes, by the model's geometry: why a fork costs what it does.

May import harness.vmsa, harness.spec and the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.spec import PageSize
from harness.vmsa.geometry import FINAL_LEVEL, Geometry

__all__ = ["Shape", "shape_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Tables and entries of an area whose pages are all there, none of them in a huge page."""

    page_size: PageSize
    area_bytes: int
    entries: int
    """Descriptors of pages: what a fork copies and an munmap clears."""
    tables: int
    """Of the last level."""
    table_bytes: int
    entry_of_level_2_bytes: int
    """What one table of the last level maps, and a block in its place would."""
    contiguous_entries: int
    """Descriptors in a set that the Contiguous bit may join (Arm ARM D8.7.1)."""


def shape_of(page_size: PageSize, area_bytes: int) -> Shape:
    """The shape of an area that begins where a table of the last level does."""
    geometry = Geometry(granule_log2=page_size.value)
    per_table = 1 << geometry.size_log2(FINAL_LEVEL - 1)
    tables = -(-area_bytes // per_table)
    return Shape(
        page_size=page_size,
        area_bytes=area_bytes,
        entries=-(-area_bytes // page_size.bytes),
        tables=tables,
        table_bytes=tables * page_size.bytes,
        entry_of_level_2_bytes=per_table,
        contiguous_entries=1 << geometry.contiguous_log2(FINAL_LEVEL),
    )
