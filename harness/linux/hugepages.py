"""Sizes that one entry, or one contiguous set of entries, maps in arm64's translation tables.

The twin of what `guests/programs/probe/memory.c` computes in the guest. Sources: Arm ARM DDI 0487, D8.2
(a table is one page of 8-byte descriptors) and D8.7.1 (the Contiguous bit); Linux
arch/arm64/include/asm/pgtable-hwdef.h (CONT_PTE_SHIFT, CONT_PMD_SHIFT, PMD_SHIFT) and
arch/arm64/mm/hugetlbpage.c (hugetlbpage_init).
"""

from __future__ import annotations

from harness.spec import PageSize

__all__ = ["cont_pmd_bytes", "cont_pte_bytes", "expected_hugetlb_sizes", "pmd_bytes"]

# Log2 of the descriptors in a contiguous set.
CONT_LEVEL3 = {PageSize.K4: 4, PageSize.K16: 7, PageSize.K64: 5}
CONT_LEVEL2 = {PageSize.K4: 4, PageSize.K16: 5, PageSize.K64: 5}


def _index_bits(page: PageSize) -> int:
    """Address bits that one level of tables resolves."""
    return page.value - 3


def pmd_bytes(page: PageSize) -> int:
    """Bytes that one level 2 entry maps: a PMD huge page."""
    return page.bytes << _index_bits(page)


def cont_pte_bytes(page: PageSize) -> int:
    """Bytes that a contiguous set of level 3 entries maps."""
    return page.bytes << CONT_LEVEL3[page]


def cont_pmd_bytes(page: PageSize) -> int:
    """Bytes that a contiguous set of level 2 entries maps."""
    return pmd_bytes(page) << CONT_LEVEL2[page]


def expected_hugetlb_sizes(page: PageSize) -> tuple[int, ...]:
    """Sizes in bytes, ascending, that Linux lists in /sys/kernel/mm/hugepages, whatever memory there is.

    A PUD maps memory only with 4K pages (pud_sect_supported()).
    """
    sizes = [cont_pte_bytes(page), pmd_bytes(page), cont_pmd_bytes(page)]
    if page is PageSize.K4:
        sizes.append(pmd_bytes(page) << _index_bits(page))
    return tuple(sorted(sizes))
