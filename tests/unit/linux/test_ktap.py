"""parse_ktap: the forms of ktap.rst, and that a broken output is told from a whole one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.ktap import (
    OUTPUT_LIMIT_BYTES,
    POINT_LIMIT,
    PROBLEM_LIMIT,
    TEXT_LIMIT,
    KtapStatus,
    parse_ktap,
)


def _shown(output: str) -> list[tuple[str, str, str]]:
    return [(point.name, point.status.value, point.why) for point in parse_ktap(output).points]


@pytest.mark.parametrize("version", ["KTAP version 1", "TAP version 13", "TAP version 14"])
def test_a_whole_run(version: str) -> None:
    """A version line of any of the three, a plan and its points are a run without problems."""
    result = parse_ktap(f"{version}\n1..2\nok 1 one\nok 2 two\n")
    assert result.is_ktap
    assert result.problems == ()
    assert [point.name for point in result.leaves] == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("ok 1 name", ("name", "ok", "")),
        ("ok 1 - name", ("name", "ok", "")),
        ("ok 1", ("point 1", "ok", "")),
        ("not ok 1 name", ("name", "not ok", "")),
        ("ok 1 name # rcode=0", ("name", "ok", "rcode=0")),
        ("not ok 1 name # exit=1", ("name", "not ok", "exit=1")),
        ("ok 1 name # SKIP no huge pages", ("name", "SKIP", "no huge pages")),
        ("not ok 1 name # SKIP no huge pages", ("name", "SKIP", "no huge pages")),
        ("ok 1 name # skip: no huge pages", ("name", "SKIP", "no huge pages")),
        ("ok 1 # SKIP no huge pages", ("point 1", "SKIP", "no huge pages")),
        ("not ok 1 name # XFAIL as ever", ("name", "XFAIL", "as ever")),
        ("not ok 1 name # TODO", ("name", "TODO", "")),
        ("not ok 1 name # TIMEOUT 45 seconds", ("name", "TIMEOUT", "45 seconds")),
        ("not ok 1 name # ERROR lost", ("name", "ERROR", "lost")),
        ("ok 1 name # SKIPPED by nobody", ("name", "ok", "SKIPPED by nobody")),
        ("ok 1 [RUN] COW (512 kB)", ("[RUN] COW (512 kB)", "ok", "")),
    ],
)
def test_a_point(line: str, wanted: tuple[str, str, str]) -> None:
    """A result line gives the name, the status by its directive, and the diagnostic data."""
    assert _shown(f"TAP version 13\n1..1\n{line}\n") == [wanted]


def test_what_is_a_failure() -> None:
    """TIMEOUT and ERROR are failures as `not ok` is; SKIP, XFAIL and TODO are none."""
    failures = {status for status in KtapStatus if status.is_failure}
    assert failures == {KtapStatus.NOT_OK, KtapStatus.TIMEOUT, KtapStatus.ERROR}


@pytest.mark.parametrize("indent", ["  ", "# "])
def test_subtests(indent: str) -> None:
    """Subtests carry their parent's name, and only they count where one of them explains its failure."""
    inner = "".join(f"{indent}{line}\n" for line in ("KTAP version 1", "1..2", "ok 1 a", "not ok 2 b"))
    output = f"KTAP version 1\n1..2\n{inner}not ok 1 outer\nok 2 alone\n"
    assert [name for name, _, _ in _shown(output)] == ["outer / a", "outer / b", "outer", "alone"]
    result = parse_ktap(output)
    assert result.problems == ()
    assert [point.name for point in result.leaves] == ["outer / a", "outer / b", "alone"]


def test_a_parent_that_fails_alone_counts() -> None:
    """A parent that fails although no subtest of its own did is a failure, whatever others did."""
    output = (
        "KTAP version 1\n1..2\n"
        "  KTAP version 1\n  1..1\n  not ok 1 x\nnot ok 1 first\n"
        "  KTAP version 1\n  1..1\n  ok 1 x\nnot ok 2 second\n"
    )
    failing = [point.name for point in parse_ktap(output).leaves if point.status.is_failure]
    assert failing == ["first / x", "second"]


def test_three_levels() -> None:
    """Names go through every level, and numbers begin at 1 on each."""
    output = (
        "KTAP version 1\n1..1\n"
        "  KTAP version 1\n  1..1\n"
        "    KTAP version 1\n    1..1\n    ok 1 c\n"
        "  ok 1 b\n"
        "ok 1 a\n"
    )
    result = parse_ktap(output)
    assert result.problems == ()
    assert [point.name for point in result.leaves] == ["a / b / c"]


def test_an_indented_line_without_a_version_line_is_nobodys() -> None:
    """What looks like a point in a diagnostic line is none: only a version line opens a level."""
    result = parse_ktap("TAP version 13\n1..1\n# ok 7 said the test\n  not ok 8 indented\nok 1 one\n")
    assert [point.name for point in result.points] == ["one"]
    assert result.problems == ()


def test_other_lines_are_passed_over() -> None:
    """Kernel messages and chatter, also between plan and points, change nothing."""
    result = parse_ktap(
        "hello\nTAP version 13\n[  1.0] mm: note\n1..1\nokay 2\nok 1 one\r\n# Totals: pass:1\n"
    )
    assert [point.name for point in result.points] == ["one"]
    assert result.problems == ()


