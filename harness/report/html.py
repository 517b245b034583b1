"""report.html: one page that a person can read without a network, a script, or us.

The page is report.html.j2 beside this file; this module only arranges what it shows. Everything of a
guest's is text to the template, which escapes it.

May import jinja2, harness.linux.klog, harness.report.page, .pairs and .wording, harness.verdict and the
standard library.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from jinja2 import Template

from harness.linux.klog import KernelLog
from harness.report.page import page_environment
from harness.report.pairs import pairs_of
from harness.report.wording import checks_passed, in_force, kernel_name, safe, summary_line
from harness.spec import PageSize
from harness.verdict import CellResult, MatrixResult, Verdict

__all__ = ["render_html"]

MAX_CONSOLE_CHARS: Final = 256 << 10
"""The tail of each console on the page; the bundle holds all of it."""

MARKS: Final = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✕",
    Verdict.WRONG_PAGE_SIZE: "≠",
    Verdict.OOPS: "!",
    Verdict.PANIC: "!!",
    Verdict.HANG: "∞",
    Verdict.TIMEOUT: "…",
    Verdict.BOOT_FAILED: "⊘",
    Verdict.INFRA: "⚙",
    Verdict.SKIP: "-",
}
"""A shape per verdict, so that none is told by its colour alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A cell with the anchor of its section on the page."""

    anchor: str
    cell: CellResult


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Consecutive lines of a console that are all trouble, or all not."""

    is_trouble: bool
    text: str


def render_html(result: MatrixResult) -> str:
    """The page; a pure function of the result."""
    entries = [_Entry(anchor=f"cell-{n}", cell=cell) for n, cell in enumerate(result.cells, 1)]
    sizes = [size for size in PageSize if any(cell.page_size_asked is size for cell in result.cells)]
    kernels = list(dict.fromkeys(kernel_name(cell) for cell in result.cells))
    grid = {
        kernel: [
            [e for e in entries if kernel_name(e.cell) == kernel and e.cell.page_size_asked is size]
            for size in sizes
        ]
        for kernel in kernels
    }
    return _template().render(
        result=result,
        entries=entries,
        sizes=sizes,
        grid=grid,
        summary=summary_line(result),
        passed=not result.exit_status,
        pairs=pairs_of(result),
    )


@functools.cache
def _template() -> Template:
    environment = page_environment("harness.report")
    environment.filters |= {
        "mark": MARKS.__getitem__,
        "tone": _tone,
        "checks_passed": checks_passed,
        "in_force": in_force,
        "kernel_name": kernel_name,
        "runs": _console_runs,
        "slowest": _slowest_s,
    }
    return environment.get_template("report.html.j2")


def _tone(verdict: Verdict) -> str:
    """The class that gives a verdict its colours."""
    if verdict.is_pass:
        return "good"
    if verdict.is_failure:
        return "bad"
    return "infra" if verdict is Verdict.INFRA else "skip"


def _slowest_s(cell: CellResult) -> float:
    return max((check.duration_s for check in cell.checks), default=0.0) or 1.0


def _console_runs(cell: CellResult) -> list[_Run]:
    """The console's tail with the kernel's own reports of trouble told from the rest."""
    console = safe(cell.console)
    cut = len(console) > MAX_CONSOLE_CHARS
    if cut:
        console = console[-MAX_CONSOLE_CHARS:].partition("\n")[2] or console[-MAX_CONSOLE_CHARS:]
    log = KernelLog()
    runs: list[tuple[bool, list[str]]] = []
    for line in console.splitlines():
        is_trouble = _is_trouble(log, line)
        if not runs or runs[-1][0] is not is_trouble:
            runs.append((is_trouble, []))
        runs[-1][1].append(line)
    found = [_Run(is_trouble=is_trouble, text="\n".join(lines)) for is_trouble, lines in runs]
    note = _Run(
        is_trouble=False, text=f"[the last {MAX_CONSOLE_CHARS >> 10} KiB; the bundle holds all of it]"
    )
    return [note, *found] if cut else found


def _is_trouble(log: KernelLog, line: str) -> bool:
    events = log.feed(line.encode("utf-8", "replace") + b"\n")
    if log.pending is not None:
        return True
    # A line that ended a block belongs to it only when it is the block's last.
    return any(
        event.kind.is_finding and line.endswith((event.line, *event.context)[-1] or "\n") for event in events
    )
