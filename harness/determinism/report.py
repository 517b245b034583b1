"""A cell's findings as bytes, so that two runs of it are compared like their consoles.

May import harness.determinism.compare, harness.verdict and the standard library.
"""

from __future__ import annotations

import json
import re
from typing import Any

from harness.determinism.compare import Stream
from harness.verdict import CellResult, CheckResult

__all__ = ["report_stream"]

# As our own lines have them: `judged in 0.21 s`, `no shell after 31 s`.
_DURATION = re.compile(r"\b\d+(?:\.\d+)? s\b")


def report_stream(cell: CellResult) -> Stream:
    """What a cell found, as lines to compare with another run's: all but times, places and host figures.

    The console is a stream of its own, from its first byte, and not repeated here. Nor is the diagnosis of a
    guest that hung: where its vCPUs were when the host lost its patience.
    """
    size = cell.page_size_in_force
    document = {
        "page_size_in_force": None if size is None else size.token,
        "verdict": cell.verdict.value,
        "reason": _without_durations(cell.reason),
        "checks": [_check(check) for check in cell.checks],
    }
    return Stream(name="report", content=json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")


def _check(check: CheckResult) -> dict[str, Any]:
    return {
        "name": check.name,
        "verdict": check.verdict.value,
        "expectations": check.expectations,
        "findings": [str(finding) for finding in check.findings],
        "skip_reason": check.skip_reason,
        "output": _without_durations(check.output),
    }


def _without_durations(text: str) -> str:
    return _DURATION.sub("(time)", text)
