"""A comparison for programs: sizes in bytes (`_bytes`) or KiB (`_kib`), keys sorted."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from harness.kernels.size import KernelSize
from harness.linux.meminfo import GuestMemory
from harness.report.sizes.comparison import Comparison, SizedGuest, percent
from harness.report.sizes.sheet import size_sheet

__all__ = ["SCHEMA", "SCHEMA_VERSION", "render_json"]

SCHEMA: Final = "granule-sizes"
SCHEMA_VERSION: Final = 1


def render_json(comparison: Comparison) -> str:
    """The comparison as text; sections and extents where each is known, whichever the tables show."""
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "base": comparison.base,
        "parts_by": comparison.parts.value,
        "kernels": [_kernel(comparison, one) for one in comparison.kernels],
        "guests": [_guest(comparison, one) for one in comparison.guests],
        "without_guest": list(comparison.without_guest),
    }
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def _kernel(comparison: Comparison, one: KernelSize) -> dict[str, Any]:
    kernel = one.kernel
    return {
        "name": one.label,
        "release": kernel.release,
        "sha256": kernel.sha256,
        "origin": kernel.origin,
        "page_size_bytes": None if kernel.page_size is None else kernel.page_size.bytes,
        "caveat": kernel.caveat,
        "image_bytes": one.image_bytes,
        "ram_bytes": one.ram_bytes,
        "compressed_bytes": {each.title: size_bytes for each, size_bytes in one.compressed.items()},
        "sections": None if one.sections is None else asdict(one.sections),
        "gaps_bytes": one.gaps_bytes,
        "extents": None if one.extents is None else asdict(one.extents),
        "parts_unknown": one.unknown,
        "percent": _percents(comparison, one),
    }


def _percents(comparison: Comparison, one: KernelSize) -> dict[str, float | None]:
    """How much larger than the base, by column of the table; empty for the base itself."""
    sheet = size_sheet(comparison)
    row = next(row for row in sheet.rows if row.label == one.label)
    if not row.against:
        return {}
    return {
        title: None if value is None or base is None else _rounded(percent(value, base))
        for title, value, base in zip(sheet.columns, row.values, row.base, strict=True)
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _guest(comparison: Comparison, one: SizedGuest) -> dict[str, Any]:
    memory, other = one.memory, comparison.against(one)
    return {
        "name": one.label,
        "kernel": one.kernel,
        "page_size_bytes": one.page_size.bytes,
        "given_kib": memory.given_kib,
        "mem_total_kib": memory.total_kib,
        "lost_kib": memory.lost_kib,
        "memory_line": None if memory.boot is None else asdict(memory.boot),
        "memmap_kib": memory.memmap_kib,
        "other_kib": memory.other_kib,
        "against": None if other is None else other.label,
        "lost_more_kib": None if other is None else _lost_more_kib(memory, other.memory),
    }


def _lost_more_kib(memory: GuestMemory, other: GuestMemory) -> int:
    return memory.lost_kib - other.lost_kib
