"""parse_tap: what a whole run is, and that nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.tap import TapPoint, parse_tap

WHOLE = b"ok 1 - one\nnot ok 2 - two # wanted 4096 saw 16384\nok 3 - three # SKIP no such thing\n1..3\n"


def test_a_whole_run() -> None:
    """Points carry their text, what was wanted and seen, and why they were skipped."""
    result = parse_tap(WHOLE)
    assert result.complete
    assert result.plan == 3
    assert result.points == (
        TapPoint(number=1, ok=True, text="one"),
        TapPoint(number=2, ok=False, text="two", wanted="4096", seen="16384"),
        TapPoint(number=3, ok=True, text="three", skip_reason="no such thing"),
    )


def test_passed_needs_every_point() -> None:
    """One point that is not ok, or a plan that is missing, is no pass."""
    assert parse_tap(b"ok 1 - one\n1..1\n").passed
    assert not parse_tap(WHOLE).passed
    assert not parse_tap(b"ok 1 - one\n").passed


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (b"", "no plan"),
        (b"ok 1 - one\n", "no plan after 1 points"),
        (b"1..0\n", "no points"),
        (b"ok 1 - a\n1..2\n", "point 2 of 2 is missing"),
        (b"ok 1 - a\nok 2 - b\n1..1\n", "beyond the plan"),
        (b"ok 1 - a\nok 1 - a\n1..1\n", "twice"),
        (b"ok 2 - b\nok 1 - a\n1..2\n", "out of order"),
        (b"1..1\nok 1 - a\n", "output after the plan"),
        (b"ok 1 - a\n1..1\nSegmentation fault\n", "output after the plan"),
        (b"ok 1 - a\n1..1\n1..1\n", "2 plans"),
        (b"ok 1 - a\n1..9999999\n", "no plan"),
    ],
)
def test_incomplete(output: bytes, problem: str) -> None:
    """A missing or wrong plan, or numbers that are not 1 to N, make a run incomplete, and it says why."""
    result = parse_tap(output)
    assert not result.complete
    assert problem in result.problem


def test_other_lines_are_passed_over() -> None:
    """A message between the points does not break the run, nor is it a point."""
    result = parse_tap(b"modprobe: hello\nok 1 - one\r\n# note\nokay 2 - no\n1..1\n")
    assert result.passed
    assert len(result.points) == 1


def test_a_failure_keeps_its_whole_text_without_a_reason() -> None:
    """A point that is not ok and does not say why is still a failure with its text."""
    (point,) = parse_tap(b"not ok 1 - odd # SKIP me\n1..1\n").points
    assert not point.ok
    assert point.text == "odd # SKIP me"
    assert point.skip_reason == ""


def test_a_flood_is_bounded() -> None:
    """More points than any probe makes are not kept, and such a run is not complete."""
    flood = b"".join(b"ok %d - x\n" % number for number in range(1, 20_001)) + b"1..20000\n"
    result = parse_tap(flood)
    assert len(result.points) == 10_000
    assert not result.complete


def test_more_than_the_limit_is_incomplete() -> None:
    """Output past the limit is not read, so the run cannot be known to be whole."""
    assert not parse_tap(b"ok 1 - x\n1..1\n" + b"\n" * (5 << 20) + b"not ok 2 - y\n").complete


@given(st.binary(max_size=300) | st.text(alphabet="ok not123.-# \n\rSKIPwanteds", max_size=300))
def test_never_raises(output: bytes | str) -> None:
    """Whatever the output, there is a result, and a complete one has as many points as its plan."""
    result = parse_tap(output)
    assert not result.complete or len(result.points) == result.plan
