"""What came of one kselftest program: its points, its exit status, and which failures are known.

Statuses: Linux tools/testing/selftests/kselftest.h, KSFT_PASS to KSFT_SKIP. Many programs of `mm` speak no
KTAP, or speak it loosely; of those the status is the one thing to go by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.kselftest.facts import KnownFailure
from harness.linux.ktap import KtapStatus, parse_ktap
from harness.smoke.evidence import Evidence

__all__ = ["UNEXPECTED_PASS", "Outcome", "judge"]

PASS, XFAIL, SKIP = 0, 2, 4
UNEXPECTED_PASS = "unexpected pass of a known failure"  # noqa: S105 - not a password
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

    Each KTAP point that was tried is an expectation, the exit status one more. A failure that `known` covers
    is noted and no expectation; one that passes although `known` expects it to fail is noted too.
    """
    result = parse_ktap(outcome.output)
    skipped = outcome.status == SKIP or bool(result.skip_reason)
    explained: dict[int, str] = {}
    whole = [(number, one) for number, one in enumerate(known) if one.point is None]
    failed = False

    def expect(what: str, wanted: str, seen: str) -> None:
        """A failure, unless it is known."""
        nonlocal failed
        failed = True
        for number, one in enumerate(known):
            if one.point is not None and one.point.fullmatch(what) is None:
                continue
            explained[number] = one.reason
            evidence.note(f"known failure: {what}: {seen}: {one.reason}")
            return
        evidence.holds(what, False, wanted=wanted, seen=seen)

    passed = 0
    for point in result.leaves:
        if point.status.is_failure:
            seen = point.status.value + (f" ({point.why})" if point.why else "")
            expect(point.name, "ok", seen)
        elif point.status is KtapStatus.OK:
            passed += 1
            _note_passing(point.name, known, evidence)
    evidence.checked(passed)
    # What ends by a skip has broken off its plan.
    for problem in () if skipped else result.problems:
        expect(problem, "KTAP to its end", "otherwise")
    if outcome.truncated:
        expect("output", "all of it", "more than is kept")
    if outcome.status == SKIP:
        evidence.not_here(_why_skipped(outcome, result.skip_reason))
    elif outcome.status not in (PASS, XFAIL):
        if not failed:
            expect("exit status", "0", _said(outcome))
    elif result.skip_reason:
        evidence.not_here(result.skip_reason)
    elif not result.is_ktap:
        evidence.equal("exit status", PASS, outcome.status)
    elif not passed and not failed:
        evidence.not_here("every point was skipped: " + _first_skip(outcome))
    for number, one in whole:
        if number not in explained and not failed and not skipped:
            evidence.note(f"{UNEXPECTED_PASS}: {one.test}: {one.reason}")
    if explained:
        evidence.not_here(f"known failure: {next(iter(explained.values()))}")


def _note_passing(name: str, known: Sequence[KnownFailure], evidence: Evidence) -> None:
    for one in known:
        if one.point is not None and one.point.fullmatch(name):
            evidence.note(f"{UNEXPECTED_PASS}: {name}: {one.reason}")


def _why_skipped(outcome: Outcome, reason: str) -> str:
    if reason:
        return reason
    skips = [point.why for point in parse_ktap(outcome.output).points if point.status is KtapStatus.SKIP]
    return next((why for why in skips if why), "") or _last_line(outcome) or "the test says nothing of why"


def _first_skip(outcome: Outcome) -> str:
    points = parse_ktap(outcome.output).points
    return next((point.why or point.name for point in points), "there was none")


def _said(outcome: Outcome) -> str:
    how = f"signal {outcome.status - _SIGNALLED}" if outcome.status > _SIGNALLED else str(outcome.status)
    last = _last_line(outcome)
    return f"{how}, after '{last}'" if last else how


def _last_line(outcome: Outcome) -> str:
    lines = [line.strip() for line in outcome.output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
