"""The drawing and its numbers as a web page that stands alone: no script, no network.

The page is page.html.j2 beside this file, which escapes all text. May import jinja2,
harness.report and this package.
"""

from __future__ import annotations

import functools
from typing import Final

from jinja2 import Template
from markupsafe import Markup

from harness.report.page import page_environment
from harness.tables.picture import Picture
from harness.tables.svg import render_svg
from harness.tables.words import address, chunk, size

__all__ = ["render_page"]

MAX_ROWS: Final = 2000
"""Rows listed of each source; the drawing covers all."""


def render_page(picture: Picture) -> str:
    """The page; a pure function of the picture."""
    # The drawing's text was escaped as it was made: it is XML.
    drawing = Markup(render_svg(picture))  # noqa: S704
    return _template().render(picture=picture, drawing=drawing, most=MAX_ROWS)


@functools.cache
def _template() -> Template:
    environment = page_environment("harness.tables")
    environment.filters |= {"address": address, "chunk": chunk, "in_words": size}
    return environment.get_template("page.html.j2")
