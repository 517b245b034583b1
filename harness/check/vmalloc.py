"""vmalloc areas: mapped inside, a guard page behind, device memory where the kernel says.

/proc/vmallocinfo is read while the guest runs, so only areas that are the same before and after the
snapshot are looked at, and of those one that maps nothing at all came and went in between. Source: Linux
v6.12 mm/vmalloc.c, __get_vm_area_node (every area ends with a page that is not mapped, but those of
VM_NO_GUARD: the kernel image's). May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.half import SHOWN, KernelHalf
from harness.check.holes import holes
from harness.linux.vmallocinfo import VmallocArea
from harness.verdict import Finding
from harness.vmsa import Translation, walk

__all__ = ["stable_areas", "vmalloc_areas_are_mapped", "vmalloc_guard_pages_are_unmapped"]


def stable_areas(half: KernelHalf) -> tuple[VmallocArea, ...]:
    """The areas that were there before and after, without those of the kernel image."""
    if half.view.areas is None:
        return ()
    before, after = half.view.areas[0], set(half.view.areas[1])
    image = half.kimage.whole_va if half.kimage is not None else range(0)
    return tuple(one for one in before if one in after and one.va.start not in image)


def vmalloc_guard_pages_are_unmapped(half: KernelHalf) -> Iterator[Finding]:
    """The last page of each area is not mapped."""
    page = 1 << half.regime.geometry.granule_log2
    open_ones = [
        guard
        for area in stable_areas(half)
        if _has_guard(area)
        and not list(holes(guard := range(area.va.stop - page, area.va.stop), half.leaves.va, half.ends_va))
    ]
    yield from _told(half, "vmalloc: guard pages", "not mapped", [one.start for one in open_ones])


def _has_guard(area: VmallocArea) -> bool:
    """False for the areas of per-CPU memory: pcpu_get_vm_areas takes no guard, and counts no pages."""
    return area.pages is not None or "vmalloc" not in area.kind


def vmalloc_areas_are_mapped(half: KernelHalf) -> Iterator[Finding]:
    """Each area maps the pages that it was given; device memory at the addresses that it was given for."""
    page = 1 << half.regime.geometry.granule_log2
    missing: list[int] = []
    elsewhere: list[int] = []
    for area in stable_areas(half):
        known = (area.pages or 0) * page or (len(area.va) - page if area.pa is not None else 0)
        inner = range(area.va.start, area.va.start + min(known, len(area.va) - page))
        found = list(holes(inner, half.leaves.va, half.ends_va))
        if not len(inner) or found == [inner]:
            continue
        missing += [one.start for one in found]
        if area.pa is not None and not found:
            elsewhere += _elsewhere(half, inner, area.pa)
    yield from _told(half, "vmalloc: pages of an area", "mapped", missing)
    yield from _told(half, "vmalloc: output address of device memory", "as /proc/vmallocinfo says", elsewhere)


def _elsewhere(half: KernelHalf, va: range, pa: int) -> Iterator[int]:
    """Leaves of an area that lead elsewhere than its physical address says."""
    leaves = half.leaves
    first, stop = leaves.va.searchsorted([va.start, va.stop])
    for index in range(first, stop):
        if int(half.pa[index]) - pa != int(leaves.va[index]) - va.start:
            yield int(leaves.va[index])


def _told(half: KernelHalf, rule: str, wanted: str, addresses: list[int]) -> Iterator[Finding]:
    if addresses:
        told = ", ".join(f"{va:#x}{_leads_to(half, va)}" for va in addresses[:SHOWN])
        yield Finding(what=rule, wanted=wanted, seen=f"{len(addresses)}: {told}")


def _leads_to(half: KernelHalf, va: int) -> str:
    outcome = walk(half.regime, half.memory, va)
    where = f" -> {outcome.pa:#x}" if isinstance(outcome, Translation) else ""
    return f"{where} (descriptor{half.descriptor_at(va)})"
