"""The drawing and the tables of a comparison as a web page that stands alone: no script, no network.

The page is page.html.j2 beside this file, which escapes all text.
"""

from __future__ import annotations

import functools

from jinja2 import Template
from markupsafe import Markup

from harness.report.page import page_environment
from harness.report.sizes.comparison import Comparison
from harness.report.sizes.picture import render_picture
from harness.report.sizes.sheet import guest_sheet, kb, size_sheet

__all__ = ["render_page"]


def render_page(comparison: Comparison) -> str:
    """The page; a pure function of the comparison."""
    # The drawing's text was escaped as it was made: it is XML.
    drawing = Markup(render_picture(comparison))  # noqa: S704
    sheets = [sheet for sheet in (size_sheet(comparison), guest_sheet(comparison)) if sheet is not None]
    return _template().render(comparison=comparison, drawing=drawing, sheets=sheets)


@functools.cache
def _template() -> Template:
    environment = page_environment("harness.report.sizes")
    environment.filters["kb"] = kb
    return environment.get_template("page.html.j2")
