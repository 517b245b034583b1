"""A kernel of our own making: tables built from a layout worked out by hand, and what it says of itself."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import pytest

from harness.check.half import GuestView, KernelHalf
from harness.linux.iomem import Iomem, Resource
from harness.linux.vmallocinfo import VmallocArea
from harness.linux.vmcoreinfo import VmcoreInfo
from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for

RAM_PA = 0x4000_0000
PAGES = 512
"""Pages of RAM: the kernel's text from the 128th, its data from the 384th, 64 each."""
ARENA_PA = 0x9000_0000
DEVICE_PA = 0x0900_0000
# A kernel of 48 bits of addresses: memory.h, worked out by hand.
LINEAR_VA, MODULES_VA, VMALLOC_VA = 0xFFFF_0000_0000_0000, 0xFFFF_8000_0000_0000, 0xFFFF_8000_8000_0000
KIMAGE_VA = 0xFFFF_8000_9000_0000
VMEMMAP_VA = {12: 0xFFFF_FDFF_C000_0000, 14: 0xFFFF_FF7F_C000_0000, 16: 0xFFFF_FFDF_C000_0000}
VMALLOC_END_VA = {12: 0xFFFF_FDFF_BF80_0000, 14: 0xFFFF_FF7F_BF80_0000, 16: 0xFFFF_FFDF_BF80_0000}

NORMAL, DEVICE = 0, 1
MAIR = 0x04_FF
TEXT = leaf_attributes(ap=0b10, uxn=True)
RODATA = leaf_attributes(ap=0b10, pxn=True, uxn=True)
DATA = leaf_attributes(pxn=True, uxn=True)
IO = leaf_attributes(attr_indx=DEVICE, pxn=True, uxn=True)


@dataclass(frozen=True)
class Kernel:
    """Built tables, and addresses in them."""

    tables: TableBuilder
    view: GuestView

    @property
    def page(self) -> int:
        """Bytes of a page."""
        return 1 << self.tables.regime.geometry.granule_log2

    @property
    def ram(self) -> range:
        """All of RAM."""
        return range(RAM_PA, RAM_PA + PAGES * self.page)

    @property
    def text_va(self) -> int:
        """The image's first page of text."""
        return KIMAGE_VA

    @property
    def data_va(self) -> int:
        """The image's first page of data."""
        return KIMAGE_VA + 256 * self.page

    @property
    def linear_va(self) -> int:
        """A page of the linear map with nothing special in it."""
        return LINEAR_VA + 20 * self.page

    @property
    def alias_va(self) -> int:
        """The linear map's page of the first page of text."""
        return LINEAR_VA + 128 * self.page

    @property
    def area_va(self) -> int:
        """A vmalloc area of four pages and a guard."""
        return VMALLOC_VA

    @property
    def device_va(self) -> int:
        """An ioremap area of two pages and a guard."""
        return VMALLOC_VA + 16 * self.page

    def pa(self, page: int) -> int:
        """The physical address of a page of RAM."""
        return RAM_PA + page * self.page

    def leaf(self, attributes: int, pa: int) -> int:
        """A page descriptor."""
        return attributes | pa | 0b11

    def half(self, **view: object) -> KernelHalf:
        """As the checks see it, with some of the view replaced."""
        return KernelHalf.of(
            self.tables.regime,
            self.tables.read,
            (self.ram, range(ARENA_PA, ARENA_PA + (64 << 20))),
            devices=(range(DEVICE_PA, DEVICE_PA + 4 * self.page),),
            view=replace(self.view, **view),  # type: ignore[arg-type]
        )


def _regime(granule_log2: int) -> Regime:
    regime = derive(registers_for(granule_log2=granule_log2, txsz=16, mair=MAIR), VaRange.UPPER)
    assert isinstance(regime, Regime)
    return regime


def _view(granule_log2: int, swapper_pa: int) -> GuestView:
    page = 1 << granule_log2
    ram = range(RAM_PA, RAM_PA + PAGES * page)
    code = range(RAM_PA + 128 * page, RAM_PA + 192 * page)
    data = range(RAM_PA + 384 * page, RAM_PA + 448 * page)
    named = ((ram, "System RAM", 0), (code, "Kernel code", 1), (data, "Kernel data", 1))
    voffset = KIMAGE_VA - code.start
    areas = (
        VmallocArea(
            va=range(VMALLOC_VA, VMALLOC_VA + 5 * page), pages=4, pa=None, kind=frozenset({"vmalloc"})
        ),
        VmallocArea(
            va=range(VMALLOC_VA + 16 * page, VMALLOC_VA + 19 * page), pages=None, pa=DEVICE_PA,
            kind=frozenset({"ioremap"}),
        ),
    )  # fmt: skip
    return GuestView(
        release="6.12.1",
        config={"RODATA_FULL_DEFAULT_ENABLED": "y"},
        iomem=Iomem(resources=tuple(Resource(pa=pa, name=name, depth=depth) for pa, name, depth in named)),
        vmcoreinfo=VmcoreInfo(
            release="6.12.1", page_log2=granule_log2, va_bits=48, t1sz=16, pa_bits=48,
            swapper_va=swapper_pa + voffset, kimage_voffset=voffset,
        ),
        note={
            "NUMBER(PHYS_OFFSET)": f"{RAM_PA:#x}",
            "NUMBER(MODULES_VADDR)": f"{MODULES_VA:#x}",
            "NUMBER(VMEMMAP_START)": f"{VMEMMAP_VA[granule_log2]:#x}",
            "NUMBER(VMALLOC_END)": f"{VMALLOC_END_VA[granule_log2]:#x}",
            "KERNELOFFSET": f"{KIMAGE_VA - VMALLOC_VA:x}",
        },
        areas=(areas, areas),
    )  # fmt: skip


@cache
def _built(granule_log2: int) -> Kernel:
    """A sound kernel: a linear map by pages, an image, a vmalloc area, a device, struct pages."""
    tables = TableBuilder(_regime(granule_log2), ARENA_PA)
    page = 1 << granule_log2

    def put(va: int, pa: int, pages: int, attributes: int) -> None:
        tables.map(va, pa, pages * page, attributes=attributes, level=3)

    put(LINEAR_VA, RAM_PA, 128, DATA)
    put(LINEAR_VA + 128 * page, RAM_PA + 128 * page, 64, RODATA)
    put(LINEAR_VA + 192 * page, RAM_PA + 192 * page, PAGES - 192, DATA)
    put(KIMAGE_VA, RAM_PA + 128 * page, 32, TEXT)
    put(KIMAGE_VA + 32 * page, RAM_PA + 160 * page, 32, RODATA)
    put(KIMAGE_VA + 256 * page, RAM_PA + 384 * page, 64, DATA)
    put(VMALLOC_VA, RAM_PA + 8 * page, 4, DATA)
    put(VMALLOC_VA + 16 * page, DEVICE_PA, 2, IO)
    put(VMEMMAP_VA[granule_log2], RAM_PA + 480 * page, 8, DATA)
    return Kernel(tables=tables, view=_view(granule_log2, tables.regime.table_pa))


@pytest.fixture(params=[12, 14, 16], ids=["4k", "16k", "64k"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """A sound kernel, at each page size."""
    return deepcopy(_built(request.param))
