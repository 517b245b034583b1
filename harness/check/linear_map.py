"""The linear map: all of RAM, once, where arithmetic says, and nothing but data.

Source: Linux v6.12 arch/arm64/mm/mmu.c, map_mem; `__phys_to_virt` in arch/arm64/include/asm/memory.h.
Rules that need what the guest did not say yield nothing. May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np

from harness.bulk.columns import Bools
from harness.check.blocks import could_be_larger
from harness.check.half import SHOWN, KernelHalf, inside, overlapping
from harness.check.holes import holes
from harness.check.invariants import is_write_back
from harness.linux.release import at_least
from harness.verdict import Finding
from harness.vmsa import Right
from harness.vmsa.descriptor import Leaf

__all__ = [
    "LINEAR_MAP_RULES",
    "linear_map_covers_ram",
    "linear_map_is_not_executable",
    "linear_map_is_write_back",
    "linear_map_maps_system_ram_only",
    "linear_map_obeys_arithmetic",
    "linear_map_uses_the_sizes_it_may",
]


def _mine(half: KernelHalf) -> Bools:
    """Which leaves are the linear map's."""
    layout = half.layout
    if layout is None:
        return np.zeros(len(half.leaves), np.bool_)
    return inside(half.leaves.va, half.leaves.size_bytes, [layout.linear_map])


def linear_map_obeys_arithmetic(half: KernelHalf) -> Iterator[Finding]:
    """PA = VA - PAGE_OFFSET + memstart, for every leaf: the map is one to one."""
    if half.layout is None or half.memstart_pa is None:
        return
    shift = np.uint64((half.memstart_pa - half.layout.page_offset_va) % (1 << 64))
    which = _mine(half) & (half.pa != half.leaves.va + shift)
    yield from half.broken("linear map: output address", f"VA + {int(shift):#x} modulo 2^64", which)


def linear_map_maps_system_ram_only(half: KernelHalf) -> Iterator[Finding]:
    """It leads to nothing but what /proc/iomem calls System RAM."""
    if half.view.iomem is None:
        return
    leaves = half.leaves
    which = _mine(half) & ~inside(half.pa, leaves.size_bytes, _joined(half.view.iomem.system_ram))
    yield from half.broken("linear map: leads to", "System RAM only", which)


