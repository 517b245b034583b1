"""The report as a web page that stands alone: no script, no network. It is page.html.j2 beside this file.

May import harness.bench, harness.report, jinja2 and the standard library.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from jinja2 import Template
from markupsafe import Markup

from harness.bench.compare import Comparison
from harness.bench.picture import render_picture
from harness.bench.reasons import Reasons, reasons_for
from harness.bench.result import Result
from harness.bench.shape import Shape
from harness.bench.text import how_sure, number, percent, signed, what_it_is
from harness.report.page import page_environment

__all__ = ["render_page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """One comparison, with all that is shown of it."""

    comparison: Comparison
    drawing: Markup
    reasons: tuple[Reasons, ...]
    shapes: tuple[Shape, ...]
    """Of the large area on both sides, where they were found and differ."""


def render_page(results: tuple[Result, ...], comparisons: tuple[Comparison, ...]) -> str:
    """The page; a pure function of what it shows."""
    return _template().render(results=results, sections=[_section(one) for one in comparisons])


def _section(comparison: Comparison) -> _Section:
    base, other = comparison.base, comparison.other
    found = (reasons_for(base, other, one.name) for one in comparison.differences)
    shapes = tuple(result.shape for result in (base, other) if result.shape is not None)
    return _Section(
        comparison=comparison,
        # The drawing's text was escaped as it was made: it is XML.
        drawing=Markup(render_picture(comparison)),  # noqa: S704
        reasons=tuple(reasons for reasons in found if reasons is not None and reasons.functions),
        shapes=shapes if len(shapes) == 2 and shapes[0] != shapes[1] else (),
    )


@functools.cache
def _template() -> Template:
    environment = page_environment("harness.bench")
    environment.filters |= {"number": number, "percent": percent, "signed": signed}
    environment.globals |= {"how_sure": how_sure, "what_it_is": what_it_is}
    return environment.get_template("page.html.j2")
