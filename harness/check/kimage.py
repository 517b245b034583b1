"""The kernel image's own mapping, and that of its struct pages.

Source: Linux v6.12 arch/arm64/kernel/pi/map_kernel.c and map_range.c; mark_rodata_ro in
arch/arm64/mm/mmu.c. Rules that need what the guest did not say yield nothing. May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.bulk.columns import Bools
from harness.check.blocks import could_be_larger
from harness.check.half import SHOWN, KernelHalf, inside
from harness.check.holes import holes
from harness.check.invariants import is_write_back
from harness.verdict import Finding
from harness.vmsa import Right

__all__ = [
    "KIMAGE_RULES",
    "kernel_data_is_writable",
    "kernel_image_has_no_hole",
    "kernel_image_is_write_back",
    "kernel_image_obeys_its_offset",
    "kernel_image_uses_blocks",
    "vmemmap_is_write_back",
]


def _mine(half: KernelHalf) -> Bools:
    if half.kimage is None:
        return np.zeros(len(half.leaves), np.bool_)
    return inside(half.leaves.va, half.leaves.size_bytes, [half.kimage.whole_va])


def kernel_image_obeys_its_offset(half: KernelHalf) -> Iterator[Finding]:
    """PA = VA - kimage_voffset, for every leaf from _text to _end."""
    if half.kimage is None:
        return
    shift = np.uint64(half.kimage.voffset % (1 << 64))
    which = _mine(half) & (half.leaves.va - half.pa != shift)
    yield from half.broken("kernel image: output address", f"VA - {int(shift):#x}", which)


def kernel_image_has_no_hole(half: KernelHalf) -> Iterator[Finding]:
    """Text, rodata and data are mapped throughout; what is freed after init lies between them."""
    if half.kimage is None:
        return
    found: list[range] = []
    for part in (half.kimage.code_pa, half.kimage.data_pa):
        found += holes(half.kimage.va(part), half.leaves.va, half.ends_va)
    if found:
        told = ", ".join(f"{one.start:#x}+{len(one):#x} (descriptor{half.descriptor_at(one.start)})"
                         for one in found[:SHOWN])  # fmt: skip
        yield Finding(what="kernel image: mapped", wanted="throughout", seen=f"{len(found)} holes: {told}")


def kernel_image_is_write_back(half: KernelHalf) -> Iterator[Finding]:
    """Every leaf of the image is write-back Normal memory."""
    _, types = half.memory_types
    which = _mine(half) & ~half.having(is_write_back(one) for one in types)
    yield from half.broken("kernel image: memory type", "Normal write-back", which)


def kernel_data_is_writable(half: KernelHalf) -> Iterator[Finding]:
    """_sdata to _end can be written, and not executed."""
    if half.kimage is None:
        return
    mine = inside(half.leaves.va, half.leaves.size_bytes, [half.kimage.va(half.kimage.data_pa)])
    right = half.rights.privileged_may(Right.WRITE) & ~half.rights.privileged_may(Right.EXECUTE)
    yield from half.broken("kernel data: rights of EL1", "read and write", mine & ~right)


def kernel_image_uses_blocks(half: KernelHalf) -> Iterator[Finding]:
    """Where a PMD block fits into one segment of the image, there is one.

    map_range puts down the largest block that is aligned at both ends. The segments are the areas that
    declare_kernel_vmas announces; text is mapped in two pieces, of which the first ends at _stext: a block
    that starts where the segment does cannot be told, and is not expected.
    """
    if half.kimage is None or half.view.areas is None:
        return
    page = 1 << half.regime.geometry.granule_log2
    whole = half.kimage.whole_va
    segments = [
        range(one.pa + page, one.pa + len(one.va))
        for one in half.view.areas[1]
        if one.pa is not None and one.va.start in whole and "vmap" in one.kind
    ]
    which = could_be_larger(half, _mine(half), segments, groups=False)
    yield from half.broken("kernel image: smaller leaves than fit", "blocks", which)


def vmemmap_is_write_back(half: KernelHalf) -> Iterator[Finding]:
    """The struct pages are write-back Normal memory that nothing executes (vmemmap_populate: PAGE_KERNEL)."""
    if half.layout is None:
        return
    # On a CPU that lacks the addresses it was built for the kernel's vmalloc range reaches into the rest.
    used = range(half.layout.vmemmap_used_va, half.layout.vmemmap.stop)
    mine = inside(half.leaves.va, half.leaves.size_bytes, [used])
    _, types = half.memory_types
    right = half.having(is_write_back(one) for one in types) & ~half.rights.privileged_may(Right.EXECUTE)
    yield from half.broken(
        "vmemmap: memory type and rights", "Normal write-back, not executable", mine & ~right
    )


KIMAGE_RULES = (
    kernel_image_obeys_its_offset,
    kernel_image_has_no_hole,
    kernel_image_is_write_back,
    kernel_data_is_writable,
    kernel_image_uses_blocks,
    vmemmap_is_write_back,
)
"""The rules of this module, as `harness.check.kernel_tables` asks them."""
