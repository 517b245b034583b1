"""What the web pages of all reports are made with: one template each, no script, no network."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.wording import safe

__all__ = ["page_environment"]


def page_environment(package: str) -> Environment:
    """For the templates beside a package's modules: all text is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_text"] = safe
    return environment
