"""What `bench` prints in a guest or on hardware: a line of JSON for the setting, then one per benchmark.

Whoever printed it is not trusted: every field is checked, and sizes are bounded. May import harness.errors,
harness.spec and the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from harness.errors import UsageError
from harness.spec import PageSize

__all__ = ["EMPTY", "GuestOutput", "Outcome", "Samples", "parse_output"]

FORMAT: Final = 1
EMPTY: Final = "empty"
"""The benchmark that does nothing: what it counts is taken off all others."""
LINES_LIMIT: Final = 200
LINE_BYTES_LIMIT: Final = 1 << 20
SAMPLES_LIMIT: Final = 10_000
TEXT_LIMIT: Final = 300
NUMBER_LIMIT: Final = 1 << 62


class Outcome(Enum):
    """How a benchmark ended."""

    OK = "ok"
    SKIP = "skip"
    """It cannot be run there."""
    FAIL = "fail"
    """Its own check says that the work was not done right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One benchmark's samples. All three lists are equally long; one that failed has samples too."""

    name: str
    unit: str
    about: str
    times: int
    """How often a sample does what the unit says."""
    outcome: Outcome
    reason: str
    """Why it was skipped or failed."""
    ticks: tuple[int, ...]
    faults: tuple[int, ...]
    """Page faults of the process in each sample, its children's not among them."""
    table_kib: tuple[int, ...]
    """KiB of page tables that a sample adds to the process, or that a child of it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOutput:
    """A whole run of the program."""

    page_size: PageSize
    clock_hz: int
    large_bytes: int
    """What stood for 1 GiB."""
    release: str
    version: str
    """As `uname -v` has it."""
    first: bool
    """It ran ahead of everything else on its CPU (SCHED_FIFO)."""
    benchmarks: tuple[Samples, ...]

    @property
    def is_scaled(self) -> bool:
        """The guest was too small for 1 GiB."""
        return self.large_bytes < 1 << 30


def parse_output(text: str) -> GuestOutput:
    """From what the program printed; raises UsageError naming the line that is not as it should be."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError("the benchmarks printed nothing: wanted a line of JSON for each")
    if len(lines) > LINES_LIMIT:
        raise UsageError(f"{len(lines)} lines are more than benchmarks print; at most {LINES_LIMIT} are read")
    documents = [_document(number, line) for number, line in enumerate(lines, start=1)]
    setting = _Fields(documents[0], "line 1")
    if setting.number("format") != FORMAT:
        raise UsageError(f"benchmarks of format {setting.number('format')}: this granule reads {FORMAT}")
    page_size = PageSize.of_bytes(setting.number("page_bytes"))
    if page_size is None:
        raise UsageError(f"line 1 says pages of {setting.number('page_bytes')} bytes, which arm64 has not")
    benchmarks = tuple(
        samples_of(document, f"line {number}") for number, document in enumerate(documents[1:], start=2)
    )
    names = [one.name for one in benchmarks]
    if len(set(names)) != len(names):
        raise UsageError("a benchmark was printed twice")
    return GuestOutput(
        page_size=page_size,
        clock_hz=max(1, setting.number("clock_hz")),
        large_bytes=setting.number("large_bytes"),
        release=setting.text("release"),
        version=setting.text("version"),
        first=setting.value("first", _is_flag),
        benchmarks=benchmarks,
    )


def samples_of(document: dict[str, Any], where: str) -> Samples:
    """One benchmark from its JSON; raises UsageError naming the field that is missing or wrong."""
    fields = _Fields(document, where)
    outcomes = {outcome.value: outcome for outcome in Outcome}
    outcome = fields.text("verdict")
    if outcome not in outcomes:
        raise UsageError(f"{where}: '{outcome}' is no outcome of a benchmark")
    samples = Samples(
        name=fields.text("name"),
        unit=fields.text("unit"),
        about=fields.text("about"),
        times=fields.number("times"),
        outcome=outcomes[outcome],
        reason=fields.text("reason"),
        ticks=fields.numbers("ticks"),
        faults=fields.numbers("faults"),
        table_kib=fields.numbers("table_kib", negative=True),
    )
    if not len(samples.ticks) == len(samples.faults) == len(samples.table_kib):
        raise UsageError(f"{where}: {samples.name} has not as many ticks as faults and table_kib")
    if samples.times < 1 or (samples.outcome is Outcome.OK and not samples.ticks):
        raise UsageError(f"{where}: {samples.name} is said to be right and has no samples")
    return samples


def _document(number: int, line: str) -> dict[str, Any]:
    if len(line) > LINE_BYTES_LIMIT:
        raise UsageError(f"line {number} of the benchmarks is longer than {LINE_BYTES_LIMIT} bytes")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"line {number} of the benchmarks is not JSON: {line[:80]!r}") from error
    if not isinstance(document, dict):
        raise UsageError(f"line {number} of the benchmarks is no JSON object: {line[:80]!r}")
    return document


@dataclass(frozen=True, slots=True)
class _Fields:
    """Fields of a document, each checked as it is taken."""

    document: dict[str, Any]
    where: str

    def value(self, name: str, is_right: Callable[[object], bool]) -> Any:
        found = self.document.get(name)
        if not is_right(found):
            raise UsageError(f"{self.where}: '{name}' is missing or wrong: {str(found)[:60]!r}")
        return found

    def text(self, name: str) -> str:
        return str(self.value(name, lambda one: isinstance(one, str) and len(one) <= TEXT_LIMIT))

    def number(self, name: str) -> int:
        return int(self.value(name, _is_number))

    def numbers(self, name: str, *, negative: bool = False) -> tuple[int, ...]:
        def is_right(found: object) -> bool:
            return (
                isinstance(found, list)
                and len(found) <= SAMPLES_LIMIT
                and all(_is_number(abs(one) if negative and isinstance(one, int) else one) for one in found)
            )

        return tuple(self.value(name, is_right))


def _is_number(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found < NUMBER_LIMIT


def _is_flag(found: object) -> bool:
    return isinstance(found, bool)
