"""report.html: one page, no network, no script, nothing of a guest's taken for markup."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from harness.report.html import MAX_CONSOLE_CHARS, render_html
from harness.verdict import MatrixResult, Verdict

VOID = {"meta", "br", "link", "img", "wbr", "hr", "input"}


class Page(HTMLParser):
    """The tags, ids, links, marks and text of a page; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        assert not any(name.startswith("on") or name in ("src", "srcset") for name in values)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, tag: str | None = None) -> str:
        return "".join(data for where, data in self.texts if tag in (None, where))


@pytest.mark.parametrize("name", ["chosen", "passed", "mixed", "hostile"])
def test_page_stands_alone(name: str, request: pytest.FixtureRequest) -> None:
    """No script, no image, nothing fetched by CSS, no link that leaves the page or leads nowhere."""
    text = render_html(request.getfixturevalue(name))
    page = Page(text)
    assert not {"script", "img", "iframe", "link", "object", "form"} & set(page.tags)
    assert page.links
    assert all(link.removeprefix("#") in page.ids for link in page.links)
    assert not re.search(r"url\(|@import|https?://", page.text("style"))


def test_every_verdict_has_a_word_and_a_place(mixed: MatrixResult) -> None:
    """Each cell is in the grid and has its section; the reason and the rerun command are there to read."""
    page = Page(render_html(mixed))
    assert len(page.links) == len(mixed.cells)
    for cell in mixed.cells:
        assert cell.id in page.text()
        assert cell.verdict.value in page.text()
        assert cell.reason in page.text()
    assert mixed.cells[0].rerun in page.text("pre")
    assert "debian-4k is a 4K-only kernel" in page.text("dd")


def test_what_was_chosen_at_boot(chosen: MatrixResult) -> None:
    """The note stands at the top, pairs have a table, and a cell says how its kernel was asked."""
    page = render_html(chosen)
    assert page.index("combined is 3 kernels in one file.") < page.index("Verdicts")
    assert "Chosen at boot, beside compiled in" in page
    assert "page-size: PASS at boot, absent compiled in" in page
    assert "<dt>asked by</dt><dd>none</dd>" in page
    assert "page size due" in page


def test_failures_are_open_and_passes_closed(mixed: MatrixResult) -> None:
    """What needs reading is unfolded."""
    opened = re.findall(r'<details class="cell \w+" id="cell-(\d+)"( open)?>', render_html(mixed))
    assert [bool(is_open) for _, is_open in opened] == [c.verdict is not Verdict.PASS for c in mixed.cells]


def test_oops_lines_are_marked_and_others_not(mixed: MatrixResult) -> None:
    """The block of the oops is highlighted from its first line to its end marker, and no more."""
    marked = Page(render_html(mixed)).text("mark")
    assert marked.startswith("[    0.700000] Unable to handle")
    assert marked.endswith("---[ end trace 0000000000000000 ]---")


def test_hostile_text_stays_text(hostile: MatrixResult) -> None:
    """A guest's tags are shown, not obeyed, its escapes visible, a template expression not evaluated."""
    text = render_html(hostile)
    assert "<script>alert" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", text)
    assert "␛[2J" in text
    assert "{{ 7 * 7 }}" in text
    text.encode("utf-8")


def test_long_console_is_cut_to_its_tail(hostile: MatrixResult) -> None:
    """Five megabytes of console leave a page that a browser opens, quickly made, that says so."""
    started = time.monotonic()
    text = render_html(hostile)
    assert time.monotonic() - started < 10
    assert len(text) < 4 * MAX_CONSOLE_CHARS
    assert "the bundle holds all of it" in text


def test_same_result_gives_same_page(mixed: MatrixResult) -> None:
    """No clock and no chance in it."""
    assert render_html(mixed) == render_html(mixed)


def test_empty_matrix_says_so() -> None:
    """No cell at all is a page that says that nothing was tested."""
    assert "nothing was tested" in Page(render_html(MatrixResult(expected=0, cells=()))).text("h1")
