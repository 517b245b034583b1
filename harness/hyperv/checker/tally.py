"""Comparisons and findings, counted for each rule: what compared nothing has passed nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from harness.hyperv.checker.rules import RULES, WireRule, rule
from harness.hyperv.violation import Rule, Violation
from harness.hyperv.wirelog import WireLog

__all__ = ["CheckReport", "Finding", "RuleResult", "Tally"]

MAX_FINDINGS: Final = 256
"""Kept in full; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that a driver broke."""

    rule: WireRule
    where: str
    """The channel, register or processor."""
    wanted: str
    seen: str

    def __str__(self) -> str:
        return (
            f"{self.rule.driver} breaks {self.rule.name} at {self.where}: {self.seen}, and {self.wanted} was"
            f" wanted ({self.rule.source}: {self.rule.claim})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What became of one rule."""

    rule: WireRule
    comparisons: int
    broken: int

    @property
    def verdict(self) -> str:
        """passed, FAILED, or that nothing was compared."""
        if self.broken:
            return "FAILED"
        return "passed" if self.comparisons else "nothing compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a checker found."""

    results: tuple[RuleResult, ...]
    """Of the drivers that opened a channel, and of hv_vmbus."""
    findings: tuple[Finding, ...]
    """The first of them, oldest first."""
    other_violations: int
    """What broke the protocol itself, which the bus and the devices refused."""

    @property
    def comparisons(self) -> int:
        """Of all rules."""
        return sum(result.comparisons for result in self.results)

    @property
    def silent(self) -> tuple[WireRule, ...]:
        """Rules that were due and compared nothing: no verdict of theirs counts."""
        return tuple(
            result.rule for result in self.results if not result.comparisons and not result.rule.when
        )

    @property
    def passed(self) -> bool:
        """True when every rule that was due compared something, and nothing was broken."""
        return bool(self.comparisons) and not (
            self.silent or self.other_violations or any(result.broken for result in self.results)
        )


class Tally:
    """Counts for each rule; what breaks one goes to the log as a violation too."""

    def __init__(self, log: WireLog) -> None:
        self._log = log
        self._compared: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._findings: list[Finding] = []

    def equal(self, name: str, where: str, seen: object, wanted: object) -> bool:
        """Compare two values; numbers are shown in hex."""
        if seen == wanted:
            self._compared[name] += 1
            return True
        return self.holds(name, where, False, f"it is {_shown(seen)}", _shown(wanted))

    def holds(self, name: str, where: str, truth: bool, seen: str, wanted: str) -> bool:
        """Count a comparison whose outcome is known; `seen` and `wanted` are for people."""
        self._compared[name] += 1
        if truth:
            return True
        self._broken[name] += 1
        finding = Finding(rule=rule(name), where=where, wanted=wanted, seen=seen)
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)
        self._log.violation(Violation(rule=Rule.PAGE_SIZE, where=where, what=str(finding)))
        return False

    def report(self, drivers: set[str], other_violations: int) -> CheckReport:
        """The results so far, of the rules of those drivers and of rules that compared something."""
        return CheckReport(
            results=tuple(
                RuleResult(rule=each, comparisons=self._compared[each.name], broken=self._broken[each.name])
                for each in RULES
                if each.driver in drivers or self._compared[each.name]
            ),
            findings=tuple(self._findings),
            other_violations=other_violations,
        )


def _shown(value: object) -> str:
    if isinstance(value, int):
        return f"{value:#x}"
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(each) for each in value) + ")"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {each}" for key, each in value.items()) + "}"
    return str(value)
