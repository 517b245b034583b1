"""What came of one kselftest program: its points, its exit status, and which failures are known.

Statuses: Linux tools/testing/selftests/kselftest.h, KSFT_PASS to KSFT_SKIP. Many programs of `mm` speak no
KTAP, or speak it loosely; of those the status is the one thing to go by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.kselftest.facts import KnownFailure
from harness.linux.ktap import BAILED_OUT, KtapResult, KtapStatus, parse_ktap
from harness.smoke.evidence import Evidence

__all__ = ["UNEXPECTED_PASS", "Outcome", "judge"]

PASS, XFAIL, SKIP = 0, 2, 4
UNEXPECTED_PASS = "unexpected pass of a known failure"  # noqa: S105 - not a password
UNTOLD = "the test says nothing of why"
_SIGNALLED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended."""

    output: bytes
    status: int
    truncated: bool = False
    """It printed more than was kept."""


def judge(outcome: Outcome, known: Sequence[KnownFailure], evidence: Evidence) -> None:
    """Say to `evidence` what the program showed.

    Each KTAP point that was tried is an expectation; without KTAP the exit status is the one there is. A
    failure that `known` covers is noted and is no expectation; what passes although it is known to fail is
    noted too.
    """
    _Judge(outcome=outcome, known=known, evidence=evidence, result=parse_ktap(outcome.output)).run()


@dataclass(slots=True, kw_only=True)
class _Judge:
    outcome: Outcome
    known: Sequence[KnownFailure]
    evidence: Evidence
    result: KtapResult
    failures: int = 0
    explained: str = ""
    """The reason of the first known failure that was met."""

    def run(self) -> None:
        """All that the outcome has to say."""
        passed = 0
        for point in self.result.leaves:
            if point.status.is_failure:
                why = f" ({point.why})" if point.why else ""
                self._failed(point.name, "ok", point.status.value + why)
            elif point.status is KtapStatus.OK:
                passed += 1
                self._passed(point.name)
        self.evidence.checked(passed)
        is_skip = self.outcome.status == SKIP or bool(self.result.skip_reason)
        # What ends by a skip has broken off its plan; what bails out after failures only counts them.
        for problem in () if is_skip else self.result.problems:
            if not (self.failures and problem.startswith(BAILED_OUT)):
                self._failed(problem, "KTAP to its end", "otherwise")
        if self.outcome.truncated:
            self._failed("output", "all of it", "more than is kept")
        if is_skip:
            self.evidence.not_here(self._skip_reason())
        elif self.outcome.status not in (PASS, XFAIL):
            if not self.failures:
                self._failed("exit status", "0", self._end())
        elif not self.result.is_ktap:
            self.evidence.checked(1)
        elif not passed and not self.failures:
            self.evidence.not_here(self._skip_reason())
        if not self.failures and not is_skip:
            for one in self.known:
                if one.point is None:
                    self.evidence.note(f"{UNEXPECTED_PASS}: {one.test}: {one.reason}")
        if self.explained:
            self.evidence.not_here(f"known failure: {self.explained}")

    def _failed(self, what: str, wanted: str, seen: str) -> None:
        """A finding, unless it is a known failure."""
        self.failures += 1
        for one in self.known:
            if one.point is None or one.point.fullmatch(what):
                self.explained = self.explained or one.reason
                self.evidence.note(f"known failure: {what}: {seen}: {one.reason}")
                return
        self.evidence.holds(what, False, wanted=wanted, seen=seen)

    def _passed(self, what: str) -> None:
        for one in self.known:
            if one.point is not None and one.point.fullmatch(what):
                self.evidence.note(f"{UNEXPECTED_PASS}: {what}: {one.reason}")

    def _skip_reason(self) -> str:
        said = [point.why for point in self.result.points if point.status is KtapStatus.SKIP]
        return next((why for why in (self.result.skip_reason, *said, self._last_line()) if why), UNTOLD)

    def _end(self) -> str:
        status = self.outcome.status
        how = f"signal {status - _SIGNALLED}" if status > _SIGNALLED else str(status)
        last = self._last_line()
        return f"{how}, after '{last}'" if last else how

    def _last_line(self) -> str:
        lines = self.outcome.output.decode("utf-8", "replace").splitlines()
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
