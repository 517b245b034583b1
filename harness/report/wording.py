"""The words that every report shares, so that terminal and page never disagree.

May import harness.linux.klog, harness.verdict and the standard library.
"""

from __future__ import annotations

from collections import Counter

from harness.linux.klog import harmless
from harness.verdict import CellResult, MatrixResult, Verdict

__all__ = ["checks_passed", "in_force", "kernel_name", "safe", "summary_line"]


def summary_line(result: MatrixResult) -> str:
    """One line on the whole run: `2 of 3 cells PASS, 1 FAIL in 14.2 s`."""
    if not result.expected and not result.cells:
        left_out = f" ({len(result.skipped)} skipped)" if result.skipped else ""
        return f"no cell was run{left_out}: nothing was tested, which is a failure"
    tally = Counter(cell.verdict for cell in result.cells)
    parts = [f"{tally[Verdict.PASS]} of {result.expected} cells PASS"]
    parts += [
        f"{tally[verdict]} {verdict.value}" for verdict in Verdict if tally[verdict] and not verdict.is_pass
    ]
    missing = result.expected - result.ran
    if missing > 0:
        parts.append(f"{missing} did not run")
    if missing < 0:
        parts.append(f"{-missing} more ran than expected")
    if result.skipped:
        parts.append(f"{len(result.skipped)} skipped")
    return f"{', '.join(parts)} in {result.duration_s:.1f} s"


def work_done(done: int, total: int | None, what: str) -> str:
    """How far a download or build is: `trimmed-64k: CC mm/mmap.o (312 of about 1420 steps, 21 %)`."""
    if not total:
        return safe(what)
    return f"{safe(what)} ({done} of about {max(total, done)} steps, {min(100 * done // total, 99)} %)"


def checks_passed(cell: CellResult) -> str:
    """`12/13`: checks that passed of those that ran."""
    ran = [check for check in cell.checks if check.verdict is not Verdict.SKIP]
    return f"{sum(check.verdict.is_pass for check in ran)}/{len(ran)}"


def in_force(cell: CellResult) -> str:
    """The page size in force as people write it, or `?` when the guest never said."""
    return cell.page_size_in_force.label if cell.page_size_in_force else "?"


def kernel_name(cell: CellResult) -> str:
    """The kernel's name without its provenance."""
    return safe(cell.kernel).split(maxsplit=1)[0] if cell.kernel.strip() else "?"


def safe(text: str) -> str:
    """Text that may have come from a guest, with what a terminal would act on made visible."""
    return harmless(text.encode("utf-8", "replace"))
