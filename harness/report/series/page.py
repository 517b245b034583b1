"""series.html: the table of a series as a page that needs no network.

The page is page.html.j2 beside this file, which escapes what it is given.
"""

from __future__ import annotations

import functools

from jinja2 import Template

from harness.report.page import page_environment
from harness.report.series.facts import About, Table, first_bad_lines, left_out_lines, summary, warning_lines
from harness.report.wording import safe
from harness.series.engine import SeriesResult

__all__ = ["render_page"]


def render_page(result: SeriesResult, about: About) -> str:
    """The page as text."""
    table = Table.of(result)
    asked = result.asked
    rows = [
        {
            "step": step,
            "subject": safe(asked.patches[step - 1].subject) if step else "the base, as control",
            "files": [
                f"{safe(path)}: {safe(reason)}" for path, reason in asked.affected[step - 1].reasons.items()
            ]
            if step
            else [],
            "cells": [
                {"words": safe(table.words(step, variant)), "kind": table.word(step, variant).name.lower()}
                for variant in asked.variants
            ],
        }
        for step in range(len(asked.patches) + 1)
    ]
    return _template().render(
        about=about,
        columns=[variant.label for variant in asked.variants],
        rows=rows,
        summary=summary(result),
        ok=not result.exit_status,
        bad=first_bad_lines(result),
        warnings=warning_lines(result),
        left_out=left_out_lines(result),
        seconds=round(result.seconds),
    )


@functools.cache
def _template() -> Template:
    return page_environment("harness.report.series").get_template("page.html.j2")
