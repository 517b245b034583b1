"""Tests of harness.deadline."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded


def test_expiry() -> None:
    """A deadline in the past has expired and has no time left."""
    past = Deadline.after(-1)
    assert past.expired()
    assert past.left_s() == 0.0
    assert not Deadline.after(60).expired()


def test_sooner_never_extends() -> None:
    """`sooner` gives the earlier of the two moments."""
    deadline = Deadline.after(10)
    assert deadline.sooner(60) == deadline
    assert deadline.sooner(1).left_s() <= 1


def test_wait_until_names_what_was_awaited() -> None:
    """Waiting in vain raises an error that names the thing."""
    with pytest.raises(DeadlineExceeded, match="the kettle"):
        Deadline.after(0.02).wait_until(lambda: False, "the kettle")


def test_wait_until_returns_when_it_holds() -> None:
    """Waiting ends as soon as the condition holds."""
    answers = iter([False, False, True])
    Deadline.after(10).wait_until(lambda: next(answers), "the third answer", poll_s=0.001)
    assert next(answers, "used up") == "used up"