def test_a_plan_at_the_end() -> None:
    """A plan may come last."""
    assert parse_ktap("TAP version 13\nok 1 one\n1..1\n").problems == ()


def test_nothing_was_tried() -> None:
    """`1..0 # SKIP` says why nothing was tried, and is no problem."""
    result = parse_ktap("TAP version 13\n1..0 # SKIP needs root\n")
    assert (result.skip_reason, result.problems, result.points) == ("needs root", (), ())


def test_no_ktap_at_all() -> None:
    """A program that prints something else has no problem either: it never began."""
    result = parse_ktap("map ok\n[PASS]\n")
    assert not result.is_ktap
    assert result.problems == ()


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("TAP version 13\n", "no plan, and 0 points"),
        ("ok 1 a\n", "no plan, and 1 points"),
        ("TAP version 13\n1..3\nok 1 a\n", "number 2 is missing"),
        ("1..2\nok 2 b\nok 1 a\n", "out of order"),
        ("1..1\nok 1 a\nok 2 b\n", "beyond the plan"),
        ("1..1\nok 1 a\nok 1 a\n", "twice"),
        ("1..1\nok 1 a\n1..1\n", "2 plans"),
        ("1..2\nok 1 a\nBail out! no memory\n", "bailed out: no memory"),
        ("1..1\n  KTAP version 1\n  1..2\n  ok 1 a\nok 1 b\n", "subtests: 1 points where 2 were planned"),
        ("1..1\n  KTAP version 1\n  1..1\n  ok 1 a\n", "1 subtests whose parent has no result"),
        ("TAP version 13\n1..2\nok 1 a\nTAP version 13\n1..1\nok 1 b\n", "number 2 is missing"),
    ],
)
def test_what_is_not_whole(output: str, problem: str) -> None:
    """A plan that is absent or not kept to, a bail-out, and orphans are told in words."""
    assert problem in "; ".join(parse_ktap(output).problems)


def test_two_runs_after_one_another() -> None:
    """A second version line begins anew, with the first run's points kept."""
    result = parse_ktap("TAP version 13\n1..1\nok 1 a\nTAP version 13\n1..1\nok 1 b\n")
    assert result.problems == ()
    assert [point.name for point in result.points] == ["a", "b"]


def test_every_cut_is_noticed() -> None:
    """However early a run is cut at a line's end, it has a problem."""
    lines = ["TAP version 13", "1..3", "ok 1 a", "  KTAP version 1", "  1..1", "  ok 1 x", "ok 2 b", "ok 3 c"]
    for count in range(1, len(lines)):
        assert parse_ktap("\n".join(lines[:count])).problems, f"after {count} lines"
    assert parse_ktap("\n".join(lines)).problems == ()


def test_bounds() -> None:
    """Neither a flood of points, nor of bytes, nor a long name, nor deep nesting is kept whole."""
    many = parse_ktap("".join(f"ok {number} x\n" for number in range(1, POINT_LIMIT + 100)))
    assert len(many.points) == POINT_LIMIT
    assert f"more than {POINT_LIMIT} points" in many.problems
    assert "more than 4 MiB of output" in parse_ktap(b"x" * (OUTPUT_LIMIT_BYTES + 1)).problems
    assert len(parse_ktap(f"ok 1 {'n' * 9999}\n").points[0].name) == TEXT_LIMIT
    deep = parse_ktap("".join(f"{'  ' * depth}KTAP version 1\n" for depth in range(1000)))
    assert deep.points == ()


_LINE = st.one_of(
    st.text(max_size=20),
    st.builds(
        "{}{}ok {} {}".format,
        st.sampled_from(["", "  ", "# ", "    "]),
        st.sampled_from(["", "not "]),
        st.integers(0, 9),
        st.sampled_from(["a", "a # SKIP b", "# XFAIL", "- c", ""]),
    ),
    st.builds("{}1..{}".format, st.sampled_from(["", "  ", "# "]), st.integers(0, 9)),
    st.builds("{}KTAP version 1".format, st.sampled_from(["", "  ", "# ", "    ", "# # "])),
    st.just("Bail out!"),
)


@given(st.lists(_LINE, max_size=40))
def test_any_lines_are_read(lines: list[str]) -> None:
    """No mixture of lines raises, loses a point of the outermost level, or gives more points than lines."""
    result = parse_ktap("\n".join(lines))
    assert len(result.points) <= len(lines)
    assert len(result.problems) <= PROBLEM_LIMIT
    assert set(result.leaves) <= set(result.points)
    assert any(one.status.is_failure for one in result.points) == any(
        one.status.is_failure for one in result.leaves
    )


@given(st.binary(max_size=400))
def test_any_bytes_are_read(output: bytes) -> None:
    """Bytes that are no text are no reason to raise."""
    parse_ktap(output)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["", "SKIP", "XFAIL", "TODO", "TIMEOUT"])),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_written_is_read(points: list[tuple[bool, str]]) -> None:
    """A run written by the specification comes back point by point."""
    lines = ["KTAP version 1", f"1..{len(points)}"]
    for number, (ok, directive) in enumerate(points, 1):
        mark = f" # {directive} why" if directive else ""
        lines.append(f"{'' if ok else 'not '}ok {number} t{number}{mark}")
    result = parse_ktap("\n".join(lines))
    assert result.problems == ()
    wanted = [directive or ("ok" if ok else "not ok") for ok, directive in points]
    assert [point.status.value for point in result.points] == wanted
