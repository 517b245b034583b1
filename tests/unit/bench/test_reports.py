"""Tables, picture and page."""

from __future__ import annotations

import io
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from harness.bench.compare import Comparison, compare
from harness.bench.guest_output import Outcome
from harness.bench.page import render_page
from harness.bench.picture import render_picture
from harness.bench.profile import Profile
from harness.bench.reasons import reasons_for
from harness.bench.shape import due_shape
from harness.bench.text import percent, print_comparison, print_reasons
from harness.spec import PageSize

from .conftest import MakeResult, MakeRow

EVIL = "<script>x</script>\x1b[31m"


@pytest.fixture
def comparison(row: MakeRow, result: MakeResult) -> Comparison:
    before, after = Profile(user=8, functions={EVIL: 992}), Profile(user=8, functions={EVIL: 1120})
    failed = row(EVIL, (1,), outcome=Outcome.FAIL, reason=EVIL)
    base = result(row("fork", (1000,), profile=before), row("munmap", (1000,)), failed)
    other = result(
        row("fork", (1128,), profile=after), row("munmap", (1038,)), failed,
        page_size=PageSize.K64, release=EVIL, compiler=EVIL, shape=due_shape(PageSize.K64, 1 << 33, 1 << 30),
    )  # fmt: skip
    return compare(replace(base, shape=due_shape(PageSize.K4, 1 << 33, 1 << 30)), other)


def _printed(comparison: Comparison) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=80, markup=False, highlight=False, no_color=True)
    print_comparison(comparison, console)
    reasons = reasons_for(comparison.base, comparison.other, "fork")
    assert reasons is not None
    print_reasons(reasons, comparison, console)
    return stream.getvalue()


def test_the_table(comparison: Comparison) -> None:
    """Base, difference in percent and `exact`, under a line that says what is counted."""
    printed = _printed(comparison)
    lines = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    assert lines["fork"][:6] == ["fork", "1,000", "1,128", "+128", "+12.8", "%"]
    assert lines["munmap"][1:6] == ["1,000", "1,038", "+38", "+3.8", "%"]
    assert "exact" in lines["fork"]
    assert printed.index("Instructions, not time") < printed.index("+12.8")
    assert printed.index("NOTE: different compilers") < printed.index("+12.8")


def test_nothing_of_a_guest_acts(comparison: Comparison) -> None:
    """What a kernel says of itself reaches neither terminal nor browser as anything but text."""
    assert "\x1b" not in _printed(comparison)
    page = render_page((comparison.base, comparison.other), (comparison,))
    assert "\x1b" not in page
    assert "<script" not in page


def test_the_page_stands_alone(comparison: Comparison) -> None:
    """The page has its drawing in it, and refers to nothing outside."""
    page = render_page((comparison.base, comparison.other), (comparison,))
    assert "<svg" in page
    assert "+12.8 %" in page
    assert "262,144" in page, "descriptors of a GiB at 4K"
    for word in ("src=", "href=", "@import", "url("):
        assert word not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_the_page_of_one_result(comparison: Comparison) -> None:
    """A result with nothing to compare has its numbers on the page."""
    assert "1,000" in render_page((comparison.base,), ())


def test_the_picture(comparison: Comparison) -> None:
    """Each benchmark with a number has a bar as long as its percentage, to the right of the middle."""
    root = ET.fromstring(render_picture(comparison))  # noqa: S314 - our own
    space = {"svg": "http://www.w3.org/2000/svg"}
    widths = [float(one.attrib["width"]) for one in root.iterfind(".//svg:rect[@class='dearer']", space)]
    assert len(widths) == 2
    assert widths[0] / widths[1] == pytest.approx(12.8 / 3.8, rel=0.01)


@pytest.mark.parametrize(
    ("value", "words"),
    [(12.8, "+12.8 %"), (-92.71, "-92.7 %"), (0.0, "0"), (0.0021, "+0.0021 %"), (None, "-")],
)
def test_percent(value: float | None, words: str) -> None:
    """A difference is never rounded to none."""
    assert percent(value) == words
