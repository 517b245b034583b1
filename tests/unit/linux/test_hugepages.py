"""The sizes against what real kernels list in /sys/kernel/mm/hugepages (Linux 6.12, all three page sizes)."""

from __future__ import annotations

import pytest

from harness.linux.hugepages import cont_pmd_bytes, cont_pte_bytes, expected_hugetlb_sizes, pmd_bytes
from harness.spec import PageSize

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("page", "sizes"),
    [
        (PageSize.K4, (64 * KIB, 2 * MIB, 32 * MIB, GIB)),
        (PageSize.K16, (2 * MIB, 32 * MIB, GIB)),
        (PageSize.K64, (2 * MIB, 512 * MIB, 16 * GIB)),
    ],
)
def test_hugetlb_sizes(page: PageSize, sizes: tuple[int, ...]) -> None:
    """The formulas give what sysfs of a kernel with that page size lists."""
    assert expected_hugetlb_sizes(page) == sizes


@pytest.mark.parametrize("page", PageSize)
def test_a_table_is_one_page_of_8_byte_descriptors(page: PageSize) -> None:
    """A level 2 entry maps as many pages as a page holds descriptors."""
    assert pmd_bytes(page) == page.bytes * (page.bytes // 8)


@pytest.mark.parametrize(
    ("page", "level3", "level2"), [(PageSize.K4, 16, 16), (PageSize.K16, 128, 32), (PageSize.K64, 32, 32)]
)
def test_contiguous_sets(page: PageSize, level3: int, level2: int) -> None:
    """A contiguous set has the number of entries that Linux's Kconfig gives (ARM64_CONT_PTE_SHIFT, …)."""
    assert cont_pte_bytes(page) == page.bytes * level3
    assert cont_pmd_bytes(page) == pmd_bytes(page) * level2
