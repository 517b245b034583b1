"""What a check has compared so far. A check that compared nothing has not passed."""

from __future__ import annotations

from harness.linux.tap import TapResult
from harness.verdict import CheckResult, Finding, Verdict

__all__ = ["Evidence"]

# A guest that fails a thousand points in the same way is told by the first few.
FINDING_LIMIT = 20


class Evidence:
    """Collects expectations: each is counted, and those that do not hold become findings.

    `output` is text worth showing beside them: what a command of the user's printed, or what `note` was told.
    """

    def __init__(self) -> None:
        self._expectations = 0
        self._findings: list[Finding] = []
        self._skip_reason = ""
        self._timed_out = False
        self.output = ""

    def equal(self, what: str, wanted: object, seen: object) -> bool:
        """Expect `seen` to equal `wanted`; says whether it does."""
        return self.holds(what, wanted == seen, wanted=str(wanted), seen=str(seen))

    def holds(self, what: str, condition: bool, *, wanted: str, seen: str) -> bool:
        """Expect `condition`; `wanted` and `seen` say it in words."""
        self._expectations += 1
        if not condition and len(self._findings) < FINDING_LIMIT:
            self._findings.append(Finding(what=what, wanted=wanted, seen=seen))
        return condition

    def checked(self, count: int) -> None:
        """That many facts were compared elsewhere; those that do not hold come through `found`."""
        self._expectations += count

    def found(self, finding: Finding) -> None:
        """A finding that was made elsewhere."""
        if len(self._findings) < FINDING_LIMIT:
            self._findings.append(finding)

    def note(self, line: str) -> None:
        """A line that says what was compared, or could not be, for whoever wonders what a PASS is worth."""
        self.output = f"{self.output}\n{line}" if self.output else line

    def tap(self, what: str, tap: TapResult, status: int) -> None:
        """Expect every point of a probe's output to be ok, the plan complete, and its exit status 0.

        Only points count as expectations: a probe that skipped them all has shown nothing.
        """
        for point in tap.points:
            if not point.skip_reason:
                self.holds(point.text, point.ok, wanted=point.wanted or "ok", seen=point.seen or "not ok")
            else:
                self.not_here(point.skip_reason)
        if not tap.complete:
            self.holds(what, False, wanted="a run to its end", seen=tap.problem)
        elif all(point.ok for point in tap.points) and status != 0:
            self.equal(f"exit status of {what}", 0, status)

    def timed_out(self, what: str, *, within_s: float, said: str) -> None:
        """Something did not end in time in a guest that goes on: the check's verdict is TIMEOUT."""
        self.holds(what, False, wanted=f"its end within {within_s:g} s", seen=said)
        self._timed_out = True

    def not_here(self, reason: str) -> None:
        """The check cannot be made in this cell, for a reason that lies in the cell and not in the host."""
        self._skip_reason = reason

    def result(self, name: str, duration_s: float) -> CheckResult:
        """The check's result: PASS only if something was compared and all of it held."""
        findings = list(self._findings)
        failure = Verdict.TIMEOUT if self._timed_out else Verdict.FAIL
        verdict = failure if findings else Verdict.PASS
        if not findings and self._expectations == 0:
            verdict = Verdict.SKIP if self._skip_reason else Verdict.FAIL
            if verdict is Verdict.FAIL:
                findings.append(Finding(what=name, wanted="at least one comparison", seen="none was made"))
        return CheckResult(
            name=name,
            verdict=verdict,
            expectations=self._expectations,
            duration_s=duration_s,
            findings=tuple(findings),
            skip_reason=self._skip_reason if verdict is Verdict.SKIP else "",
            output=self.output,
        )
