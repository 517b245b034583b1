"""Reads what the probe programs print (guests/programs/probe/tap.h): points, and the plan as the last line.

    ok N - text
    ok N - text # SKIP reason
    not ok N - text # wanted X saw Y
    1..N

The output comes from a guest that may be broken: nonsense gives an incomplete result, never an exception.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["TapPoint", "TapResult", "parse_tap"]

OUTPUT_LIMIT_BYTES = 4 << 20
POINT_LIMIT = 10_000
TEXT_LIMIT = 500

_POINT = re.compile(r"(?P<not>not )?ok (?P<number>\d{1,6}) - (?P<text>.*)")
_PLAN = re.compile(r"1\.\.(?P<number>\d{1,6})")
_WHY = re.compile(r"(?P<text>.*?) # wanted (?P<wanted>.*) saw (?P<seen>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TapPoint:
    """One thing a probe compared."""

    number: int
    ok: bool
    text: str
    wanted: str = ""
    seen: str = ""
    skip_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TapResult:
    """All points of one run."""

    points: tuple[TapPoint, ...]
    plan: int | None
    """Points announced by the last line; None when it was not a plan."""
    problem: str
    """Why the output is not a whole run; empty when it is."""

    @property
    def complete(self) -> bool:
        """True when there is a plan and exactly its points, each once and in order."""
        return not self.problem

    @property
    def passed(self) -> bool:
        """True for a complete run without a point that failed."""
        return self.complete and all(point.ok for point in self.points)


def parse_tap(output: bytes | str) -> TapResult:
    """What a probe printed; lines that are neither point nor plan are passed over.

    Reads at most 4 MiB and 10,000 points; an output that goes on is incomplete.
    """
    raw = output.encode("utf-8", "replace") if isinstance(output, str) else output
    text = raw[:OUTPUT_LIMIT_BYTES].decode("utf-8", "replace")
    points: list[TapPoint] = []
    plans: list[int] = []
    last = ""
    for line in re.split(r"[\r\n]+", text):
        if not line.strip():
            continue
        last = line
        if (point := _POINT.fullmatch(line)) and len(points) < POINT_LIMIT:
            points.append(_point(point))
        elif plan := _PLAN.fullmatch(line):
            plans.append(int(plan["number"]))
    ended = bool(plans) and _PLAN.fullmatch(last) is not None
    problem = _problem([point.number for point in points], plans, ended)
    if not problem and len(raw) > OUTPUT_LIMIT_BYTES:
        problem = f"more than {OUTPUT_LIMIT_BYTES >> 20} MiB of output"
    return TapResult(points=tuple(points), plan=plans[-1] if ended else None, problem=problem)


def _point(match: re.Match[str]) -> TapPoint:
    ok = match["not"] is None
    text, _, reason = match["text"].partition(" # SKIP ")
    why = None if ok else _WHY.fullmatch(match["text"])
    return TapPoint(
        number=int(match["number"]),
        ok=ok,
        text=(why["text"] if why else text if ok else match["text"])[:TEXT_LIMIT],
        wanted=why["wanted"][:TEXT_LIMIT] if why else "",
        seen=why["seen"][:TEXT_LIMIT] if why else "",
        skip_reason=reason[:TEXT_LIMIT] if ok else "",
    )


def _problem(numbers: list[int], plans: list[int], ended: bool) -> str:
    """What is wrong with the numbering, in words."""
    if not plans:
        return f"no plan after {len(numbers)} points: the probe did not reach its end"
    if len(plans) > 1:
        return f"{len(plans)} plans"
    if not ended:
        return "output after the plan"
    if not numbers:
        return "no points"
    expected = list(range(1, plans[0] + 1))
    if numbers != expected:
        missing = sorted(set(expected) - set(numbers))
        if missing:
            return f"point {missing[0]} of {plans[0]} is missing"
        return f"{len(numbers)} points, some twice, out of order or beyond the plan of {plans[0]}"
    return ""
