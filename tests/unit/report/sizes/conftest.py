"""Comparisons with numbers that a person can check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.kernels.compressed import Compressor
from harness.kernels.kernel import Kernel
from harness.kernels.size import KernelSize
from harness.linux.meminfo import BootMemory, GuestMemory
from harness.linux.sections import Extents, SectionSizes
from harness.report.sizes.comparison import Comparison, SizedGuest
from harness.spec import PageSize

KB = 1024
MakeSize = Callable[..., KernelSize]
MakeGuest = Callable[..., SizedGuest]


def sized(
    label: str, image_kb: int, gzip_kb: int, *, size: PageSize | None = PageSize.K4, sections: bool = True,
    extents: bool = True, members: tuple[Kernel, ...] = (),
) -> KernelSize:  # fmt: skip
    """A kernel of that many KB: half of it text, a quarter data; zstd makes it 10 KB smaller than gzip."""
    kernel = Kernel(
        name=label, image=Path("Image"), page_size=size, release="6.12.1", sha256="0" * 64,
        origin="a <test>", members=members,
    )  # fmt: skip
    text, data = image_kb * KB // 2, image_kb * KB // 4
    return KernelSize(
        label=label,
        kernel=kernel,
        image_bytes=image_kb * KB,
        ram_bytes=(image_kb + 50) * KB,
        compressed={Compressor.GZIP: gzip_kb * KB, Compressor.ZSTD: (gzip_kb - 10) * KB},
        sections=SectionSizes(text_bytes=text, data_bytes=data, bss_bytes=5 * KB) if sections else None,
        extents=Extents(
            text_bytes=text, rodata_bytes=data, init_bytes=KB, data_bytes=data - KB, bss_bytes=7 * KB
        ) if extents else None,
        unknown="" if sections or extents else "nothing is known",
    )  # fmt: skip


def guest(kernel: str, size: PageSize, lost_kib: int) -> SizedGuest:
    """A guest of 64 MiB; its image takes 10 + 20 + 30 + 40 KiB, page structures 100."""
    boot = BootMemory(
        available_kib=1, physical_kib=65536, code_kib=10, rwdata_kib=20, rodata_kib=30, init_kib=5,
        bss_kib=40, reserved_kib=500, cma_kib=0,
    )  # fmt: skip
    memory = GuestMemory(given_kib=65536, total_kib=65536 - lost_kib, boot=boot, memmap_kib=100)
    return SizedGuest(kernel=kernel, page_size=size, memory=memory)


@pytest.fixture
def make_size() -> MakeSize:
    return sized


@pytest.fixture
def make_guest() -> MakeGuest:
    return guest


@pytest.fixture
def comparison() -> Comparison:
    """A 4K kernel and a boot-time one that is 39 KB larger, 1 KB of which is left by gzip; four guests."""
    kernels = (sized("base-4k", 1000, 400), sized("base-16k", 1010, 400, size=PageSize.K16),
               sized("boot", 1039, 401, size=None))  # fmt: skip
    return Comparison(
        kernels=kernels,
        base="base-4k",
        guests=(
            guest("base-4k", PageSize.K4, 1000),
            guest("base-16k", PageSize.K16, 800),
            guest("boot", PageSize.K4, 1100),
            guest("boot", PageSize.K16, 900),
        ),
    )
