"""Progress of a running matrix, with and without a terminal."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from harness.report.progress import Progress
from harness.verdict import CellResult, CheckResult, Verdict

CHECK = CheckResult(name="mmap", verdict=Verdict.PASS, expectations=3, duration_s=0.25)


def test_plain_lines_without_a_terminal(cell: Callable[..., CellResult]) -> None:
    """One line per event, with the time since the start, and not one escape sequence."""
    stream = io.StringIO()
    clock = itertools.count(100.0, 1.5)
    with Progress(Console(file=stream, width=80), expected=2, clock=lambda: next(clock)) as progress:
        progress.cell_started("a")
        progress.check_finished("a", CHECK)
        progress.cell_finished(cell(id="a", verdict=Verdict.HANG, reason="silent"))
    lines = stream.getvalue().splitlines()
    assert lines == [
        "[    3.0 s] a: started",
        "[    4.5 s] a: mmap PASS in 0.2 s",
        "[    6.0 s] a: HANG, 2/2 checks in 6.6 s (1 of 2): silent",
    ]


def test_live_display_ends_with_the_block(
    cell: Callable[..., CellResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a cell's verdict stays on screen, and the cursor is given back, after an error too."""
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True)

    def run() -> None:
        with Progress(console, expected=1) as progress:
            progress.cell_started("a")
            progress.check_finished("a", CHECK)
            progress.cell_finished(cell(id="a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert "PASS" in stream.getvalue()
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_cells_report_from_their_threads(cell: Callable[..., CellResult]) -> None:
    """Lines of cells that run side by side do not run into each other."""
    stream = io.StringIO()
    with Progress(Console(file=stream, width=80), expected=8) as progress:

        def run(name: str) -> None:
            progress.cell_started(name)
            for _ in range(20):
                progress.check_finished(name, CHECK)
            progress.cell_finished(cell(id=name))

        threads = [threading.Thread(target=run, args=(f"cell{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 8 * 22
    assert all(line.startswith("[") and "s] cell" in line for line in lines)


def test_live_display_and_threads_do_not_deadlock(
    cell: Callable[..., CellResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that print while the display redraws itself all come to their end."""
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with Progress(console, expected=4) as progress:
        assert progress._live is not None

        def run(name: str) -> None:
            for _ in range(50):
                progress.cell_started(name)
                progress.cell_finished(cell(id=name))

        def redraw() -> None:
            for _ in range(200):
                assert progress._live is not None
                progress._live.refresh()

        threads = [threading.Thread(target=run, args=(f"cell{n}",), daemon=True) for n in range(4)]
        threads.append(threading.Thread(target=redraw, daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
            assert not thread.is_alive()
