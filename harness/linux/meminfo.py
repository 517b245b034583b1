"""What a kernel says of its memory: the `Memory:` line of its log, /proc/meminfo, and its page structures.

The text comes from a guest that may be broken: nonsense gives None, never an exception.
May import the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["BootMemory", "GuestMemory", "boot_memory", "mem_total_kib", "memmap_kib"]

_NUMBER: Final = r"(\d{1,15})K"
_LINE: Final = re.compile(
    rf"Memory: {_NUMBER}/{_NUMBER} available \({_NUMBER} kernel code, {_NUMBER} rwdata, {_NUMBER} rodata, "
    rf"{_NUMBER} init, {_NUMBER} bss, {_NUMBER} reserved, {_NUMBER} cma-reserved\)"
)
_MEM_TOTAL: Final = re.compile(r"^MemTotal: +(\d{1,15}) kB$", re.MULTILINE)
_MEMMAP: Final = re.compile(r"^nr_memmap_boot(?:_pages)? (\d{1,15})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootMemory:
    """The `Memory:` line, in KiB (Linux v6.12 mm/mm_init.c, mem_init_print_info)."""

    available_kib: int
    """Free when the line was printed."""
    physical_kib: int
    """Of which the kernel knows."""
    code_kib: int
    """_stext to _etext."""
    rwdata_kib: int
    """_sdata to _edata."""
    rodata_kib: int
    """__start_rodata to __end_rodata."""
    init_kib: int
    """__init_begin to __init_end: given back when the boot is over."""
    bss_kib: int
    """__bss_start to __bss_stop."""
    reserved_kib: int
    """Not the page allocator's at that time: the image, page structures, the initramfs, the boot's own."""
    cma_kib: int


def boot_memory(console: str) -> BootMemory | None:
    """From the first such line of a kernel log; None without one."""
    found = _LINE.search(console)
    if found is None:
        return None
    available, physical, code, rwdata, rodata, init, bss, reserved, cma = map(int, found.groups())
    return BootMemory(
        available_kib=available,
        physical_kib=physical,
        code_kib=code,
        rwdata_kib=rwdata,
        rodata_kib=rodata,
        init_kib=init,
        bss_kib=bss,
        reserved_kib=reserved,
        cma_kib=cma,
    )


def mem_total_kib(meminfo: str) -> int | None:
    """MemTotal of /proc/meminfo (proc_meminfo(5)), in KiB."""
    found = _MEM_TOTAL.search(meminfo)
    return int(found[1]) if found else None


def memmap_kib(vmstat: str, page_kib: int) -> int | None:
    """What the boot took for `struct page`, in KiB, by /proc/vmstat; None before v6.11, which does not say.

    Source: Linux commit 15995a352474 ("mm: report per-page metadata information"), mm/vmstat.c.
    """
    found = _MEMMAP.search(vmstat)
    return int(found[1]) * page_kib if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMemory:
    """Where the RAM of a booted guest went before any program could have it."""

    given_kib: int
    """RAM of the machine."""
    total_kib: int
    """MemTotal."""
    boot: BootMemory | None = None
    memmap_kib: int | None = None
    """In page structures."""

    @property
    def lost_kib(self) -> int:
        """RAM that the guest cannot use: what was given, less MemTotal."""
        return self.given_kib - self.total_kib

    @property
    def other_kib(self) -> int | None:
        """Lost, and neither the image's nor, where they are known, page structures; None without `boot`.

        Hash tables, per-CPU areas, page tables, the device tree, what lies between the image's sections.
        """
        boot, memmap = self.boot, self.memmap_kib
        if boot is None:
            return None
        image_kib = boot.code_kib + boot.rwdata_kib + boot.rodata_kib + boot.bss_kib
        return self.lost_kib - image_kib - (memmap or 0)
