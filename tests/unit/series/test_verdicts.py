"""What is said of a check, step by step."""

from __future__ import annotations

import pytest

from harness.series.values import Outcome, Variant
from harness.series.verdicts import Word, first_bad, judge, worst
from harness.spec import PageSize

PASS = Outcome(runs=1)
FAIL = Outcome(runs=3, failed=3, said="no")
FLAKY = Outcome(runs=3, failed=1, said="no")
UNBUILT = Outcome(unbuilt=True)
N, S, B, F = Word.NEW, Word.STILL, Word.BASE, Word.FIXED


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ((PASS, PASS, PASS), (Word.PASS, Word.PASS)),
        ((PASS, FAIL, FAIL, PASS, PASS), (N, S, F, Word.PASS)),
        ((FAIL, FAIL, PASS, FAIL), (B, F, N)),
        ((PASS, FLAKY, PASS), (Word.FLAKY, Word.PASS)),
        ((FLAKY, FAIL, PASS), (Word.FLAKY, Word.PASS)),
        ((PASS, UNBUILT, FAIL), (Word.NOT_BUILT, N)),
        ((PASS, None, PASS), (Word.NOT_RUN, Word.PASS)),
        ((UNBUILT, FAIL), (N,)),
    ],
    ids=["clean", "fixed", "on base", "flaky", "flaky base", "not built", "not run", "no control"],
)
def test_words(column: tuple[Outcome | None, ...], words: tuple[Word, ...]) -> None:
    """Only the patch that a failure begins with is called new, and never one that fails on the base."""
    assert tuple(one.word for one in judge(column)[1:]) == words


def test_inert_steps_say_nothing_of_their_own() -> None:
    """A patch that leaves the kernel as it was is not judged, and the first bad one is still told exactly."""
    judged = judge((PASS, None, FAIL), frozenset({1}))
    assert [one.word for one in judged[1:]] == [Word.NOTHING, Word.NEW]
    assert judged[2].after == 1


def test_first_bad_is_exact_only_where_the_patch_before_passed() -> None:
    """With patches in between that were not run, the range is named."""
    variant = Variant(PageSize.K16.bytes)
    exact = first_bad({(variant, "x"): judge((PASS, PASS, FAIL))})
    ranged = first_bad({(variant, "x"): judge((PASS, None, None, FAIL))})
    assert [(bad.step, bad.after, bad.is_exact) for bad in (*exact, *ranged)] == [(2, 1, True), (3, 0, False)]


def test_since_names_the_step() -> None:
    """A clean patch after a bad one is told which one it fails since."""
    assert [one.since for one in judge((PASS, FAIL, FAIL))] == [0, 0, 1]


def test_worst_shows_failures_and_not_what_did_not_run() -> None:
    """A check that could not run does not hide that the others passed; a failure hides everything."""
    assert worst([Word.PASS, Word.NOT_RUN]) is Word.PASS
    assert worst([Word.PASS, Word.NOT_RUN, Word.STILL, Word.NEW]) is Word.NEW
    assert worst([Word.PASS, Word.FIXED]) is Word.FIXED
    assert worst([]) is Word.NOT_RUN
