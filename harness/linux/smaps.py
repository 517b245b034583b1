"""/proc/PID/smaps: how the kernel says a process's ranges are backed.

The format: Linux Documentation/filesystems/proc.rst, section 1.1; fs/proc/task_mmu.c, show_smap() and
show_smap_vma_flags(). KernelPageSize and MMUPageSize are those of hugetlb, whatever else is huge; the
...Huge and ...PmdMapped fields count memory that one entry above the last level maps; contiguous sets are
not to be seen. Total, as `harness.linux.maps` is. May import that and the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.linux.maps import TEXT_LIMIT_BYTES, VMA_LIMIT, Vma, parse_maps_line

__all__ = ["Smap", "parse_smaps"]

_SIZE = re.compile(r"(?P<name>[A-Za-z_]{1,40}): *(?P<kib>[0-9]{1,15}) kB", re.ASCII)
_FLAGS = re.compile(r"VmFlags:(?P<flags>(?: [a-z0-9?]{2}){0,64}) *", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smap:
    """One range, with what is said of it."""

    vma: Vma
    sizes_bytes: Mapping[str, int] = field(default_factory=dict)
    """By the kernel's names: Rss, KernelPageSize, …"""
    flags: frozenset[str] = frozenset()
    """VmFlags: two letters each, `ht` hugetlb, `bt` guarded (BTI), `mt` tagged (MTE), `lo` locked."""

    @property
    def is_hugetlb(self) -> bool:
        """Its pages are hugetlb's."""
        return "ht" in self.flags

    @property
    def kernel_page_bytes(self) -> int:
        """Its page size; of hugetlb the huge one. 0 when that was not said."""
        return self.sizes_bytes.get("KernelPageSize", 0)

    @property
    def pmd_mapped_bytes(self) -> int:
        """Memory of transparent huge pages that single entries above the last level map."""
        names = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")
        return sum(self.sizes_bytes.get(name, 0) for name in names)


def parse_smaps(raw: bytes) -> tuple[Smap, ...]:
    """The ranges, in the kernel's order; reads at most 8 MiB and 65,536 of them."""
    found: list[Smap] = []
    vma: Vma | None = None
    sizes: dict[str, int] = {}
    flags: frozenset[str] = frozenset()
    for line in raw[:TEXT_LIMIT_BYTES].decode("utf-8", "replace").split("\n"):
        following = parse_maps_line(line)
        if following is not None:
            if vma is not None:
                found.append(Smap(vma=vma, sizes_bytes=sizes, flags=flags))
            vma, sizes, flags = following, {}, frozenset()
        elif (size := _SIZE.fullmatch(line)) and len(sizes) < 64:
            sizes[size["name"]] = int(size["kib"]) << 10
        elif said := _FLAGS.fullmatch(line):
            flags = frozenset(said["flags"].split())
    if vma is not None:
        found.append(Smap(vma=vma, sizes_bytes=sizes, flags=flags))
    return tuple(found[:VMA_LIMIT])
