"""Where an arm64 kernel keeps things: the formulas of its memory.h.

Source: Linux v6.12 arch/arm64/include/asm/memory.h and pgtable.h, unchanged in v7.2. The kernel's own
Documentation/arch/arm64/memory.rst differs from them in several lines and is not used.
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STRUCT_PAGE_BYTES", "KernelLayout"]

STRUCT_PAGE_BYTES = 64
"""sizeof(struct page) of every configuration that is common; vmemmap's size follows from it."""

_SPACE = 1 << 64
_MODULES_BYTES = 2 << 30
_1G, _8M, _16M = 1 << 30, 8 << 20, 16 << 20
_PAGES_LOG2 = (12, 14, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLayout:
    """The kernel half of a kernel without KASAN shadow; all addresses follow from three numbers.

    Raises ValueError for a page size that does not exist and for sizes of addresses that no kernel has.
    """

    page_log2: int
    """log2 of the page's bytes: 12, 14 or 16."""
    va_bits: int
    """What the kernel was built for: CONFIG_ARM64_VA_BITS, NUMBER(VA_BITS) of vmcoreinfo."""
    va_bits_actual: int
    """What is in force, 64 - TCR_EL1.T1SZ: less, where the CPU has no 52-bit addresses."""

    def __post_init__(self) -> None:
        if self.page_log2 not in _PAGES_LOG2:
            raise ValueError(f"a page is 2^12, 2^14 or 2^16 bytes, not 2^{self.page_log2}")
        if not 36 <= self.va_bits <= 52 or not 36 <= self.va_bits_actual <= self.va_bits:
            raise ValueError(
                f"kernels have addresses of 36 to 52 bits, and at most those they were built for: not "
                f"{self.va_bits_actual} of {self.va_bits}"
            )

    @property
    def va_bits_min(self) -> int:
        """VA_BITS_MIN: what a kernel falls back to on a CPU without 52-bit addresses."""
        if self.va_bits <= 48:
            return self.va_bits
        return 47 if self.page_log2 == 14 else 48

    @property
    def page_offset_va(self) -> int:
        """PAGE_OFFSET: the address that `memstart_addr` would have in the linear map."""
        return _SPACE - (1 << self.va_bits)

    @property
    def linear_start_va(self) -> int:
        """_PAGE_OFFSET(vabits_actual): the first address of the linear map that can be used."""
        return _SPACE - (1 << self.va_bits_actual)

    @property
    def page_end_va(self) -> int:
        """PAGE_END: the linear map ends here, and modules start."""
        return _SPACE - (1 << self.va_bits_min - 1)

    @property
    def linear_map(self) -> range:
        """The linear map."""
        return range(self.linear_start_va, self.page_end_va)

    @property
    def modules(self) -> range:
        """MODULES_VADDR to MODULES_END."""
        return range(self.page_end_va, self.page_end_va + _MODULES_BYTES)

    @property
    def kimage_va(self) -> int:
        """KIMAGE_VADDR: where the kernel image is linked to."""
        return self.modules.stop

    @property
    def vmemmap(self) -> range:
        """VMEMMAP_START to VMEMMAP_END."""
        pages = (self.page_end_va - self.page_offset_va) >> self.page_log2
        return range(_SPACE - _1G - pages * STRUCT_PAGE_BYTES, _SPACE - _1G)

    @property
    def vmemmap_used_va(self) -> int:
        """Where the struct page of the linear map's first usable address is."""
        unused = (self.linear_start_va - self.page_offset_va) >> self.page_log2
        return self.vmemmap.start + unused * STRUCT_PAGE_BYTES

    @property
    def vmalloc(self) -> range:
        """VMALLOC_START to VMALLOC_END; the kernel image is in it."""
        return range(self.modules.stop, self.vmemmap_used_va - _8M)

    @property
    def pci_io(self) -> range:
        """PCI_IO_START to PCI_IO_END."""
        return range(_SPACE - _1G + _8M, _SPACE - _1G + _8M + _16M)

    @property
    def fixmap_top_va(self) -> int:
        """FIXADDR_TOP."""
        return _SPACE - _8M

    @property
    def pgtable_levels(self) -> int:
        """CONFIG_PGTABLE_LEVELS, as ARM64_HW_PGTABLE_LEVELS counts them."""
        return -(-(self.va_bits - self.page_log2) // (self.page_log2 - 3))

    def linear_pa(self, va: int, memstart_pa: int) -> int:
        """Where the linear map leads; `memstart_pa` is PHYS_OFFSET, and may be negative as 64 bits are."""
        return (va - self.page_offset_va + memstart_pa) % _SPACE

    def linear_va(self, pa: int, memstart_pa: int) -> int:
        """Where the linear map has a physical address."""
        return (pa - memstart_pa + self.page_offset_va) % _SPACE
