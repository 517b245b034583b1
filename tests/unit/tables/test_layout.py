"""Tests of harness.tables.layout: against the addresses that kernels were seen to have."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from harness.bulk import walk_all
from harness.tables.layout import layout
from harness.vmsa import Regime, TableBuilder, VaRange, derive, registers_for

MakeGuest = Callable[..., Any]

# VMALLOC_END and the first used address of vmemmap, from VMCOREINFO of 48-bit (16K: 47-bit) guests.
SEEN = {
    12: (0xFFFF_FDFF_BF80_0000, 0xFFFF_FDFF_C000_0000),
    14: (0xFFFF_FFBF_BF80_0000, 0xFFFF_FFBF_C000_0000),
    16: (0xFFFF_FFDF_BF80_0000, 0xFFFF_FFDF_C000_0000),
}


def _regions(guest: Any) -> dict[str, list[range]]:
    found: dict[str, list[range]] = {}
    for region in layout(walk_all(guest.builder.regime, guest.builder.read)):
        found.setdefault(region.name, []).append(range(region.start_va, region.end_va))
    return found


@pytest.mark.parametrize("granule_log2", [12, 14, 16])
def test_linux(make_guest: MakeGuest, granule_log2: int) -> None:
    """A kernel's regions are memory.h's, with the image cut out of vmalloc where the tables have it."""
    guest = make_guest(granule_log2)
    regions = _regions(guest)
    vmalloc_end, vmemmap = SEEN[granule_log2]
    assert regions["linear map"][0].start == guest.linear_va
    assert regions["vmalloc"][-1].stop == vmalloc_end
    assert regions["vmemmap"][0].start == vmemmap
    page = 1 << granule_log2
    assert regions["kernel image"] == [range(guest.image_va, guest.image_va + 12 * page)]
    assert regions["vmalloc"][0].stop == guest.image_va


def test_regions_leave_nothing_out(make_guest: MakeGuest) -> None:
    """Every address of the half is in exactly one region."""
    regions = layout(walk_all(make_guest().builder.regime, make_guest().builder.read))
    assert regions[0].start_va == 0xFFFF_0000_0000_0000
    assert regions[-1].end_va == 1 << 64
    assert all(one.end_va == next_.start_va for one, next_ in pairwise(regions))


def test_not_linux(make_guest: MakeGuest) -> None:
    """Tables that no image maps are not said to be Linux's."""
    guest = make_guest()
    guest.builder.plant(guest.image_va, 0, 0)
    assert list(_regions(guest)) == ["?"]


def test_no_linear_map(make_guest: MakeGuest) -> None:
    """Tables that no linear map maps are not said to be Linux's, whatever lies where its image would be."""
    guest = make_guest()
    guest.builder.plant(guest.linear_va, 0, 0)
    assert list(_regions(guest)) == ["?"]


def test_older_linux(make_guest: MakeGuest) -> None:
    """An image right after 128 MiB of modules, as until v6.4, is not taken for a module."""
    guest = make_guest()
    guest.builder.plant(guest.image_va, 0, 0)
    old_va = 0xFFFF_8000_0800_0000
    guest.builder.map(old_va, 0x4800_0000, 1 << 15, level=3)
    regions = _regions(guest)
    assert regions["kernel image"][0].start == old_va
    assert "modules" not in regions


def test_the_lower_half() -> None:
    """The lower half is one region, whatever is in it."""
    regime = derive(registers_for(granule_log2=12, txsz=16), VaRange.LOWER)
    assert isinstance(regime, Regime)
    lower = TableBuilder(regime, 0x4800_0000)
    lower.map(0x40_0000, 0x6000_0000, 4096)
    (region,) = layout(walk_all(lower.regime, lower.read))
    assert (region.start_va, region.end_va, region.name) == (0, 1 << 48, "user space")
