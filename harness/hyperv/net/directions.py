"""What a TCP connection remembers of each direction, as positions (see `connection`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FIRST_TIMEOUT_S", "Receiving", "Sending"]

FIRST_TIMEOUT_S: Final = 0.3
"""Until what is not acknowledged is sent again; it doubles with each time."""


@dataclass(slots=True)
class Sending:
    """Our direction. `base` is the position of the first byte in `buffer`."""

    initial: int
    una: int = 0
    nxt: int = 0
    window: int = 0
    base: int = 1
    fin_at: int | None = None
    recover: int | None = None
    """Until this is acknowledged, what an acknowledgment leaves first is lost too."""
    duplicates: int = 0
    retries: int = 0
    timeout_s: float = FIRST_TIMEOUT_S
    due_s: float | None = None
    updated: tuple[int, int] = (0, 0)
    """Positions of sequence and acknowledgment that the window was taken from."""


@dataclass(slots=True)
class Receiving:
    """The peer's direction."""

    initial: int
    nxt: int = 1
    edge: int = 1
    """Right edge of the window that the peer was told; it never goes back."""
    fin_at: int | None = None
    unacknowledged: int = 0
    """Segments taken since we acknowledged."""
