"""Tests of harness.matrix.asking: the ways of asking, and the size that is due for each."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.matrix.asking import ASKINGS, BY_SIZE, LACKING, askings_for, parse_askings
from harness.spec import PageSize

K4, K16, K64 = PageSize
ALL = frozenset(PageSize)

# include/uapi/asm/setup.h, COMMAND_LINE_SIZE, with its NUL.
COMMAND_LINE_BYTES = 2048


def test_what_is_due_is_what_each_way_says_of_itself() -> None:
    """On a CPU with every granule: worked out by hand from the rule."""
    due = {asking.name: asking.due(ALL) for asking in ASKINGS}
    assert due == {
        "none": K64,
        "empty": K64,
        "nonsense": K64,
        "upper-case": K64,
        "repeated": K4,
        "bad-last": K16,
        "alike": K16,
        "long": K16,
    }


def test_no_way_is_told_from_absence_by_luck() -> None:
    """A way whose words name a size is due another one than no words at all, or it would show nothing."""
    fallback = next(asking for asking in ASKINGS if asking.name == "none").due(ALL)
    for asking in ASKINGS:
        as_if_absent = "as if it were absent" in asking.about or asking.name == "none"
        assert (asking.due(ALL) is fallback) == as_if_absent


def test_a_size_that_the_cpu_lacks_is_a_way_of_its_own() -> None:
    """cortex-a57 has no 16K granule: asked for it, 64K is due; a CPU with all sizes has no such way."""
    (lacking,) = askings_for((LACKING,), {K4, K64})
    assert (lacking.name, lacking.kind, lacking.words) == ("lacking-16k", LACKING, ("arm64.pagesize=16k",))
    assert lacking.due({K4, K64}) is K64
    assert [one.name for one in askings_for((LACKING,), {K4})] == ["lacking-16k", "lacking-64k"]
    assert askings_for((LACKING,), ALL) == ()


def test_the_long_line_fits_a_kernels_buffer_and_is_shown_short() -> None:
    """It fills most of COMMAND_LINE_SIZE, leaves room for our words, and reports do not repeat it."""
    (long,) = askings_for(("long",), ALL)
    size_bytes = len(" ".join(long.words))
    assert 1700 < size_bytes < COMMAND_LINE_BYTES - 200
    assert long.shown.endswith("bytes of other words) arm64.pagesize=16k")
    assert len(long.shown) < 80


def test_absence_is_shown_in_words() -> None:
    """The way without words is not an empty line of a report."""
    (none,) = askings_for(("none",), ALL)
    assert none.words == ()
    assert none.shown == "no arm64.pagesize at all"


def test_names_are_read_in_our_order() -> None:
    """`all` is every name; the order does not depend on the user's."""
    assert parse_askings(("none", "size")) == (BY_SIZE, "none")
    assert parse_askings(()) == ()
    every = parse_askings(("all",))
    assert set(every) == {BY_SIZE, LACKING, *(asking.name for asking in ASKINGS)}


def test_an_unknown_way_is_refused_with_those_that_there_are() -> None:
    """A misspelt name is a usage error."""
    with pytest.raises(UsageError, match=r"'shouting' is no way.*upper-case"):
        parse_askings(("none", "shouting"))


def test_ways_leave_the_ordinary_one_out() -> None:
    """A cell by its size is no `Asking`."""
    assert askings_for((BY_SIZE,), ALL) == ()
