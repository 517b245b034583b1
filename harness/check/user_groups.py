"""Contiguous groups of a process: complete, alike, and of one aligned piece of memory."""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.contiguous import broken_groups
from harness.check.user_process import View, told
from harness.verdict import Finding

__all__ = ["check_groups"]


def check_groups(view: View) -> Iterator[Finding]:
    """Every contiguous group that has a leaf, told by the descriptors that are unlike most of it."""
    broken = broken_groups(view.leaves, view.written_pa)
    odd = sorted({*broken.elsewhere.tolist(), *broken.unlike.tolist()})
    yield from told(
        "broken contiguous group, incomplete", [view.hole(va) for va, _ in broken.missing], broken.incomplete
    )
    yield from told("broken contiguous group", [view.leaf(index) for index in odd])
