"""Tests of harness.linux.layout against addresses worked out from memory.h by hand, and measured ones."""

from __future__ import annotations

import pytest

from harness.linux.layout import KernelLayout

# page, VA_BITS, in force: linear map, PAGE_END, VMALLOC_END, VMEMMAP_START, first used (= the same)
TABLE = """
4K 39 39 ffffff8000000000 ffffffc000000000 fffffffebf800000 fffffffec0000000 =
4K 48 48 ffff000000000000 ffff800000000000 fffffdffbf800000 fffffdffc0000000 =
4K 52 52 fff0000000000000 ffff800000000000 ffffc1ffbf800000 ffffc1ffc0000000 =
4K 52 48 ffff000000000000 ffff800000000000 fffffdffbf800000 ffffc1ffc0000000 fffffdffc0000000
16K 36 36 fffffff000000000 fffffff800000000 ffffffffb7800000 ffffffffb8000000 =
16K 47 47 ffff800000000000 ffffc00000000000 ffffffbfbf800000 ffffffbfc0000000 =
16K 48 48 ffff000000000000 ffff800000000000 ffffff7fbf800000 ffffff7fc0000000 =
16K 52 52 fff0000000000000 ffffc00000000000 fffff03fbf800000 fffff03fc0000000 =
16K 52 47 ffff800000000000 ffffc00000000000 ffffffbfbf800000 fffff03fc0000000 ffffffbfc0000000
64K 42 42 fffffc0000000000 fffffe0000000000 ffffffff3f800000 ffffffff40000000 =
64K 48 48 ffff000000000000 ffff800000000000 ffffffdfbf800000 ffffffdfc0000000 =
64K 52 52 fff0000000000000 ffff800000000000 fffffc1fbf800000 fffffc1fc0000000 =
64K 52 48 ffff000000000000 ffff800000000000 ffffffdfbf800000 fffffc1fc0000000 ffffffdfc0000000
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]
PAGE_LOG2 = {"4K": 12, "16K": 14, "64K": 16}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:3]))
def test_ranges(row: list[str]) -> None:
    """Every range starts and ends where memory.h puts it, fallbacks to fewer bits included."""
    page, built_for, actual, *wanted = row
    one = KernelLayout(page_log2=PAGE_LOG2[page], va_bits=int(built_for), va_bits_actual=int(actual))
    seen = (
        one.linear_start_va, one.page_end_va, one.vmalloc.stop, one.vmemmap.start, one.vmemmap_used_va,
    )  # fmt: skip
    wanted[-1] = wanted[-2] if wanted[-1] == "=" else wanted[-1]
    assert [f"{each:016x}" for each in seen] == wanted
    assert one.modules == range(one.page_end_va, one.page_end_va + 0x8000_0000)
    assert one.vmalloc.start == one.modules.stop
    assert one.linear_map == range(one.linear_start_va, one.page_end_va)
    assert one.kimage_va == one.vmalloc.start


def test_ends_that_are_the_same_for_all() -> None:
    """The struct pages end 1 GiB below the top, PCI's ports and the fixmap are above them."""
    one = KernelLayout(page_log2=12, va_bits=48, va_bits_actual=48)
    assert one.vmemmap.stop == 0xFFFF_FFFF_C000_0000
    assert one.pci_io == range(0xFFFF_FFFF_C080_0000, 0xFFFF_FFFF_C180_0000)
    assert one.fixmap_top_va == 0xFFFF_FFFF_FF80_0000


@pytest.mark.parametrize(
    ("page_log2", "actual", "memstart_pa", "va", "pa"),
    [
        (12, 52, 0x4000_0000, 0xFFF0_0000_0020_0000, 0x4020_0000),
        # PHYS_OFFSET as VMCOREINFO had it on neoverse-n1: moved down by the bits that are missing.
        (12, 48, 0xFFF1_0000_4000_0000, 0xFFFF_0000_0020_0000, 0x4020_0000),
        (14, 47, 0xFFF0_8000_4000_0000, 0xFFFF_8000_0020_0000, 0x4020_0000),
        (16, 48, 0xFFF1_0000_4000_0000, 0xFFFF_0000_0020_0000, 0x4020_0000),
    ],
)
def test_linear_addresses(page_log2: int, actual: int, memstart_pa: int, va: int, pa: int) -> None:
    """The linear map's arithmetic is modulo 2^64, and its own inverse."""
    one = KernelLayout(page_log2=page_log2, va_bits=52, va_bits_actual=actual)
    assert one.linear_pa(va, memstart_pa) == pa
    assert one.linear_va(pa, memstart_pa) == va


@pytest.mark.parametrize(("page_log2", "levels"), [(12, 5), (14, 4), (16, 3)])
def test_levels_of_52_bits(page_log2: int, levels: int) -> None:
    """CONFIG_PGTABLE_LEVELS of kernels for 52 bits, as their .config has it."""
    assert KernelLayout(page_log2=page_log2, va_bits=52, va_bits_actual=52).pgtable_levels == levels


@pytest.mark.parametrize("sizes", [(13, 48, 48), (12, 53, 48), (12, 48, 52), (12, 48, 30)])
def test_sizes_that_no_kernel_has(sizes: tuple[int, int, int]) -> None:
    """Pages and addresses that do not exist are a ValueError."""
    with pytest.raises(ValueError, match="not"):
        KernelLayout(page_log2=sizes[0], va_bits=sizes[1], va_bits_actual=sizes[2])
