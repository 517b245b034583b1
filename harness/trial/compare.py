"""Before and after: which checks and rules of the wire came out otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from harness.trial.outcome import Outcome, RuleCount
from harness.verdict import Verdict

__all__ = ["ABSENT", "CheckChange", "Comparison", "RuleChange", "compare"]

ABSENT = "-"
"""Of a check that did not run in one of the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckChange:
    """One check in both guests; equal verdicts are no change."""

    name: str
    before: Verdict | None
    after: Verdict | None

    @property
    def is_worse(self) -> bool:
        """It failed, or did not run, where it had passed; or it is a new one that fails."""
        passed = self.before is not None and self.before.is_pass
        if self.after is None:
            return passed
        return self.after.is_failure and (self.before is None or not self.before.is_failure)

    @property
    def is_better(self) -> bool:
        """It passes where it had failed or not run."""
        return self.after is Verdict.PASS and (self.before is None or self.before.is_failure)

    def __str__(self) -> str:
        before, after = (ABSENT if one is None else one.value for one in (self.before, self.after))
        return before if before == after else f"{before} > {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """A rule of the wire that was broken in one of the two guests only."""

    name: str
    rule: RuleCount
    """As it was where it was broken."""
    is_worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two guests that differ in the change that is tried, and in nothing else."""

    checks: tuple[CheckChange, ...]
    rules: tuple[RuleChange, ...]

    @property
    def is_worse(self) -> bool:
        """Something failed, or was broken, that was not before."""
        return any(one.is_worse for one in self.checks) or any(one.is_worse for one in self.rules)

    @property
    def is_better(self) -> bool:
        """Something passes, or is kept, that was not before."""
        return any(one.is_better for one in self.checks) or any(not one.is_worse for one in self.rules)


def compare(before: Outcome, after: Outcome) -> Comparison:
    """What came out otherwise; the cell's own verdict is a check called `cell`, which comes last."""
    old = {**before.verdicts, "cell": before.cell.verdict}
    new = {**after.verdicts, "cell": after.cell.verdict}
    names = [name for name in dict.fromkeys((*old, *new)) if name != "cell"]
    rules = []
    for name in dict.fromkeys((*before.rules, *after.rules)):
        was, now = before.rules.get(name), after.rules.get(name)
        if now is not None and now.broken and not (was is not None and was.broken):
            rules.append(RuleChange(name=name, rule=now, is_worse=True))
        elif was is not None and was.broken and not (now is not None and now.broken):
            rules.append(RuleChange(name=name, rule=was, is_worse=False))
    return Comparison(
        checks=tuple(
            CheckChange(name=name, before=old.get(name), after=new.get(name)) for name in (*names, "cell")
        ),
        rules=tuple(rules),
    )
