"""What is not as it must be, and is therefore dropped."""

from __future__ import annotations

__all__ = ["Malformed"]


class Malformed(Exception):
    """Carries a short reason, by which drops are counted."""
