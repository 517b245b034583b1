"""kernel_page_tables in debugfs (CONFIG_PTDUMP_DEBUGFS): the kernel's own walk of its tables, as tuples.

Source: Linux v6.12 and v7.2 arch/arm64/mm/ptdump.c (`pte_bits`, `note_page`). Of the lines only the tuples
count; the kernel's marker lines are headings. The text comes from a guest that may be broken: a line that
cannot be read makes the dump incomplete, never an exception. May import the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["LEVELS", "PTDUMP_MASK", "Dump", "Region", "parse_ptdump", "printed"]

LEVELS: Final = ("PGD", "P4D", "PUD", "PMD", "PTE")
"""Linux's names, by the number that note_page has for them."""

PTDUMP_MASK: Final = 0x0074_0000_0000_0FDF
"""The bits of a descriptor that are told apart: the masks of `pte_bits`."""

LINE_LIMIT = 2_000_000

_VALID, _TABLE, _SHARED = 1 << 0, 1 << 1, 3 << 8
# What is printed where a bit is set and where it is not, in the order of `pte_bits`.
_COLUMNS: Final = (
    (_VALID, " ", "F"),
    (1 << 6, "USR", "   "),
    (1 << 7, "ro", "RW"),
    (1 << 53, "NX", "x "),
    (_SHARED, "SHD", "   "),
    (1 << 10, "AF", "  "),
    (1 << 11, "NG", "  "),
    (1 << 52, "CON", "   "),
    (_TABLE, "   ", "BLK"),
    (1 << 54, "UXN", "   "),
    (1 << 50, "GP", "  "),
)
# AttrIndx in bits 4:2 (arch/arm64/include/asm/memory.h, MT_*).
_TYPES: Final = {
    "MEM/NORMAL": 0, "MEM/NORMAL-TAGGED": 1, "MEM/NORMAL-NC": 2, "DEVICE/nGnRnE": 3, "DEVICE/nGnRE": 4,
}  # fmt: skip
_TYPE_OF = {number: name for name, number in _TYPES.items()}
_LINE = re.compile(
    r"0x(?P<start>[0-9a-f]{16})-0x(?P<stop>[0-9a-f]{16}) {3} *(?P<size>\d+)(?P<unit>[KMGTPE]) "
    r"(?P<level>PGD|P4D|PUD|PMD|PTE)(?P<rest> .*)?"
)


@dataclass(frozen=True, slots=True)
class Region:
    """Addresses that are mapped alike, or not at all."""

    start_va: int
    stop_va: int
    """The first address after it; 2^64 at the end."""
    level: int
    """Index into LEVELS."""
    attributes: int
    """What `printed` leaves of a descriptor; 0 where nothing is mapped."""

    def __str__(self) -> str:
        return f"[{self.start_va:#x}, {self.stop_va:#x}) {LEVELS[self.level]} {_words(self.attributes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """A whole dump, regions joined where only a heading parted them."""

    regions: tuple[Region, ...]
    problem: str = ""
    """Why it is not a whole one; empty when it is."""


def printed(word: int) -> int:
    """What of a descriptor the dump tells: 0 for nothing, else bits under PTDUMP_MASK.

    Shareability is one flag there. Of an invalid descriptor v6.12 says BLK where bit 1 is clear, v7.2 only
    where bit 0 is set as well: bit 1 is left out of those.
    """
    word &= PTDUMP_MASK
    if word & _SHARED != _SHARED:
        word &= ~_SHARED
    if word and not word & _VALID:
        word |= _TABLE
    return word


def parse_ptdump(text: str) -> Dump:
    """The regions of a dump, which cover the kernel half without a gap."""
    regions: list[Region] = []
    for line in text.splitlines()[:LINE_LIMIT]:
        if line.startswith("---[") or not line.strip():
            continue
        region = _region(line)
        if region is None:
            return Dump(regions=tuple(regions), problem=f"a line that cannot be read: {line[:100]!r}")
        if regions and regions[-1].stop_va != region.start_va:
            return Dump(
                regions=tuple(regions), problem=f"{region.start_va:#x} is not where the last one ended"
            )
        last = regions[-1] if regions else None
        if last and (last.level, last.attributes) == (region.level, region.attributes):
            regions[-1] = Region(last.start_va, region.stop_va, last.level, last.attributes)
        else:
            regions.append(region)
    ended = bool(regions) and regions[-1].stop_va == 1 << 64
    return Dump(regions=tuple(regions), problem="" if ended else "it ends before the address space does")


def _region(line: str) -> Region | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    start, stop = int(match["start"], 16), int(match["stop"], 16) or 1 << 64
    size_kib = int(match["size"]) << 10 * "KMGTPE".index(match["unit"])
    attributes = _attributes(match["rest"]) if match["rest"] is not None else 0
    if attributes is None or stop <= start or size_kib << 10 != stop - start:
        return None
    return Region(start, stop, LEVELS.index(match["level"]), attributes)


def _attributes(rest: str) -> int | None:
    word, position = 0, 0
    for mask, when_set, when_clear in _COLUMNS:
        position += 1  # the blank before each
        if rest.startswith(when_set, position):
            word |= mask
        elif not rest.startswith(when_clear, position):
            return None
        position += len(when_set) if rest.startswith(when_set, position) else len(when_clear)
    name = rest[position:].strip()
    if name and name not in _TYPES:
        return None
    # An index that no name stands for prints nothing; which one it was cannot be known.
    word |= _TYPES.get(name, 7) << 2
    return printed(word)


def _words(attributes: int) -> str:
    if not attributes:
        return "nothing"
    said = [set_ if attributes & mask == mask else clear for mask, set_, clear in _COLUMNS]
    said.append(_TYPE_OF.get(attributes >> 2 & 0b111, "?"))
    return " ".join(word.strip() for word in said if word.strip())
