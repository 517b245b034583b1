"""A matrix while it runs: what each cell is doing, live on a terminal, one plain line per event elsewhere.

Several cells run at once, each in its own thread: all methods may be called from any.

May import rich, harness.report.terminal, harness.verdict and the standard library.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from harness.report.terminal import verdict_text
from harness.report.wording import checks_passed, safe, work_done
from harness.verdict import CellResult, CheckResult

__all__ = ["Progress"]

# Where nothing is redrawn, a build shows a sign of life this often.
WORK_EVERY_S = 20.0


@dataclass(slots=True)
class _Running:
    since_s: float
    checks: int = 0
    last: str = "booting"


class Progress:
    """Shows a matrix of `expected` cells while it runs; a context manager, which ends the live display."""

    def __init__(
        self, console: Console, *, expected: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._expected = expected
        self._clock = clock
        self._start_s = clock()
        self._running: dict[str, _Running] = {}
        self._finished = 0
        self._work = ""
        self._work_said_s = float("-inf")
        self._lock = threading.Lock()
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                console=console, get_renderable=self._render, refresh_per_second=4, transient=True
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def kernel_wanted(self, name: str) -> None:
        """A kernel is not here yet and is being fetched or built."""
        self._say(Text(f"{safe(name)}: not in the cache; fetching or building it"))

    def kernel_progress(self, done: int, total: int | None, what: str) -> None:
        """How far that is: steps done, steps in all where known, and what is being done."""
        words = work_done(done, total, what)
        with self._lock:
            self._work = words
            due = self._clock() - self._work_said_s >= WORK_EVERY_S
            if due:
                self._work_said_s = self._clock()
        if due and self._live is None:
            self._say(Text(words))

    def kernel_ready(self, name: str) -> None:
        """The kernel is here."""
        with self._lock:
            self._work = ""
        self._say(Text(f"{safe(name)}: ready"))

    def cell_started(self, cell_id: str) -> None:
        """A cell's QEMU is about to start."""
        with self._lock:
            self._running[cell_id] = _Running(self._clock())
        if self._live is None:
            self._say(Text(f"{safe(cell_id)}: started"))

    def check_finished(self, cell_id: str, check: CheckResult) -> None:
        """A check of a cell has its result."""
        with self._lock:
            cell = self._running.get(cell_id) or _Running(self._clock())
            self._running[cell_id] = cell
            cell.checks += 1
            cell.last = check.name
        if self._live is None or not check.verdict.is_pass:
            said = Text.assemble(f"{safe(cell_id)}: {safe(check.name)} ", verdict_text(check.verdict))
            said.append(f" in {check.duration_s:.1f} s")
            self._say(said)

    def cell_finished(self, cell: CellResult) -> None:
        """A cell has its verdict."""
        with self._lock:
            self._running.pop(cell.id, None)
            self._finished += 1
            count = f"({self._finished} of {self._expected})"
        said = Text.assemble(f"{safe(cell.id)}: ", verdict_text(cell.verdict))
        said.append(f", {checks_passed(cell)} checks in {cell.duration_s:.1f} s {count}")
        if cell.reason:
            said.append(f": {safe(cell.reason)}")
        self._say(said)

    def _say(self, text: Text) -> None:
        # Never under our lock: printing takes the live display's, whose thread takes ours to draw.
        elapsed = Text(f"[{self._clock() - self._start_s:7.1f} s] ", style="dim")
        self._console.print(elapsed + text, soft_wrap=True)

    def _render(self) -> Group:
        with self._lock:
            now_s = self._clock()
            lines = [
                Text(
                    f"  {safe(name)}: {now_s - cell.since_s:5.1f} s, {cell.checks} checks, {safe(cell.last)}",
                    no_wrap=True,
                    overflow="ellipsis",
                )
                for name, cell in self._running.items()
            ]
            if self._work:
                lines.append(Text(f"  {self._work}", no_wrap=True, overflow="ellipsis"))
            head = f"{self._finished} of {self._expected} cells, {now_s - self._start_s:.0f} s"
            return Group(Text(head, style="bold"), *lines)
