"""Kernel release strings."""

from __future__ import annotations

import re

__all__ = ["at_least"]


def at_least(release: str, version: tuple[int, int]) -> bool:
    """True when a release such as `6.12.107+deb13-arm64` is of that version or later."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return match is not None and (int(match[1]), int(match[2])) >= version
