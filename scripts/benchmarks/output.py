"""What every benchmark prints: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["as_json", "printed"]

Figures = TypeVar("Figures", bound=dict[str, Any])

as_json = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON value on stdout.")


def printed(figures: Figures, show: Callable[[Figures], None], as_json: bool) -> None:
    """The figures, as JSON or by `show`."""
    if as_json:
        json.dump(figures, sys.stdout, indent=2)
        print()
    else:
        show(figures)
