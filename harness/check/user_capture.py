"""A copy of a process's tables, so that the guest can go on while they are looked at.

May import `harness.vmsa` and NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.vmsa import Memory, Regime, Table, decode
from harness.vmsa.geometry import FINAL_LEVEL
from harness.vmsa.walk import read

__all__ = ["Captured", "Link", "capture"]

LIMIT_BYTES = 32 << 20
"""A process of ours has some ten tables: 640 KiB at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A table descriptor: where it is, what it says, and the first address of what it leads to."""

    va: int
    pa: int
    table: Table

    def __str__(self) -> str:
        return (
            f"{self.va:#x} (level {self.table.level} table descriptor {self.table.word:#x} at {self.pa:#x})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The tables of one range at one moment."""

    regime: Regime
    tables: Mapping[int, bytes] = field(repr=False)
    """By physical address."""
    links: tuple[Link, ...] = field(repr=False)
    """Every table descriptor, by level and then by address."""

    def read(self, pa: int, size_bytes: int) -> bytes | None:
        """Physical memory that holds these tables and nothing else, as `harness.vmsa.Memory`."""
        for base in (pa & -(1 << self.regime.geometry.granule_log2), self.regime.table_pa):
            table = self.tables.get(base)
            if table is not None and 0 <= pa - base <= len(table) - size_bytes:
                return table[pa - base : pa - base + size_bytes]
        return None


def capture(regime: Regime, memory: Memory) -> Captured:
    """Copy every table that the regime's first one leads to, each once, 32 MiB of them at most.

    Tables beyond that, and those that are not memory, are left out, and a walk of the copy says so.
    """
    tables: dict[int, bytes] = {}
    left_bytes = LIMIT_BYTES
    links: list[Link] = []
    places = [(regime.table_pa, regime.lowest_va)]
    for level in range(regime.start_level, FINAL_LEVEL + 1):
        is_first = level == regime.start_level
        size_bytes = regime.start_table_bytes if is_first else 1 << regime.geometry.granule_log2
        found: list[Link] = []
        for pa, va in places:
            if pa in tables or size_bytes > left_bytes:
                continue
            data = read(memory, pa, size_bytes)
            if data is not None:
                tables[pa] = data
                left_bytes -= size_bytes
                found += _links(regime, data, level, pa, va) if level < FINAL_LEVEL else []
        links += found
        places = [(link.table.next_pa, link.va) for link in found]
    return Captured(regime=regime, tables=tables, links=tuple(links))


def _links(regime: Regime, data: bytes, level: int, pa: int, va: int) -> list[Link]:
    """The table descriptors of a table above the last level."""
    words = np.frombuffer(data, ">u8" if regime.big_endian else "<u8")
    found = []
    for index in np.flatnonzero(words & np.uint64(1)).tolist():
        table = decode(int(words[index]), level, regime.geometry, regime.address_format)
        if isinstance(table, Table):
            at = va + (index << regime.geometry.size_log2(level))
            found.append(Link(va=at, pa=pa + 8 * index, table=table))
    return found
