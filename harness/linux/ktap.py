"""Reads KTAP, what kselftest programs print: Linux Documentation/dev-tools/ktap.rst, kselftest/kselftest.h.

    KTAP version 1                 or TAP version 13 or 14
    1..3                           the plan, first or last; `1..0 # SKIP reason` for nothing at all
    ok 1 name                      a point, with `# SKIP`, `# XFAIL`, `# TODO`, `# TIMEOUT` or `# ERROR`
      KTAP version 1               subtests, indented by two spaces, or by `# ` as kselftest's runner does it;
      1..1                         their parent's point follows them
      ok 1 inner
    not ok 2 name # why
    Bail out! why                  the end

Other lines are anybody's: they change nothing. The output comes from a guest that may be broken: nonsense
gives a result with problems, never an exception.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum

__all__ = ["BAILED_OUT", "KtapPoint", "KtapResult", "KtapStatus", "parse_ktap"]

OUTPUT_LIMIT_BYTES = 4 << 20
POINT_LIMIT = 20_000
DEPTH_LIMIT = 8
PROBLEM_LIMIT = 20
TEXT_LIMIT = 500
BAILED_OUT = "bailed out"

_VERSION = re.compile(r"K?TAP version \d{1,4}\s*")
_PLAN = re.compile(r"1\.\.(?P<number>\d{1,7})(?:\s+#\s*(?P<why>.*))?\s*")
_POINT = re.compile(r"(?P<not>not )?ok (?P<number>\d{1,7})(?P<rest>(?:\s.*)?)")
_DIRECTIVE = re.compile(r"(?P<word>SKIP|XFAIL|TODO|TIMEOUT|ERROR)\b[\s:]*(?P<why>.*)", re.IGNORECASE)
_BAIL_OUT = re.compile(r"Bail out!\s*(?P<why>.*)")
_NESTED = ("  ", "# ")


class KtapStatus(Enum):
    """What became of a point."""

    OK = "ok"
    NOT_OK = "not ok"
    SKIP = "SKIP"
    XFAIL = "XFAIL"
    TODO = "TODO"
    TIMEOUT = "TIMEOUT"
    ERROR = "ERROR"

    @property
    def is_failure(self) -> bool:
        """True for what should not be; XFAIL and TODO are the test's own known failures."""
        return self in (KtapStatus.NOT_OK, KtapStatus.TIMEOUT, KtapStatus.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class KtapPoint:
    """One result line."""

    number: int
    """Within its own level, from 1."""
    name: str
    """With the names of the points it is a subtest of before it, separated by ` / `."""
    status: KtapStatus
    why: str = ""
    """What stood behind the `#`, without the directive."""
    has_subtests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KtapResult:
    """All points of an output, a parent after its subtests, and what is wrong with it as a whole."""

    is_ktap: bool
    """Whether there was anything of KTAP in it: many older tests have an exit status only."""
    points: tuple[KtapPoint, ...] = ()
    problems: tuple[str, ...] = ()
    skip_reason: str = ""
    """Why nothing was tried, where the plan said so."""

    @property
    def leaves(self) -> tuple[KtapPoint, ...]:
        """The points without those that only sum up others, unless they failed and none of theirs did."""
        found: list[KtapPoint] = []
        failed_below: set[str] = set()
        for point in self.points:
            if point.status.is_failure:
                failed_below |= set(_parents(point.name))
            if not point.has_subtests or (point.status.is_failure and point.name not in failed_below):
                found.append(point)
        return tuple(found)


@dataclass(slots=True)
class _Level:
    """One level while it is read."""

    prefix: str
    plan: int | None = None
    plans: int = 0
    numbers: list[int] = field(default_factory=list)
    points: list[KtapPoint] = field(default_factory=list)
    below: list[KtapPoint] = field(default_factory=list)
    """Points of a level below that has ended, waiting for their parent."""
    skip_reason: str = ""

    @property
    def is_empty(self) -> bool:
        return self.plan is None and not self.numbers and not self.below


def parse_ktap(output: bytes | str) -> KtapResult:
    """The points of an output, and its problems in words: a plan not kept to, missing numbers, a bail-out.

    Reads at most 4 MiB and 20,000 points; an output that goes on has a problem. A plan may be absent only
    where there is no KTAP at all.
    """
    raw = output.encode("utf-8", "replace") if isinstance(output, str) else output
    reader = _Reader()
    for line in re.split(r"[\r\n]+", raw[:OUTPUT_LIMIT_BYTES].decode("utf-8", "replace")):
        reader.line(line)
    if len(raw) > OUTPUT_LIMIT_BYTES:
        reader.problem(f"more than {OUTPUT_LIMIT_BYTES >> 20} MiB of output")
    return reader.result()


class _Reader:
    def __init__(self) -> None:
        self._levels = [_Level(prefix="")]
        self._done: list[KtapPoint] = []
        self._problems: list[str] = []
        self._count = 0
        self._seen = False
        self._skip_reason = ""
        self._bailed = False

    def line(self, line: str) -> None:
        """Take one line; what is nothing of KTAP's at its level is passed over."""
        at, text = self._level_of(line)
        if _VERSION.fullmatch(text):
            self._open(at, line[: len(line) - len(text)])
        elif point := _POINT.fullmatch(text):
            self._close_to(at)
            self._point(self._levels[at], point)
        elif plan := _PLAN.fullmatch(text):
            self._close_to(at)
            self._plan(self._levels[at], plan)
        elif bail := _BAIL_OUT.fullmatch(text):
            self._seen = self._bailed = True
            self.problem(f"{BAILED_OUT}: {bail['why'][:TEXT_LIMIT] or 'without a reason'}")

    def problem(self, words: str) -> None:
        """Something that is wrong with the output as a whole."""
        if len(self._problems) < PROBLEM_LIMIT:
            self._problems.append(words)

    def result(self) -> KtapResult:
        """What was read; nothing may follow."""
        self._close_to(0)
        outermost = self._levels[0]
        self._done += self._finished(outermost)
        if outermost.plan == 0 and not outermost.numbers:
            self._skip_reason = outermost.skip_reason or "the test says nothing of why"
        return KtapResult(
            is_ktap=self._seen,
            points=tuple(self._done),
            problems=tuple(self._problems),
            skip_reason=self._skip_reason,
        )

    def _level_of(self, line: str) -> tuple[int, str]:
        """The deepest open level whose prefix a line has, one below it for a version line, and the rest."""
        for at in range(len(self._levels) - 1, -1, -1):
            prefix = self._levels[at].prefix
            if not line.startswith(prefix):
                continue
            rest = line[len(prefix) :]
            if at + 1 < DEPTH_LIMIT and rest.startswith(_NESTED) and _VERSION.fullmatch(rest[2:]):
                return at + 1, rest[2:]
            return at, rest
        return 0, line

    def _open(self, at: int, prefix: str) -> None:
        """Begin a level; a second version line begins one anew: two programs, one after the other."""
        self._seen = True
        self._close_to(min(at, len(self._levels) - 1))
        if at == len(self._levels):
            self._levels.append(_Level(prefix=prefix))
        elif not self._levels[at].is_empty:
            points = self._finished(self._levels[at])
            if at:
                self._levels[at - 1].below += points
            else:
                self._done += points
            self._levels[at] = _Level(prefix=prefix)

    def _close_to(self, at: int) -> None:
        """End the levels below `at`; their points wait for their parent's."""
        while len(self._levels) > at + 1:
            level = self._levels.pop()
            self._levels[-1].below += self._finished(level)

    def _point(self, level: _Level, match: re.Match[str]) -> None:
        self._seen = True
        self._count += 1
        if self._count > POINT_LIMIT:
            if self._count == POINT_LIMIT + 1:
                self.problem(f"more than {POINT_LIMIT} points")
            return
        point = _point(match)
        level.numbers.append(point.number)
        if level.below:
            point = replace(point, has_subtests=True)
            level.points += [
                replace(one, name=f"{point.name} / {one.name}"[:TEXT_LIMIT]) for one in level.below
            ]
            level.below = []
        level.points.append(point)

    def _plan(self, level: _Level, match: re.Match[str]) -> None:
        self._seen = True
        level.plan = int(match["number"])
        level.plans += 1
        if level.plan == 0:
            directive = _DIRECTIVE.fullmatch(match["why"] or "")
            level.skip_reason = (directive["why"] if directive else match["why"] or "").strip()[:TEXT_LIMIT]

    def _finished(self, level: _Level) -> list[KtapPoint]:
        """The points of a level that has ended, after saying what is wrong with it."""
        where = "subtests: " if level.prefix else ""
        if level.below:
            self.problem(f"{where}{len(level.below)} subtests whose parent has no result")
        words = _plan_problem(level, bailed=self._bailed)
        if words and self._seen and self._count <= POINT_LIMIT:
            self.problem(where + words)
        return [*level.points, *level.below]


def _plan_problem(level: _Level, *, bailed: bool) -> str:
    """What is wrong with a level's numbers and plan; a bail-out has said why they are not complete."""
    numbers = level.numbers
    if bailed:
        return ""
    if level.plans > 1:
        return f"{level.plans} plans"
    if level.plan is None:
        # Subtests need none (ktap.rst: "may be omitted"), and what ends early tells by its parent.
        return "" if level.prefix else f"no plan, and {len(numbers)} points: it may have ended early"
    if numbers == list(range(1, level.plan + 1)):
        return ""
    missing = sorted(set(range(1, min(level.plan, POINT_LIMIT) + 1)) - set(numbers))
    if missing:
        return f"{len(numbers)} points where {level.plan} were planned: number {missing[0]} is missing"
    return f"{len(numbers)} points, twice, out of order or beyond the plan of {level.plan}"


def _point(match: re.Match[str]) -> KtapPoint:
    name, _, why = f" {match['rest'].strip()}".partition(" # ")
    name = name.strip().removeprefix("- ").strip()
    if not why and name.startswith("#"):
        name, why = "", name[1:].strip()
    status = KtapStatus.NOT_OK if match["not"] else KtapStatus.OK
    directive = _DIRECTIVE.fullmatch(why.strip())
    if directive:
        status, why = KtapStatus(directive["word"].upper()), directive["why"]
    number = int(match["number"])
    return KtapPoint(
        number=number,
        name=name[:TEXT_LIMIT] or f"point {number}",
        status=status,
        why=why[:TEXT_LIMIT].strip(),
    )


def _parents(name: str) -> list[str]:
    parts = name.split(" / ")
    return [" / ".join(parts[:count]) for count in range(1, len(parts))]
