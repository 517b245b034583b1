"""The drawing of a comparison: an SVG document that needs no script, no network and no font of its own.

For each kernel a bar of its Image by parts, with .bss behind it, and bars of what gzip and zstd make of it; a
mark where the base's ends. Below, what booted guests lost. Light or dark is the reader's choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Final
from xml.etree import ElementTree as ET

from harness.kernels.compressed import Compressor
from harness.kernels.size import KernelSize
from harness.report.drawing import rect, text
from harness.report.sizes.comparison import Comparison, SizedGuest, percent
from harness.report.sizes.sheet import kb, parts_of, signed_kb, signed_percent
from harness.report.wording import safe

__all__ = ["STYLE", "render_picture"]

_MARGIN: Final = 28.0
_NAMES_PX: Final = 176.0
_BARS_PX: Final = 520.0
_FIGURES_PX: Final = 264.0
_WIDTH: Final = 2 * _MARGIN + _NAMES_PX + _BARS_PX + _FIGURES_PX
_LEFT: Final = _MARGIN + _NAMES_PX
_FIGURES_X: Final = _LEFT + _BARS_PX + 18
_BAR_PX: Final = 16.0
_THIN_PX: Final = 11.0
_STEP_PX: Final = 4.0
_BLOCK_GAP_PX: Final = 22.0
_LETTER_PX: Final = 6.3

_LINES: Final = {
    "text": "text",
    "rodata": "rodata",
    "init": "init",
    "data": "data",
    "gaps": "gaps",
    "bss": "bss",
    "whole": "Image, parts not known",
    "gzip": Compressor.GZIP.title,
    "zstd": Compressor.ZSTD.title,
    "mark": "where the base's ends",
    "code": "code",
    "rwdata": "rwdata",
    "memmap": "struct pages",
    "other": "other",
}

# Plain colours and no variables: not only browsers draw SVG.
STYLE: Final = """
.granule-sizes { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }
.granule-sizes .paper { fill: #fcfcfa; }
.granule-sizes .band { fill: #f3f3ef; }
.granule-sizes text { fill: #1b1c1f; font-size: 11px; }
.granule-sizes .title { font-size: 20px; font-weight: 650; }
.granule-sizes .name { font-size: 13px; font-weight: 600; }
.granule-sizes .soft { fill: #62646b; }
.granule-sizes .strong { font-weight: 600; }
.granule-sizes .text, .granule-sizes .code { fill: #d0701f; }
.granule-sizes .rodata { fill: #3a78c4; } .granule-sizes .init { fill: #b58cc4; }
.granule-sizes .data, .granule-sizes .rwdata { fill: #35926b; } .granule-sizes .gaps { fill: #c9cac4; }
.granule-sizes .bss { fill: #35926b; fill-opacity: .16; stroke: #35926b; stroke-dasharray: 2 2; }
.granule-sizes .whole { fill: #6d6f78; } .granule-sizes .gzip { fill: #8d9099; }
.granule-sizes .zstd { fill: #4a9aa8; } .granule-sizes .memmap { fill: #c99a16; }
.granule-sizes .other { fill: #8d9099; } .granule-sizes .mark { fill: #1b1c1f; }
@media (prefers-color-scheme: dark) {
  .granule-sizes .paper { fill: #16171a; } .granule-sizes .band { fill: #1e2024; }
  .granule-sizes text { fill: #ececee; } .granule-sizes .soft { fill: #a3a5ad; }
  .granule-sizes .gaps { fill: #4a4c53; } .granule-sizes .mark { fill: #ececee; } }
"""


class _Page:
    """A drawing that grows downwards."""

    def __init__(self) -> None:
        self.root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "granule-sizes"})
        self.y = _MARGIN

    def bar(
        self, parts: Iterable[tuple[str, int]], scale: float, height: float, mark_bytes: int | None
    ) -> None:
        """A stacked bar at the present height, and the base's mark."""
        x = _LEFT
        for name, size_bytes in parts:
            width = max(size_bytes, 0) * scale
            if width <= 0:
                continue
            group = ET.SubElement(self.root, "g")
            ET.SubElement(group, "title").text = f"{_LINES[name]}: {kb(size_bytes)} KB"
            rect(group, x, self.y, width, height, name)
            x += width
        if mark_bytes is not None:
            rect(self.root, _LEFT + mark_bytes * scale - 0.75, self.y - 2, 1.5, height + 4, "mark")

    def legend(self, names: Iterable[str]) -> None:
        """The colours that occur, in one line or more."""
        x = _MARGIN
        for name in names:
            width = 32 + _LETTER_PX * len(_LINES[name])
            if x + width > _WIDTH - _MARGIN:
                x, self.y = _MARGIN, self.y + 20
            is_mark = name == "mark"
            rect(self.root, x + (5 if is_mark else 0), self.y, 1.5 if is_mark else 13, 13, name)
            text(self.root, x + 19, self.y + 10.5, _LINES[name])
            x += width
        self.y += 32


def render_picture(comparison: Comparison) -> str:
    """The document; a pure function of the comparison."""
    page = _Page()
    label = ", ".join(safe(one.label) for one in comparison.kernels)
    ET.SubElement(page.root, "title").text = f"Kernel sizes: {label}"
    ET.SubElement(page.root, "style").text = STYLE
    paper = ET.SubElement(page.root, "g")
    _kernels(page, comparison)
    if comparison.guests:
        _guests(page, comparison)
    height = ceil(page.y + 4)
    rect(paper, 0, 0, _WIDTH, height, "paper")
    page.root.attrib |= {"viewBox": f"0 0 {_WIDTH:.0f} {height}", "role": "img"}
    page.root.attrib |= {"width": f"{_WIDTH:.0f}", "height": f"{height}"}
    return ET.tostring(page.root, encoding="unicode") + "\n"


def _heading(page: _Page, title: str, words: str) -> None:
    text(page.root, _MARGIN, page.y + 14, title, "title")
    text(page.root, _MARGIN, page.y + 34, words, "soft")
    page.y += 48


def _in_file(comparison: Comparison, one: KernelSize) -> list[tuple[str, int]]:
    """The parts of the Image; the whole of it where they are not known."""
    named = {name: measure(one) for name, measure in parts_of(comparison).items() if name != "bss"}
    found = [(name, size_bytes) for name, size_bytes in named.items() if size_bytes is not None]
    return found or [("whole", one.image_bytes)]


def _bss_bytes(comparison: Comparison, one: KernelSize) -> int:
    measure = parts_of(comparison).get("bss")
    return (measure(one) or 0) if measure else 0


def _kernels(page: _Page, comparison: Comparison) -> None:
    base = comparison.base_kernel
    words = f"KB of 1024 bytes. Percent and black marks: against {safe(base.label)}. bss is not in the file."
    _heading(page, "Kernel sizes", words)
    parts = {
        one.label: [*_in_file(comparison, one), ("bss", _bss_bytes(comparison, one))]
        for one in comparison.kernels
    }
    present = [
        name for name in _LINES if any(name == part and size for row in parts.values() for part, size in row)
    ]
    page.legend([*present, "gzip", "zstd", "mark"])
    longest = max(sum(size_bytes for _, size_bytes in row) for row in parts.values())
    scale = _BARS_PX / max(longest, 1)
    for number, one in enumerate(comparison.kernels):
        block_px = _BAR_PX + 2 * (_THIN_PX + _STEP_PX)
        if number % 2 == 0:
            rect(page.root, _MARGIN / 2, page.y - 9, _WIDTH - _MARGIN, block_px + 18, "band", radius=6)
        text(page.root, _MARGIN, page.y + 12, _cut(safe(one.label), 24), "name")
        for number, words in enumerate(_about(one)):
            text(page.root, _MARGIN, page.y + 28 + 15 * number, _cut(safe(words), 28), "soft")
        other = None if one is base else base.image_bytes
        page.bar(parts[one.label], scale, _BAR_PX, other)
        _figures(page, _BAR_PX, "Image", one.image_bytes, other)
        page.y += _BAR_PX + _STEP_PX
        for each in Compressor:
            other = None if one is base else base.compressed[each]
            page.bar([(each.program, one.compressed[each])], scale, _THIN_PX, other)
            _figures(page, _THIN_PX, each.title, one.compressed[each], other)
            page.y += _THIN_PX + _STEP_PX
        page.y += _BLOCK_GAP_PX


def _about(one: KernelSize) -> tuple[str, str]:
    kernel = one.kernel
    if kernel.members:
        return f"{len(kernel.members)} kernels in one file", kernel.release
    return f"{kernel.page_size.label if kernel.page_size else 'boot-time'} pages", kernel.release


def _figures(page: _Page, height: float, what: str, size_bytes: int, base_bytes: int | None) -> None:
    """A bar's numbers, in columns at the right."""
    y, kind = page.y + height / 2 + 4, "strong" if height == _BAR_PX else ""
    text(page.root, _FIGURES_X, y, what, kind)
    text(page.root, _FIGURES_X + 108, y, kb(size_bytes), kind, anchor="end")
    if base_bytes is not None:
        more = signed_percent(percent(size_bytes, base_bytes))
        text(page.root, _FIGURES_X + 178, y, more, kind, anchor="end")
        text(page.root, _FIGURES_X + 246, y, signed_kb(size_bytes - base_bytes), kind, anchor="end")


_GUEST_PARTS: Final = ("code", "rodata", "rwdata", "bss", "memmap", "other")


def _guest_parts(one: SizedGuest) -> list[tuple[str, int]]:
    boot, memory = one.memory.boot, one.memory
    if boot is None:
        return [("other", memory.lost_kib << 10)]
    kib = (boot.code_kib, boot.rodata_kib, boot.rwdata_kib, boot.bss_kib, memory.memmap_kib, memory.other_kib)
    return [(name, (size or 0) << 10) for name, size in zip(_GUEST_PARTS, kib, strict=True)]


def _guests(page: _Page, comparison: Comparison) -> None:
    page.y += 10
    given = ", ".join(str(mib) for mib in sorted({one.memory.given_kib >> 10 for one in comparison.guests}))
    words = f"RAM given ({given} MiB) less MemTotal, in KB; percent and marks against the guest named."
    _heading(page, "Memory that a booted guest never has", words)
    parts = [_guest_parts(one) for one in comparison.guests]
    page.legend(
        [name for name in _GUEST_PARTS if any(part == name and size for row in parts for part, size in row)]
    )
    longest = max(sum(size for _, size in row) for row in parts)
    scale = _BARS_PX / max(longest, 1)
    for one, row in zip(comparison.guests, parts, strict=True):
        other = comparison.against(one)
        text(page.root, _MARGIN, page.y + 12, _cut(safe(one.label), 24), "name")
        lost, base = one.memory.lost_kib << 10, None if other is None else other.memory.lost_kib << 10
        page.bar(row, scale, _BAR_PX, base)
        _figures(page, _BAR_PX, "lost", lost, base)
        if other is not None:
            text(page.root, _MARGIN, page.y + 26, _cut(f"against {safe(other.label)}", 30), "soft")
        page.y += _BAR_PX + _BLOCK_GAP_PX


def _cut(words: str, most: int) -> str:
    """The end of a long name: of a path, the part that tells."""
    return words if len(words) <= most else f"…{words[1 - most :]}"
