"""Tests of harness.tables.picture, svg and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.tables.block import Grain, Kind
from harness.tables.page import render_page
from harness.tables.picture import MAX_BLOCKS, Picture, picture
from harness.tables.survey import Survey, survey
from harness.tables.svg import render_svg
from harness.vmsa import leaf_attributes

MakeGuest = Callable[..., Any]
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>\x1b[2J&\x00"


def _survey(guest: Any, origin: str = "built") -> Survey:
    return survey(guest.builder.regime, guest.builder.read, origin=origin, half="kernel")


def _image(drawn: Picture) -> tuple[Any, ...]:
    return drawn.columns[0].cells["kernel image"].blocks


def test_regions_are_rows(make_guest: MakeGuest) -> None:
    """The same regions of several kernels are one row, from the highest addresses down."""
    drawn = picture([_survey(make_guest(log2)) for log2 in (12, 14, 16)])
    assert drawn.rows == ("kernel image", "vmalloc, below the image", "linear map")
    assert all(set(column.cells) == set(drawn.rows) for column in drawn.columns)


def test_blocks(make_guest: MakeGuest) -> None:
    """Blocks go from the highest address down and are coloured by what may be done there."""
    guest = make_guest()
    rodata, text = _image(picture([_survey(guest)]))
    assert (text.va, text.kind, text.grain) == (guest.image_va, Kind.EXECUTE, Grain.PAGE)
    assert (rodata.va, rodata.kind) == (guest.image_va + (4 << 12), Kind.READ_ONLY)
    assert text.note == "r-x  16K in 4K"


def test_nothing_is_lost(make_guest: MakeGuest) -> None:
    """However many rows there are, blocks are few and map as much together."""
    guest = make_guest()
    start = guest.linear_va + (1 << 30)
    for number in range(400):
        attributes = leaf_attributes(uxn=True, pxn=True, ap=0b10 if number % 3 else 0)
        guest.builder.map(start + (number << 13), 0x6000_0000, 4096, attributes=attributes, level=3)
    found = _survey(guest)
    cell = picture([found]).columns[0].cells["linear map"]
    assert len(cell.blocks) <= MAX_BLOCKS
    linear = next(one for one in found.regions if one.name == "linear map")
    assert sum(block.mapped_bytes for block in cell.blocks) == int(found.in_region(linear).size_bytes.sum())
    assert sum(block.leaves for block in cell.blocks) == len(found.in_region(linear))


def test_write_and_execute_stays_seen(make_guest: MakeGuest) -> None:
    """One writable and executable page is drawn as such among however many others."""
    guest = make_guest()
    start = guest.linear_va + (1 << 30)
    for number in range(200):
        safe = leaf_attributes(uxn=True, pxn=True, ap=0b10 if number % 3 else 0)
        attributes = leaf_attributes(uxn=True) if number == 77 else safe
        guest.builder.map(start + (number << 24), 0x6000_0000, 4096, attributes=attributes, level=3)
    blocks = picture([_survey(guest)]).columns[0].cells["linear map"].blocks
    assert Kind.WRITE_EXEC in {block.kind for block in blocks}


@pytest.mark.parametrize(
    ("level", "contiguous", "grain"),
    [(3, False, Grain.PAGE), (3, True, Grain.GROUP), (2, False, Grain.BLOCK), (2, True, Grain.LARGE)],
)
def test_grains(level: int, contiguous: bool, grain: Grain) -> None:
    """The larger the leaf, the fewer lines."""
    assert Grain.of(level, contiguous=contiguous) is grain


def test_svg_stands_alone(make_guest: MakeGuest) -> None:
    """The drawing is well-formed XML that loads nothing and runs nothing, the same bytes each time."""
    drawn = picture([_survey(make_guest(12)), _survey(make_guest(16))])
    text = render_svg(drawn)
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert root.tag == f"{SVG}svg"
    assert not list(root.iter(f"{SVG}script"))
    references = {value for one in root.iter() for name, value in one.attrib.items() if "href" in name}
    assert not references
    assert "prefers-color-scheme: dark" in text
    assert text == render_svg(drawn)


def test_svg_says_what_is_there(make_guest: MakeGuest) -> None:
    """Every block has a title with its addresses, and the columns say their page sizes."""
    guest = make_guest(16)
    root = ET.fromstring(render_svg(picture([_survey(guest)])))  # noqa: S314 - our own
    titles = [one.text or "" for one in root.iter(f"{SVG}title")]
    assert any(f"{guest.image_va:#018x}" in title and "EL1 r-x" in title for title in titles)
    texts = [one.text or "" for one in root.iter(f"{SVG}text")]
    assert "64K pages" in texts


def test_everything_is_inside(make_guest: MakeGuest) -> None:
    """Nothing is drawn outside of the drawing."""
    root = ET.fromstring(render_svg(picture([_survey(make_guest(log2)) for log2 in (12, 14)])))  # noqa: S314
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for one in root.iter(f"{SVG}rect"):
        assert 0 <= float(one.attrib["x"]) <= width
        top = float(one.attrib["y"])
        assert 0 <= top <= top + float(one.attrib["height"]) <= height


@pytest.mark.parametrize("render", [render_svg, render_page])
def test_hostile_names(make_guest: MakeGuest, render: Callable[[Picture], str]) -> None:
    """What a file or a guest calls itself is text, whatever it holds."""
    found = replace(_survey(make_guest(), HOSTILE), notes=(HOSTILE,))
    text = render(picture([found]))
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "alert(1)" in text


def test_an_empty_half(make_guest: MakeGuest) -> None:
    """Tables that map nothing still make a drawing."""
    guest = make_guest()
    for level_0 in (guest.linear_va, guest.image_va):
        guest.builder.plant(level_0, 0, 0)
    assert "4K pages" in render_svg(picture([_survey(guest)]))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows += 1
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<rect />` of the drawing: nothing stays open."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page(make_guest: MakeGuest) -> None:
    """The page's elements are balanced, and it lists every row."""
    found = _survey(make_guest())
    parser = _Tags()
    parser.feed(render_page(picture([found])))
    assert not parser.open
    assert parser.rows == 2 + len(found.totals.shares) + 1 + len(found.found)
