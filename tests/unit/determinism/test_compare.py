"""Tests of harness.determinism.compare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.determinism.compare import Stream, compare, first_difference


def _streams(console: bytes, shell: bytes = b"") -> tuple[Stream, ...]:
    return Stream(name="console", content=console), Stream(name="shell", content=shell)


def test_identical() -> None:
    """Equal runs have no difference."""
    assert compare(_streams(b"a\nb\n", b"x"), _streams(b"a\nb\n", b"x")) is None


def test_first_of_the_streams() -> None:
    """The streams are looked at in order, and each is."""
    difference = compare(_streams(b"a", b"x"), _streams(b"a", b"y"))
    assert difference is not None
    assert difference.stream == "shell"
    difference = compare(_streams(b"a", b"x"), _streams(b"b", b"y"))
    assert difference is not None
    assert difference.stream == "console"


def test_other_streams() -> None:
    """Runs with other streams are not compared."""
    with pytest.raises(ValueError, match="console"):
        compare(_streams(b""), _streams(b"")[:1])


def test_place_and_context() -> None:
    """The byte, the line, three lines before it, and both lines are told."""
    first = b"one\ntwo\nthree\nfour\nabc\nrest\n"
    second = b"one\ntwo\nthree\nfour\nabd\nmore\n"
    difference = first_difference("console", first, second)
    assert difference is not None
    assert (difference.line, difference.offset_bytes) == (5, 21)
    assert difference.before == ("two", "three", "four")
    assert (difference.first, difference.second) == ("abc", "abd")
    assert "line 5" in str(difference)


def test_first_line() -> None:
    """A difference in the first line has nothing before it."""
    difference = first_difference("console", b"a\n", b"b\n")
    assert difference is not None
    assert (difference.line, difference.before) == (1, ())


def test_one_ended() -> None:
    """A run that is the beginning of the other differs where it ends, and that is said."""
    difference = first_difference("console", b"one\n", b"one\ntwo\n")
    assert difference is not None
    assert (difference.offset_bytes, difference.line) == (4, 2)
    assert (difference.first, difference.second) == ("", "two")
    assert "1 (nothing more)" in str(difference)
    assert "2 (nothing more)" in str(first_difference("console", b"one\ntwo\n", b"one\n"))


def test_long_line() -> None:
    """Of a line of a megabyte the part with the difference is shown, and no more than a screenful."""
    first, second = (b"x" * 1_000_000 + mark + b"y" * 1_000_000 for mark in (b"FIRST", b"OTHER"))
    difference = first_difference("shell", first, second)
    assert difference is not None
    assert difference.offset_bytes == 1_000_000
    assert "FIRST" in difference.first
    assert "OTHER" in difference.second
    assert len(str(difference)) < 1000


def test_harmless() -> None:
    """Escape sequences of a guest do not reach the terminal."""
    difference = first_difference("console", b"\x1b[2Jboom\na", b"\x1b[2Jboom\nb")
    assert difference is not None
    assert "\x1b" not in str(difference)
    assert "boom" in str(difference)


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=3), st.data())
def test_offset_is_the_first(content: bytes, change: bytes, data: st.DataObject) -> None:
    """The offset is that of the first byte in which the two differ, wherever that is."""
    at = data.draw(st.integers(0, len(content)))
    other = content[:at] + change + content[at:]
    difference = first_difference("x", content * 400, other * 400)
    assert (difference is None) == (content * 400 == other * 400)
    if difference is not None:
        offset = difference.offset_bytes
        one, two = content * 400, other * 400
        assert one[:offset] == two[:offset]
        assert one[offset : offset + 1] != two[offset : offset + 1]
