"""/proc/vmallocinfo: the areas of the vmalloc range, each with its guard page.

The kernel hashes the addresses unless root reads with kernel.kptr_restrict at 1 (printk's %pK).
The text comes from a guest that may be broken: lines that make no sense are passed over.
May import the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["VmallocArea", "parse_vmallocinfo"]

LINE_LIMIT = 100_000
_LINE = re.compile(
    r"0x(?P<start>[0-9a-f]{1,16})-0x(?P<stop>[0-9a-f]{1,16})\s+(?P<bytes>\d{1,19})(?P<rest>.{0,500})"
)
_WORD = re.compile(r"(pages|phys)=(0x[0-9a-f]{1,16}|\d{1,12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmallocArea:
    """One area: a vm_struct of the kernel's."""

    va: range
    """Guard page included."""
    pages: int | None
    """Pages that were allocated for it, in order from its start; None where the kernel keeps no count."""
    pa: int | None
    """What its start is mapped to, for device memory and the kernel's own segments."""
    kind: frozenset[str]
    """The kernel's words: ioremap, vmalloc, vmap, user, vpages, sparse, dma-coherent."""


_KINDS = frozenset({"ioremap", "vmalloc", "vmap", "user", "sparse", "dma-coherent", "unpurged", "vm_map_ram"})


def parse_vmallocinfo(text: str) -> tuple[VmallocArea, ...] | None:
    """The areas in order of addresses, or None where the addresses were hashed.

    Areas that are gone but not purged yet, and those of vm_map_ram, which have no guard, are left out.
    """
    found: list[VmallocArea] = []
    for line in text.splitlines()[:LINE_LIMIT]:
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        va = range(int(match["start"], 16), int(match["stop"], 16))
        if va.start >> 55 != 0x1FF or va.stop - va.start != int(match["bytes"]):
            continue
        kind = frozenset(match["rest"].split()) & _KINDS
        if kind & {"unpurged", "vm_map_ram"}:
            continue
        numbers = {name: int(value, 0) for name, value in _WORD.findall(match["rest"])}
        found.append(VmallocArea(va=va, pages=numbers.get("pages"), pa=numbers.get("phys"), kind=kind))
    return tuple(sorted(found, key=lambda one: one.va.start)) or None
