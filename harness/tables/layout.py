"""Linux's regions of the kernel half, by its formulas, and only where the tables bear them out.

The formulas are `harness.linux.layout`'s: of kernels since v6.5, without KASAN. May import `harness.bulk`,
`harness.linux` and `harness.vmsa`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.bulk import Leaves
from harness.linux.layout import KernelLayout
from harness.vmsa import Regime, VaRange

__all__ = ["UNKNOWN", "Region", "layout"]

UNKNOWN: Final = "?"
"""The name of a region of which nothing is known."""

_IMAGE_REACH: Final = 256 << 20
"""No kernel Image is larger: what lies farther from its first table is not of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A stretch of the address space, [start_va, end_va), with the name that people know it by."""

    name: str
    start_va: int
    end_va: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the address space."""
        return self.end_va - self.start_va


def layout(leaves: Leaves) -> tuple[Region, ...]:
    """The regions of a half in order of addresses, without gaps or overlap.

    The lower half is one region. Of the upper half Linux's, if the first table is mapped both by the linear
    map and by the kernel image, as it is in every Linux kernel; otherwise one region that is UNKNOWN.
    """
    regime = leaves.regime
    start, end = regime.lowest_va, regime.lowest_va + (1 << regime.iasize_bits)
    if regime.va_range is VaRange.LOWER:
        return (Region(name="user space", start_va=start, end_va=end),)
    regions = _by_formula(regime)
    if regions:
        linear, above = regions[0].end_va, regions[4].start_va
        aliases = _mapped_at(leaves, regime.table_pa)
        image_va = next((va for va in aliases if linear <= va < above), None)
        if image_va is not None and any(va < linear for va in aliases):
            return _with_image(leaves, regions, image_va)
    return (Region(name=UNKNOWN, start_va=start, end_va=end),)


def _by_formula(regime: Regime) -> tuple[Region, ...]:
    """The regions without the image; none for sizes of which Linux has no configuration.

    A kernel with 52 bits on hardware without has the regions of one with 48 bits (16K: 47), but for
    addresses of vmemmap that are not used.
    """
    bits = regime.iasize_bits
    try:
        linux = KernelLayout(page_log2=regime.geometry.granule_log2, va_bits=bits, va_bits_actual=bits)
    except ValueError:
        return ()
    names_and_starts = (
        ("linear map", linux.linear_map.start),
        ("modules", linux.modules.start),
        ("vmalloc", linux.vmalloc.start),
        ("guard", linux.vmalloc.stop),
        ("vmemmap", linux.vmemmap.start),
        ("guard", linux.vmemmap.stop),
        ("PCI I/O", linux.pci_io.start),
        ("fixmap", linux.pci_io.stop),
        ("guard", linux.fixmap_top_va),
    )
    ends = [start for _, start in names_and_starts[1:]] + [1 << 64]
    return tuple(
        Region(name=name, start_va=start, end_va=end)
        for (name, start), end in zip(names_and_starts, ends, strict=True)
    )


def _mapped_at(leaves: Leaves, pa: int) -> list[int]:
    """Every address that a physical address is mapped at, lowest first."""
    offset = np.uint64(pa) - leaves.pa  # wraps where it is below the leaf
    inside = np.flatnonzero(offset < leaves.size_bytes)
    return [int(va) for va in leaves.va[inside] + offset[inside]]


def _with_image(leaves: Leaves, regions: tuple[Region, ...], table_va: int) -> tuple[Region, ...]:
    """The regions with the kernel image cut out of the one it is in: what has its first table's offset."""
    offset = np.uint64(table_va - leaves.regime.table_pa)
    near = np.abs((leaves.va - np.uint64(table_va)).astype(np.int64)) < _IMAGE_REACH
    found = np.flatnonzero(near & (leaves.va - leaves.pa == offset))
    start = int(leaves.va[found[0]])
    end = int(leaves.va[found[-1]]) + int(leaves.size_bytes[found[-1]])
    cut: list[Region] = []
    for region in regions:
        if not region.start_va <= start < region.end_va:
            cut.append(region)
            continue
        # Until v6.4 modules were 128 MiB, and the image came right after them.
        name = "modules, vmalloc" if region.name == "modules" else region.name
        parts = ((name, region.start_va, start), ("kernel image", start, end), (name, end, region.end_va))
        cut += [Region(name=what, start_va=lo, end_va=hi) for what, lo, hi in parts if lo < hi]
    return tuple(cut)