def linear_map_covers_ram(half: KernelHalf) -> Iterator[Finding]:
    """All of System RAM is mapped, but for KFENCE's pool and a loaded crash kernel."""
    layout, memstart, iomem = half.layout, half.memstart_pa, half.view.iomem
    if layout is None or memstart is None or iomem is None:
        return
    page = 1 << layout.page_log2
    mine = _mine(half)
    starts, ends = half.leaves.va[mine], half.ends_va[mine]
    excused = [range(layout.linear_va(one.start, memstart), layout.linear_va(one.start, memstart) + len(one))
               for one in iomem.may_be_unmapped]  # fmt: skip
    if half.view.kfence_pool:
        excused.append(half.view.kfence_pool)
    found: list[range] = []
    for ram in iomem.system_ram:
        # Pages that System RAM has in part are not mapped (map_mem rounds inward).
        start, stop = -(-ram.start // page) * page, ram.stop // page * page
        va = range(layout.linear_va(start, memstart), layout.linear_va(start, memstart) + stop - start)
        found += [hole for hole in holes(va, starts, ends) if not _excused(hole, excused)]
    if found:
        told = ", ".join(f"{one.start:#x}+{len(one):#x} (descriptor{half.descriptor_at(one.start)})"
                         for one in found[:SHOWN])  # fmt: skip
        yield Finding(what="linear map: covers System RAM", wanted="no hole", seen=f"{len(found)}: {told}")


def linear_map_is_not_executable(half: KernelHalf) -> Iterator[Finding]:
    """No leaf can be executed by EL1, and each says so itself: PAGE_KERNEL has PXN, whatever tables add."""
    mine = _mine(half)
    may = half.rights.privileged_may(Right.EXECUTE)
    yield from half.broken("linear map: executable", "none", mine & may)
    if half.regime.pie:  # PXN is a bit of an index there, and the rights above are all there is
        return
    lacks = (half.leaves.word & np.uint64(Leaf.pxn.mask)) == 0
    yield from half.broken("linear map: leaves without PXN", "none", mine & lacks & ~may)


def linear_map_is_write_back(half: KernelHalf) -> Iterator[Finding]:
    """Every leaf is write-back Normal memory, tagged or not."""
    _, types = half.memory_types
    which = _mine(half) & ~half.having(is_write_back(one) for one in types)
    yield from half.broken("linear map: memory type", "Normal write-back", which)


def linear_map_uses_the_sizes_it_may(half: KernelHalf) -> Iterator[Finding]:
    """Pages where permissions of single pages may change; otherwise the largest blocks that fit.

    Source: Linux v6.12 arch/arm64/mm/mmu.c, map_mem, and pageattr.c, can_set_direct_map. The alias of text
    and rodata is mapped with blocks either way, never contiguous.
    """
    code = half.view.iomem.kernel_code if half.view.iomem is not None else None
    if code is None or half.view.iomem is None:
        return
    mine, leaves = _mine(half), half.leaves
    alias = mine & overlapping(half.pa, leaves.size_bytes, [code])
    contiguous = leaves.group_log2 > leaves.size_log2
    yield from half.broken("linear map: alias of text in contiguous groups", "none", alias & contiguous)
    yield from half.broken(
        "linear map: alias of text in smaller leaves than fit", "blocks",
        could_be_larger(half, alias, [code], groups=False),
    )  # fmt: skip
    pages_only = _by_pages(half)
    rest = mine & ~alias
    if pages_only:
        which = rest & (contiguous | (leaves.size_log2 > half.regime.geometry.granule_log2))
        yield from half.broken("linear map: blocks or contiguous groups", "pages", which)
    elif pages_only is False:
        pieces = [piece for ram in half.view.iomem.system_ram for piece in _without(ram, code)]
        which = could_be_larger(half, rest, pieces, groups=True)
        yield from half.broken("linear map: smaller leaves than fit", "blocks and groups", which)


def _by_pages(half: KernelHalf) -> bool | None:
    """can_set_direct_map() of v6.12, or None where what decides it is not known."""
    config, words = half.view.config, half.view.cmdline.split()
    if config is None:
        return None
    rodata = next((word.partition("=")[2] for word in reversed(words) if word.startswith("rodata=")), "")
    if not rodata:
        full = config.get("RODATA_FULL_DEFAULT_ENABLED") == "y"
    elif not half.view.release or at_least(half.view.release, (6, 13)):
        return None  # what its words mean changed later
    else:
        full = rodata == "full"
    if full:
        return True
    # KFENCE's pool may be wanted later, and a pool that is made early is in pages among blocks.
    return None if config.get("KFENCE") == "y" or config.get("DEBUG_PAGEALLOC") == "y" else False


def _joined(ranges: tuple[range, ...]) -> list[range]:
    """Ranges in order, those that touch made one."""

    def add(done: list[range], one: range) -> list[range]:
        if done and one.start <= done[-1].stop:
            return [*done[:-1], range(done[-1].start, max(one.stop, done[-1].stop))]
        return [*done, one]

    return reduce(add, sorted(ranges, key=lambda one: one.start), [])


def _without(whole: range, part: range) -> list[range]:
    """A range without a part of it, empty pieces left out."""
    pieces = (range(whole.start, min(part.start, whole.stop)), range(max(part.stop, whole.start), whole.stop))
    return [one for one in pieces if len(one)]


def _excused(hole: range, excused: list[range]) -> bool:
    return any(one.start <= hole.start and hole.stop <= one.stop for one in excused)


LINEAR_MAP_RULES = (
    linear_map_obeys_arithmetic,
    linear_map_maps_system_ram_only,
    linear_map_covers_ram,
    linear_map_is_not_executable,
    linear_map_is_write_back,
    linear_map_uses_the_sizes_it_may,
)
"""The rules of this module, as `harness.check.kernel_tables` asks them."""
