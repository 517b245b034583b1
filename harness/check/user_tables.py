"""The user half of the address space: a process's tables against what its kernel says of its memory.

`capture` copies the tables while the guest stands still; the kernel is asked before and after; everything
else is a function of the two. A page that changed meanwhile is not compared, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from harness.bulk import Reads, walk_all
from harness.check.user_capture import Captured, Link, capture
from harness.check.user_groups import check_groups
from harness.check.user_held import Backing, Held, HeldMapping, parse_held
from harness.check.user_pages import check_held, check_pages
from harness.check.user_process import Observed, Process, View
from harness.check.user_rules import check_rules, check_tables
from harness.check.walkers import Answers, Walker, ask, walker_findings
from harness.verdict import Finding
from harness.vmsa import AnomalyKind

__all__ = [
    "Answers",
    "Backing",
    "Captured",
    "Held",
    "HeldMapping",
    "Link",
    "Observed",
    "Process",
    "UserTables",
    "ask_walker",
    "capture",
    "check_answers",
    "check_user_tables",
    "parse_held",
]

ANOMALIES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTables:
    """What was looked at, and what was found."""

    leaves: int
    """Leaves of the whole user half, each held against every rule."""
    pages: int
    """Pages that were compared with the kernel's words."""
    unstable: int
    """Pages that changed meanwhile, and were not."""
    tables: int
    """Table descriptors."""
    findings: tuple[Finding, ...]


def check_user_tables(captured: Captured, process: Process) -> UserTables:
    """Hold a process's tables, as they were at one moment, against what its kernel says of its memory."""
    view = View.of(captured, process)
    # hugetlb may share tables between processes, and within one (Linux mm/hugetlb.c, huge_pmd_share()).
    odd = (one for one in view.leaves.anomalies if one.kind is not AnomalyKind.TABLE_SHARED)
    findings = [
        Finding(
            what=f"user page tables, level {one.level} at {one.va:#x}",
            wanted="a sound table",
            seen=f"{one.kind.value} ({one.pa:#x}, descriptor {one.word or 0:#x})",
        )
        for one in islice(odd, ANOMALIES_SHOWN)
    ]
    for rules in (check_pages, check_rules, check_groups, check_tables, check_held):
        findings += rules(view)
    if not len(view.leaves) or not len(view.pages):
        seen = f"{len(view.leaves)} leaves, {len(view.pages)} pages"
        findings.append(Finding(what="user page tables", wanted="leaves and pages", seen=seen))
    return UserTables(
        leaves=len(view.leaves),
        pages=len(view.pages),
        unstable=view.unstable,
        tables=len(captured.links),
        findings=tuple(findings),
    )


def check_answers(captured: Captured, answers: Answers) -> Iterator[Finding]:
    """A second walker, which may read all that is mapped, translates as the model does."""
    return walker_findings(walk_all(captured.regime, Reads(captured.read)), answers)


def ask_walker(captured: Captured, walker: Walker) -> Answers:
    """What a second walker says of a sample of addresses, to be asked while nothing changes."""
    return ask(walk_all(captured.regime, Reads(captured.read)), walker)
