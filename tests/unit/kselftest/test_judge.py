"""judge: what a program's output and status are worth, and what a known failure changes."""

from __future__ import annotations

import re

import pytest

from harness.kselftest.facts import KnownFailure
from harness.kselftest.judge import UNEXPECTED_PASS, Outcome, judge
from harness.smoke.evidence import Evidence
from harness.spec import PageSize
from harness.verdict import CheckResult, Verdict

TWO = "TAP version 13\n1..2\nok 1 a\nok 2 b\n"
SECOND_FAILS = TWO.replace("ok 2 b", "not ok 2 b")


def _judged(output: str, status: int = 0, *known: KnownFailure, truncated: bool = False) -> CheckResult:
    evidence = Evidence()
    judge(Outcome(output=output.encode(), status=status, truncated=truncated), known, evidence)
    return evidence.result("test", 0.0)


def _known(point: str | None) -> KnownFailure:
    return KnownFailure(
        test="test",
        point=None if point is None else re.compile(point),
        page_sizes=frozenset(PageSize),
        release=None,
        reason="as ever",
    )


def test_points_are_expectations() -> None:
    """Each point that passed counts."""
    result = _judged(TWO)
    assert (result.verdict, result.expectations) == (Verdict.PASS, 2)


def test_a_status_alone_is_one_expectation() -> None:
    """A program without KTAP passes by its status."""
    assert _judged("done\n").verdict is Verdict.PASS
    assert _judged("done\n").expectations == 1


def test_a_failing_point_is_a_finding() -> None:
    """A point that is not ok is named, once, whatever the status."""
    for status in (0, 1):
        result = _judged(SECOND_FAILS, status)
        assert result.verdict is Verdict.FAIL
        assert [finding.what for finding in result.findings] == ["b"]


@pytest.mark.parametrize(
    ("status", "said"), [(1, "1, after 'oh'"), (139, "signal 11, after 'oh'"), (3, "3, after 'oh'")]
)
def test_a_bad_status_is_a_finding(status: int, said: str) -> None:
    """A program that ends badly without a failing point fails by its status, with its last words."""
    for output in ("oh\n", TWO + "oh\n"):
        result = _judged(output, status)
        assert result.verdict is Verdict.FAIL
        assert [finding.seen for finding in result.findings] == [said]


def test_a_run_that_is_cut_fails() -> None:
    """Points that are missing, and output that was not kept, are findings although the rest passed."""
    assert _judged("TAP version 13\n1..2\nok 1 a\n").verdict is Verdict.FAIL
    assert _judged(TWO, truncated=True).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("output", "status", "reason"),
    [
        ("TAP version 13\n1..0 # SKIP no pages\n", 4, "no pages"),
        ("TAP version 13\n1..3\nok 1 # SKIP no pages\n", 4, "no pages"),
        ("TAP version 13\n1..1\nok 1 a # SKIP no pages\n", 0, "no pages"),
        ("no pages\n", 4, "no pages"),
        ("", 4, "the test says nothing of why"),
    ],
)
def test_a_skip_says_why(output: str, status: int, reason: str) -> None:
    """Whatever way a test skips itself, it is a SKIP with its own words."""
    result = _judged(output, status)
    assert (result.verdict, result.skip_reason) == (Verdict.SKIP, reason)


def test_a_skip_does_not_hide_a_failure() -> None:
    """A test that failed a point before it skipped the rest has failed."""
    assert _judged("TAP version 13\n1..3\nnot ok 1 a\nok 2 # SKIP rest\n", 4).verdict is Verdict.FAIL


def test_xfail_is_no_finding() -> None:
    """What a test itself expects to fail is no finding, and no expectation."""
    result = _judged("TAP version 13\n1..2\nok 1 a\nnot ok 2 b # XFAIL\n", 2)
    assert (result.verdict, result.expectations) == (Verdict.PASS, 1)


def test_a_known_failure_is_noted() -> None:
    """A failing point that is known is no finding; what else passed makes the test pass, with a note."""
    result = _judged(SECOND_FAILS, 1, _known("b"))
    assert (result.verdict, result.expectations) == (Verdict.PASS, 1)
    assert "known failure: b: not ok: as ever" in result.output


def test_a_bail_out_only_counts_the_failures_before_it() -> None:
    """After failures that are known a bail-out is no finding of its own; without any it is one."""
    assert _judged(f"{SECOND_FAILS}Bail out! 1 of 2 failed\n", 1, _known("b")).verdict is Verdict.PASS
    result = _judged("TAP version 13\n1..2\nok 1 a\nBail out! no memory\n", 1)
    assert [finding.what for finding in result.findings] == ["bailed out: no memory"]


def test_a_known_failure_covers_only_what_it_names() -> None:
    """Another point that fails is a finding all the same; a name is matched in full."""
    assert _judged(SECOND_FAILS, 1, _known("a")).verdict is Verdict.FAIL
    assert _judged(SECOND_FAILS.replace(" b", " b2"), 1, _known("b")).verdict is Verdict.FAIL


def test_a_known_failure_of_a_whole_test_is_no_pass() -> None:
    """A test of which all that was seen is a known failure has not passed: it is a SKIP for that reason."""
    result = _judged("oh\n", 1, _known(None))
    assert (result.verdict, result.skip_reason) == (Verdict.SKIP, "known failure: as ever")


@pytest.mark.parametrize("known", [_known("b"), _known(None)])
def test_an_unexpected_pass_is_said(known: KnownFailure) -> None:
    """A known failure that passes is a PASS, and said."""
    result = _judged(TWO, 0, known)
    assert result.verdict is Verdict.PASS
    assert UNEXPECTED_PASS in result.output


def test_a_known_failure_that_was_skipped_did_not_pass() -> None:
    """Nothing is said of a known failure in a test that skipped itself."""
    result = _judged("TAP version 13\n1..0 # SKIP no pages\n", 4, _known(None))
    assert UNEXPECTED_PASS not in result.output
