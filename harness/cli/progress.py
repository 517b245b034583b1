"""Progress of downloads and builds, wherever a command shows it."""

from __future__ import annotations

import sys
import time

from harness.report.progress import WORK_EVERY_S, Progress
from harness.report.wording import work_done

__all__ = ["KernelProgress"]

REDRAW_EVERY_S = 0.2
ERASE_LINE = "\r\x1b[K"


class KernelProgress:
    """Called with steps done, steps in all (None: unknown), and what is being done.

    Shown on a matrix's own display once it is told of one. Until then on stderr: redrawn in place on a
    terminal, a line every 20 s elsewhere, so that a log shows that a build is alive.
    """

    def __init__(self) -> None:
        self._board: Progress | None = None
        self._in_place = sys.stderr.isatty()
        self._last_s = float("-inf")

    def show_on(self, board: Progress) -> None:
        """From now on show it there."""
        self._erase()
        self._board = board

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """Show it, if the last one was long enough ago."""
        if self._board is not None:
            self._board.kernel_progress(done, total, what)
            return
        every_s = REDRAW_EVERY_S if self._in_place else WORK_EVERY_S
        if time.monotonic() - self._last_s < every_s:
            return
        self._last_s = time.monotonic()
        words = work_done(done, total, what)
        sys.stderr.write(f"{ERASE_LINE}{words[:78]}" if self._in_place else f"{words}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the line empty for what is printed next."""
        self._erase()

    def _erase(self) -> None:
        if self._in_place and self._board is None:
            sys.stderr.write(ERASE_LINE)
            sys.stderr.flush()
