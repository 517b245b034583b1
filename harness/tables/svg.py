"""The drawing: an SVG document that needs no script, no network and no font of its own.

Light or dark is the reader's choice (`prefers-color-scheme`); colour is never alone, as rights stand beside
every block. May import this package and harness.report.drawing.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Final
from xml.etree import ElementTree as ET

from harness.report.drawing import rect as _rect
from harness.report.drawing import text as _text
from harness.tables.block import Block, Grain, Kind
from harness.tables.picture import Cell, Column, Picture
from harness.tables.words import chunk, count, grouped, leaf_sign, safe, short_size, size

__all__ = ["STYLE", "render_svg"]

_MARGIN: Final = 28.0
_NAMES_PX: Final = 142.0
_ADDRESS_PX: Final = 112.0
_BLOCK_PX: Final = 76.0
_NOTE_PX: Final = 164.0
_COLUMN_PX: Final = _ADDRESS_PX + _BLOCK_PX + _NOTE_PX
_TOP_PX: Final = 100.0
_HEAD_PX: Final = 156.0
_ROW_GAP_PX: Final = 16.0
_SPAN_PX: Final = 20.0
_DIGIT_PX: Final = 6.1
"""Width of a character of the small fixed font."""

_ABOUT: Final = {
    "linear map": "all RAM, at one offset",
    "modules": "loaded modules",
    "modules, vmalloc": "an older layout",
    "kernel image": "text, rodata, data",
    "vmalloc": "stacks, ioremap",
    "vmalloc, below the image": "modules too",
    "vmemmap": "struct pages",
    "PCI I/O": "port space",
    "fixmap": "slots of build time",
    "user space": "a process",
    "?": "layout not known",
}
_CLASS: Final = {
    Kind.WRITE_EXEC: "wx",
    Kind.EXECUTE: "rx",
    Kind.READ_ONLY: "ro",
    Kind.WRITABLE: "rw",
    Kind.NON_CACHED: "nc",
    Kind.DEVICE: "dev",
    Kind.USER_CODE: "ux",
    Kind.USER_DATA: "ud",
    Kind.CLOSED: "no",
    Kind.MIXED: "mix",
}
_PITCH_PX: Final = {Grain.PAGE: 3, Grain.GROUP: 6, Grain.BLOCK: 12}
"""Lines are closest where leaves are smallest; the largest have none."""

# Plain colours and no variables: not only browsers draw SVG.
STYLE: Final = """
.granule-map { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }
.granule-map .paper { fill: #fcfcfa; }
.granule-map .band { fill: #f3f3ef; }
.granule-map .rule { stroke: #dcdcd6; stroke-width: 1; }
.granule-map text { fill: #1b1c1f; font-size: 11px; }
.granule-map .title { font-size: 20px; font-weight: 650; }
.granule-map .size { font-size: 17px; font-weight: 650; }
.granule-map .name { font-size: 12.5px; font-weight: 600; }
.granule-map .soft { fill: #62646b; }
.granule-map .mono { font-family: ui-monospace, 'SF Mono', 'DejaVu Sans Mono', monospace; font-size: 10px; }
.granule-map .gap { stroke: #62646b; stroke-width: 1; stroke-dasharray: 1 3; }
.granule-map .lines { stroke: #fff; stroke-opacity: .42; }
.granule-map .wx { fill: #d3142b; } .granule-map .rx { fill: #d0701f; } .granule-map .ro { fill: #3a78c4; }
.granule-map .rw { fill: #35926b; } .granule-map .nc { fill: #b58cc4; } .granule-map .dev { fill: #8a4fa3; }
.granule-map .ux { fill: #c99a16; } .granule-map .ud { fill: #4a9aa8; } .granule-map .no { fill: #8d9099; }
.granule-map .mix { fill: #6d6f78; }
.granule-map g.block:hover rect { stroke: #1b1c1f; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  .granule-map .paper { fill: #16171a; } .granule-map .band { fill: #1e2024; }
  .granule-map .rule { stroke: #34363c; } .granule-map .lines { stroke: #000; }
  .granule-map text { fill: #ececee; } .granule-map .soft { fill: #a3a5ad; }
  .granule-map .gap { stroke: #a3a5ad; }
  .granule-map g.block:hover rect { stroke: #ececee; } }
"""


def render_svg(picture: Picture) -> str:
    """The document; a pure function of the picture."""
    width = 2 * _MARGIN + _NAMES_PX + _COLUMN_PX * len(picture.columns)
    tops: dict[str, float] = {}
    y = _MARGIN + _TOP_PX + _HEAD_PX
    for name in picture.rows:
        tops[name] = y
        cells = (column.cells.get(name) for column in picture.columns)
        y += (
            max(46.0 if ", below" in name else 34.0, _SPAN_PX + max(cell.height_px for cell in cells if cell))
            + _ROW_GAP_PX
        )
    height = ceil(y + 8)
    root = ET.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:.0f} {height:.0f}",
         "width": f"{width:.0f}", "height": f"{height:.0f}", "class": "granule-map", "role": "img"},
    )  # fmt: skip
    ET.SubElement(root, "title").text = "Page tables: " + ", ".join(
        safe(column.survey.origin) for column in picture.columns
    )
    ET.SubElement(root, "style").text = STYLE
    _patterns(root)
    _rect(root, 0, 0, width, height, "paper")
    half = picture.columns[0].survey.half if picture.columns else "kernel"
    _text(root, _MARGIN, _MARGIN + 14, f"What the {half} half maps", "title")
    _text(
        root,
        _MARGIN,
        _MARGIN + 33,
        "High addresses at the top. Heights grow with the logarithm of what is mapped; gaps are cut short.",
        "soft",
    )
    _rows(root, picture, tops, y, width)
    for number, column in enumerate(picture.columns):
        x = _MARGIN + _NAMES_PX + _COLUMN_PX * number
        _head(root, column, x, _MARGIN + _TOP_PX - 6)
        for name, cell in column.cells.items():
            _cell(root, cell, x, tops[name])
    _legend(root, picture, _MARGIN, _MARGIN + 48)
    return ET.tostring(root, encoding="unicode") + "\n"


def _patterns(root: ET.Element) -> None:
    defs = ET.SubElement(root, "defs")
    for grain, pitch in _PITCH_PX.items():
        pattern = ET.SubElement(
            defs, "pattern",
            {"id": f"granule-{grain.name.lower()}", "width": "8", "height": str(pitch),
             "patternUnits": "userSpaceOnUse"},
        )  # fmt: skip
        ET.SubElement(pattern, "line", {"x1": "0", "x2": "8", "y1": "0.5", "y2": "0.5", "class": "lines"})


def _rows(root: ET.Element, picture: Picture, tops: dict[str, float], end: float, width: float) -> None:
    """A band and a name for each region."""
    edges = [*tops.values(), end]
    for number, (name, top) in enumerate(tops.items()):
        if number % 2 == 0:
            _rect(root, _MARGIN / 2, top - 6, width - _MARGIN, edges[number + 1] - top - 2, "band", radius=6)
        main, _, rest = name.partition(", below")
        _text(root, _MARGIN, top + 12, main, "name")
        if rest:
            _text(root, _MARGIN, top + 26, f"below{rest}", "soft")
        _text(root, _MARGIN, top + (40 if rest else 26), _ABOUT.get(name, ""), "soft")


def _head(root: ET.Element, column: Column, x: float, y: float) -> None:
    """What a column is: sizes, totals, and how much is mapped by leaves of each size."""
    survey, regime = column.survey, column.survey.regime
    totals = survey.totals
    _text(root, x, y + 24, f"{chunk(1 << regime.geometry.granule_log2)} pages", "size")
    _text(root, x, y + 40, _cut(safe(survey.origin), 52), "soft")
    form = "" if regime.address_format.value == "48-bit" else f", {regime.address_format.value}"
    _text(root, x, y + 58, f"{regime.iasize_bits} bits of address{form}, from level {regime.start_level}")
    _text(root, x, y + 74, f"{count(totals.leaves, 'leaf', 'leaves')} map {size(totals.mapped_bytes)}")
    _text(root, x, y + 90, f"{count(totals.tables, 'table')} take {size(totals.table_bytes)}")
    _text(root, x, y + 112, f"{column.shares_of}, by leaf:", "soft")
    _bar(root, column, x, y + 118)


def _bar(root: ET.Element, column: Column, x: float, y: float) -> None:
    """How much is mapped by leaves of each size, as one bar with its parts named below."""
    width = _COLUMN_PX - 36
    whole = sum(share.mapped_bytes for share in column.shares) or 1
    at, free = x, x
    for share in column.shares:
        percent = 100 * share.mapped_bytes / whole
        part = max(width * share.mapped_bytes / whole, 1.5)
        group = ET.SubElement(root, "g", {"class": "block"})
        ET.SubElement(group, "title").text = f"{share.leaf}: {size(share.mapped_bytes)}, {percent:.1f} %"
        grain = Grain.of(share.level, contiguous=share.group_bytes > share.leaf_bytes)
        _filled(group, at, y, part, 12, "rw", grain)
        label = f"{leaf_sign(share.leaf_bytes, share.group_bytes // share.leaf_bytes)} {percent:.0f}%"
        label_px = _DIGIT_PX * len(label)
        if max(at, free) + label_px < x + _COLUMN_PX:
            _text(root, max(at, free), y + 24, label, "mono soft")
            free = max(at, free) + label_px + 10
        at += part


def _cell(root: ET.Element, cell: Cell, x: float, y: float) -> None:
    region = cell.region
    _text(root, x, y + 10, f"{grouped(region.start_va)} + {short_size(region.size_bytes)}", "mono soft")
    y += _SPAN_PX
    for number, block in enumerate(cell.blocks):
        if number:
            _gap(root, block, x + _ADDRESS_PX + _BLOCK_PX / 2, y)
            y += block.gap_px
        _block(root, block, x, y)
        y += block.height_px


def _gap(root: ET.Element, block: Block, x: float, y: float) -> None:
    if block.gap_px < 4:
        return
    place = {"x1": x, "x2": x, "y1": y + 1, "y2": y + block.gap_px - 1}
    ET.SubElement(root, "line", {name: f"{at:.1f}" for name, at in place.items()} | {"class": "gap"})
    if block.gap_px > 12:
        _text(root, x + 8, y + 11, short_size(block.gap_bytes), "mono soft")


def _block(root: ET.Element, block: Block, x: float, y: float) -> None:
    group = ET.SubElement(root, "g", {"class": "block"})
    ET.SubElement(group, "title").text = block.title
    left = x + _ADDRESS_PX
    _rect(group, left, y, _BLOCK_PX, block.height_px, _CLASS[block.kind])
    if block.grain in _PITCH_PX:
        _rect(
            group, left, y, _BLOCK_PX, block.height_px, "", fill=f"url(#granule-{block.grain.name.lower()})"
        )
    _text(group, left - 6, y + block.height_px - 3, grouped(block.va), "mono soft", anchor="end")
    _text(group, left + _BLOCK_PX + 7, y + block.height_px / 2 + 4, block.note, "mono")


def _legend(root: ET.Element, picture: Picture, x: float, y: float) -> None:
    present = {block.kind for block in _all_blocks(picture)}
    at = x
    for kind in Kind:
        if kind in present:
            _rect(root, at, y, 14, 14, _CLASS[kind], radius=2)
            _text(root, at + 20, y + 11, kind.value)
            at += 34 + 6.3 * len(kind.value)
    at, y = x, y + 26
    for grain in Grain:
        _filled(root, at, y, 26, 14, "mix", grain)
        _text(root, at + 32, y + 11, grain.value)
        at += 46 + 6.3 * len(grain.value)
    _text(root, at + 4, y + 11, "4K\u00d716: groups of 16. Rights are EL1's; EL0's after a slash.", "soft")


def _all_blocks(picture: Picture) -> Iterator[Block]:
    for column in picture.columns:
        for cell in column.cells.values():
            yield from cell.blocks


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _filled(
    parent: ET.Element, x: float, y: float, width: float, height: float, name: str, grain: Grain | None
) -> None:
    """A rectangle in a colour, with the lines of a grain over it."""
    _rect(parent, x, y, width, height, name)
    if grain in _PITCH_PX:
        _rect(parent, x, y, width, height, "", fill=f"url(#granule-{grain.name.lower()})")
