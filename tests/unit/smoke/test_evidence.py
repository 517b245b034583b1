"""Tests of harness.smoke.evidence: when a check has passed."""

from __future__ import annotations

from harness.linux.tap import parse_tap
from harness.smoke.evidence import FINDING_LIMIT, Evidence
from harness.verdict import CheckResult, Verdict


def _result(evidence: Evidence) -> CheckResult:
    return evidence.result("check", 0.0)


def test_expectations_are_counted() -> None:
    """Each comparison counts, and with all of them holding the check passes."""
    evidence = Evidence()
    assert evidence.equal("answer", 42, 42)
    assert evidence.holds("sky", True, wanted="blue", seen="blue")
    assert _result(evidence).expectations == 2
    assert _result(evidence).verdict is Verdict.PASS


def test_one_that_does_not_hold_is_a_finding() -> None:
    """A comparison that fails says what was wanted and what was seen."""
    evidence = Evidence()
    evidence.equal("answer", 42, 42)
    assert not evidence.equal("answer", 42, 41)
    result = _result(evidence)
    assert result.verdict is Verdict.FAIL
    assert [str(finding) for finding in result.findings] == ["answer: wanted 42, saw 41"]


def test_comparing_nothing_is_a_failure() -> None:
    """A check that looked at nothing has not passed."""
    result = _result(Evidence())
    assert result.verdict is Verdict.FAIL
    assert "at least one comparison" in str(result.findings[0])


def test_what_is_not_here_is_a_skip_with_its_reason() -> None:
    """A check that cannot be made in this cell says why."""
    evidence = Evidence()
    evidence.not_here("the kernel has no zram")
    assert _result(evidence).verdict is Verdict.SKIP
    assert _result(evidence).skip_reason == "the kernel has no zram"


def test_a_reason_to_skip_does_not_hide_a_finding() -> None:
    """A check that found something before it had to stop has failed."""
    evidence = Evidence()
    evidence.equal("answer", 42, 41)
    evidence.not_here("no more to see")
    assert _result(evidence).verdict is Verdict.FAIL


def test_a_probe_passes_by_its_points() -> None:
    """Each point of a probe that was not skipped is an expectation."""
    evidence = Evidence()
    evidence.tap("probe x", parse_tap(b"ok 1 - one\nok 2 - two # SKIP no memory\nok 3 - three\n1..3\n"), 0)
    assert _result(evidence).verdict is Verdict.PASS
    assert _result(evidence).expectations == 2


def test_a_probe_that_skips_all_is_a_skip() -> None:
    """A probe whose every point was skipped has shown nothing."""
    evidence = Evidence()
    evidence.tap("probe x", parse_tap(b"ok 1 - one # SKIP no memory\n1..1\n"), 0)
    assert _result(evidence).verdict is Verdict.SKIP
    assert _result(evidence).skip_reason == "no memory"


def test_a_probe_cut_short_fails() -> None:
    """Points without the plan are a probe that died, however good they look."""
    evidence = Evidence()
    evidence.tap("probe x", parse_tap(b"ok 1 - one\nok 2 - two\n"), 0)
    assert _result(evidence).verdict is Verdict.FAIL


def test_a_probe_that_fails_at_its_end_fails() -> None:
    """Good points with a bad exit status are not a pass."""
    evidence = Evidence()
    evidence.tap("probe x", parse_tap(b"ok 1 - one\n1..1\n"), 139)
    assert _result(evidence).verdict is Verdict.FAIL


def test_findings_are_bounded() -> None:
    """A guest that fails a thousand points is told by the first few, and all are counted."""
    evidence = Evidence()
    for number in range(1000):
        evidence.equal(str(number), 0, 1)
    assert len(_result(evidence).findings) == FINDING_LIMIT
    assert _result(evidence).expectations == 1000


def test_notes_are_kept_line_by_line() -> None:
    """What was compared, or could not be, is shown with the result and changes no verdict."""
    evidence = Evidence()
    evidence.note("oracles: one")
    evidence.note("no other")
    assert _result(evidence).output == "oracles: one\nno other"
    assert _result(evidence).verdict is Verdict.FAIL


def test_what_does_not_end_is_a_timeout() -> None:
    """Something that does not end in time makes the check a TIMEOUT, whatever else was found."""
    evidence = Evidence()
    evidence.equal("answer", 42, 42)
    evidence.timed_out("stress", within_s=300, said="no answer in time")
    result = _result(evidence)
    assert result.verdict is Verdict.TIMEOUT
    assert [str(finding) for finding in result.findings] == [
        "stress: wanted its end within 300 s, saw no answer in time"
    ]
