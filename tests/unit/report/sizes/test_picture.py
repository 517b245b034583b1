"""The drawing: its lengths are the sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from harness.kernels.size import KernelSize
from harness.report.sizes.comparison import Comparison
from harness.report.sizes.page import render_page
from harness.report.sizes.picture import render_picture

SVG = "{http://www.w3.org/2000/svg}"


def _drawn(comparison: Comparison) -> ET.Element:
    return ET.fromstring(render_picture(comparison))  # noqa: S314 - our own


def _bars(root: ET.Element, name: str) -> list[float]:
    """Widths of the bars of a class, in the order of the drawing; bars have a title."""
    groups = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    found = [rect for group in groups for rect in group.findall(f"{SVG}rect") if rect.get("class") == name]
    return [float(rect.get("width", "0")) for rect in found]


def _words(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iter(f"{SVG}text")]


def test_lengths_are_sizes(comparison: Comparison) -> None:
    """Bars of one panel have one scale: text is half of an Image, gzip 400 of 1000 KB, and so on."""
    root = _drawn(comparison)
    text, gzip = _bars(root, "text"), _bars(root, "gzip")
    assert text[2] / text[0] == pytest.approx(1039 / 1000, rel=2e-3)
    assert gzip[0] / text[0] == pytest.approx(400 / 500, rel=2e-3)
    assert _bars(root, "bss")[0] / text[0] == pytest.approx(5 / 500, abs=1e-3)


def test_the_base_is_marked(comparison: Comparison) -> None:
    """On every bar of another kernel stands a mark where the base's ends."""
    root = _drawn(comparison)
    marks = [float(one.get("x", "0")) for one in root.iter(f"{SVG}rect") if one.get("class") == "mark"]
    left = min(float(one.get("x", "0")) for one in root.iter(f"{SVG}rect") if one.get("class") == "gzip"
               and one.get("height") == "11.0")  # fmt: skip
    # One in the legend, three for each of two kernels, and one for each of three guests.
    assert len(marks) == 1 + 6 + 3
    base_gzip = _bars(root, "gzip")[0]
    assert marks[2] - left == pytest.approx(base_gzip, abs=1)


def test_figures(comparison: Comparison) -> None:
    """Each bar's number and difference are written beside it: colour and length are never alone."""
    words = _words(_drawn(comparison))
    assert {"1,039", "+3.9 %", "+39", "401", "+0.2 %", "against base-16k", "+12.5 %"} <= set(words)


def test_nothing_leaves_the_paper(comparison: Comparison) -> None:
    """All lies within the drawing."""
    root = _drawn(comparison)
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for one in root.iter(f"{SVG}rect"):
        assert float(one.get("x", "0")) >= 0
        assert float(one.get("x", "0")) + float(one.get("width", "0")) <= width
        assert float(one.get("y", "0")) + float(one.get("height", "0")) <= height


def test_a_kernel_without_parts(make_size: Callable[..., KernelSize]) -> None:
    """An Image whose parts are not known is one bar, and the legend says so."""
    odd = make_size("combined", 100, 40, sections=False, extents=False)
    root = _drawn(Comparison(kernels=(odd,), base="combined"))
    assert len(_bars(root, "whole")) == 1
    assert "Image, parts not known" in _words(root)


def test_it_stands_alone(comparison: Comparison) -> None:
    """Neither drawing nor page has a script or asks a network for anything."""
    for document in (render_picture(comparison), render_page(comparison)):
        assert "<script" not in document
        assert document.count("http") == document.count("http://www.w3.org/2000/svg") + document.count(
            "http-equiv"
        )


def test_names_are_text(comparison: Comparison) -> None:
    """Markup in a name or an origin is shown and not followed."""
    evil = replace(comparison.kernels[0], label="<b>&\x1b")
    document = render_page(Comparison(kernels=(evil,), base=evil.label))
    assert "<b>" not in document
    assert "\x1b" not in document
    assert "a &lt;test&gt;" in document


def test_the_page_has_the_tables(comparison: Comparison) -> None:
    """The numbers of both tables are on the page, and what has to be said of them."""
    page = render_page(comparison)
    assert "+39 KB over base-4k; +1 after gzip -9" in page
    assert "Memory of a booted guest of 64 MiB" in page
    assert page.count("<table>") == 2
