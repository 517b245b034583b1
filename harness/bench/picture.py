"""The drawing of a comparison: an SVG document that needs no script, no network and no font of its own.

A bar for each benchmark, to the right where the other is dearer and to the left where it is cheaper; of time
the interval over it. May import harness.bench, harness.report and the standard library.
"""

from __future__ import annotations

from math import ceil
from typing import Final
from xml.etree import ElementTree as ET

from harness.bench.compare import Comparison, Difference
from harness.bench.text import number, percent, what_it_is
from harness.report.drawing import rect, text
from harness.report.wording import safe

__all__ = ["render_picture"]

_MARGIN: Final = 24.0
_NAMES_PX: Final = 130.0
_HALF_PX: Final = 220.0
_FIGURES_PX: Final = 300.0
_ROW_PX: Final = 20.0
_BAR_PX: Final = 12.0
_WIDTH: Final = 2 * _MARGIN + _NAMES_PX + 2 * _HALF_PX + _FIGURES_PX
_ZERO_X: Final = _MARGIN + _NAMES_PX + _HALF_PX
_FIGURES_X: Final = _ZERO_X + _HALF_PX + 16
# A benchmark that is many times dearer leaves the others something to be seen by.
_MOST_PERCENT: Final = 150.0
_LEAST_PERCENT: Final = 0.01

# Plain colours and no variables: not only browsers draw SVG.
_STYLE: Final = """
.granule-bench { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }
.granule-bench .paper { fill: #fcfcfa; } .granule-bench .band { fill: #f3f3ef; }
.granule-bench text { fill: #1b1c1f; font-size: 11px; }
.granule-bench .title { font-size: 17px; font-weight: 650; } .granule-bench .soft { fill: #62646b; }
.granule-bench .dearer { fill: #d0701f; } .granule-bench .cheaper { fill: #35926b; }
.granule-bench .interval, .granule-bench .zero { fill: #1b1c1f; }
@media (prefers-color-scheme: dark) {
  .granule-bench .paper { fill: #16171a; } .granule-bench .band { fill: #1e2024; }
  .granule-bench text, .granule-bench .interval, .granule-bench .zero { fill: #ececee; }
  .granule-bench .soft { fill: #a3a5ad; } }
"""


def render_picture(comparison: Comparison) -> str:
    """The document; a pure function of the comparison."""
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "granule-bench", "role": "img"})
    ET.SubElement(root, "title").text = safe(comparison.title)
    ET.SubElement(root, "style").text = _STYLE
    height = ceil(_MARGIN + 48 + _ROW_PX * len(comparison.differences) + _MARGIN)
    rect(root, 0, 0, _WIDTH, height, "paper")
    text(root, _MARGIN, _MARGIN + 14, safe(comparison.title), "title")
    text(root, _MARGIN, _MARGIN + 32, what_it_is(comparison.base.clock), "soft")
    known = [abs(one.percent) for one in comparison.differences if one.percent is not None]
    most = min(max([*known, _LEAST_PERCENT]), _MOST_PERCENT)
    for index, one in enumerate(comparison.differences):
        _row(root, one, index, _MARGIN + 48 + _ROW_PX * index, _HALF_PX / most)
    rect(root, _ZERO_X - 0.5, _MARGIN + 44, 1, _ROW_PX * len(comparison.differences) + 8, "zero")
    root.attrib |= {"viewBox": f"0 0 {_WIDTH:.0f} {height}", "width": f"{_WIDTH:.0f}", "height": f"{height}"}
    return ET.tostring(root, encoding="unicode") + "\n"


def _row(root: ET.Element, one: Difference, index: int, y: float, px_per_percent: float) -> None:
    if index % 2 == 0:
        rect(root, _MARGIN / 2, y, _WIDTH - _MARGIN, _ROW_PX, "band", radius=3)
    baseline = y + 14
    text(root, _MARGIN, baseline, safe(one.name))
    if one.percent is None:
        text(root, _FIGURES_X, baseline, "no number" if one.base_reason or one.other_reason else "-", "soft")
        return
    length = min(abs(one.percent) * px_per_percent, _HALF_PX)
    top = y + (_ROW_PX - _BAR_PX) / 2
    group = ET.SubElement(root, "g")
    ET.SubElement(group, "title").text = f"{safe(one.about)}: {percent(one.percent)}"
    if length > 0:
        dearer = one.percent > 0
        rect(
            group,
            _ZERO_X if dearer else _ZERO_X - length,
            top,
            length,
            _BAR_PX,
            "dearer" if dearer else "cheaper",
        )
    if one.change is not None:
        ends = [
            max(-_HALF_PX, min(_HALF_PX, end * px_per_percent)) for end in (one.change.low, one.change.high)
        ]
        rect(group, _ZERO_X + ends[0], y + _ROW_PX / 2 - 0.75, max(ends[1] - ends[0], 1), 1.5, "interval")
    text(root, _FIGURES_X + 60, baseline, percent(one.percent), anchor="end")
    text(
        root,
        _FIGURES_X + 72,
        baseline,
        f"{number(one.base)} → {number(one.other)} per {safe(one.unit)}",
        "soft",
    )
