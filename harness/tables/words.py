"""Numbers, sizes and leaves as people write them: the words that all of this package shares.

May import `harness.linux` and `harness.vmsa` only.
"""

from __future__ import annotations

from typing import Final

from harness.linux.klog import harmless
from harness.vmsa import Geometry

__all__ = ["address", "chunk", "count", "grouped", "leaf_name", "leaf_sign", "safe", "short_size", "size"]

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def safe(text: str) -> str:
    """Text that may have come from a guest or a file, with what a terminal would act on made visible."""
    return harmless(text.encode("utf-8", "replace"))


def address(value: int) -> str:
    """An address of 16 digits: `0xffff800080000000`."""
    return f"{value:#018x}"


def grouped(value: int) -> str:
    """An address for reading, not for copying: `ffff8000_80000000`."""
    digits = f"{value & (1 << 64) - 1:016x}"
    return f"{digits[:8]}_{digits[8:]}"


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 leaf`, `131,167 leaves`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(size_bytes: int) -> str:
    """A size in the largest unit that keeps it short: `2 MiB`, `1.5 GiB`, `96 bytes`."""
    unit = 0
    while unit + 1 < len(_UNITS) and size_bytes >> 10 * (unit + 1):
        unit += 1
    whole = size_bytes / (1 << 10 * unit)
    return f"{whole:.0f} {_UNITS[unit]}" if whole == int(whole) else f"{whole:.1f} {_UNITS[unit]}"


def chunk(size_bytes: int) -> str:
    """A power of two as leaves are called by: `4K`, `2M`, `1G`."""
    unit = min((size_bytes.bit_length() - 1) // 10, 6)
    return f"{size_bytes >> 10 * unit}{'BKMGTPE'[unit]}"


def short_size(size_bytes: int) -> str:
    """A size without a space, for narrow places: `2M`, `1.5G`."""
    number, unit = size(size_bytes).split()
    return f"{number}{unit[0].upper()}"


def leaf_sign(leaf_bytes: int, group_leaves: int = 1) -> str:
    """A kind of leaf for narrow places: `4K`, and `4K\u00d716` where 16 are a contiguous group."""
    return chunk(leaf_bytes) + (f"\u00d7{group_leaves}" if group_leaves > 1 else "")


def leaf_name(geometry: Geometry, level: int, *, contiguous: bool) -> str:
    """What maps there: `4K page`, `2M block`, and the size of its contiguous group: `4K page in 64K`."""
    log2 = geometry.size_log2(level)
    kind = "page" if level == 3 else "block"
    group = f" in {chunk(1 << log2 + geometry.contiguous_log2(level))}" if contiguous else ""
    return f"{chunk(1 << log2)} {kind}{group}"
