"""One deadline, handed down: no function invents a time-out of its own, and none sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import DeadlineExceeded

__all__ = ["Deadline"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, in seconds, after which waiting ends."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at_s - time.monotonic())

    def expired(self) -> bool:
        """True once no time is left."""
        return self.left_s() == 0.0

    def sooner(self, seconds: float) -> Deadline:
        """This deadline, or the one that many seconds from now if that comes first."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.at_s)

    def wait_until(self, condition: Callable[[], bool], what: str, *, poll_s: float = 0.01) -> None:
        """Poll until `condition()` holds; raises DeadlineExceeded naming `what` when time runs out."""
        start_s = time.monotonic()
        while not condition():
            if self.expired():
                raise DeadlineExceeded(f"waited {time.monotonic() - start_s:.1f} s for {what}")
            time.sleep(min(poll_s, self.left_s()))  # noqa: TID251 - the one place that sleeps
