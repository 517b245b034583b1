"""Numbers over many nights: a file with a line of JSON for each result, and what drifted between its lines.

May import harness.bench, harness.errors, harness.saving and the standard library.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.bench.result import Result
from harness.errors import UsageError
from harness.reading import read_bounded
from harness.saving import saving_to

__all__ = ["Entry", "Trend", "append_history", "read_history", "trends"]

FORMAT: Final = 1
BYTES_LIMIT: Final = 256 << 20
_TEXTS: Final = ("made", "title", "clock", "kernel_sha256", "program_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The numbers of one result."""

    made: str
    title: str
    clock: str
    kernel_sha256: str
    program_sha256: str
    """Of what the guest was given: another program counts other things."""
    values: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One benchmark of one kernel's name, page size, clock and program, over its runs."""

    title: str
    clock: str
    program_sha256: str
    name: str
    values: tuple[float, ...]
    """In the order of the file; runs that have no number of it are left out."""
    last_made: str

    @property
    def percent(self) -> float | None:
        """How much dearer the last run is than the first; None where the first is nothing."""
        return 100 * (self.values[-1] / self.values[0] - 1) if self.values[0] > 0 else None

    @property
    def last_percent(self) -> float | None:
        """How much dearer the last run is than the one before; None where there is none."""
        if len(self.values) < 2 or self.values[-2] <= 0:
            return None
        return 100 * (self.values[-1] / self.values[-2] - 1)


def append_history(path: Path, results: Iterable[Result]) -> None:
    """Add a line for each result; several runs may do so at once. Raises UsageError, or InfraError."""
    lines = "".join(json.dumps(_line(result), sort_keys=True, allow_nan=False) + "\n" for result in results)
    with saving_to(path), path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(lines.encode())


def _line(result: Result) -> dict[str, Any]:
    values = {name: result.value(name) for name in result.names}
    return {
        "format": FORMAT,
        "made": result.made,
        "title": result.title,
        "clock": result.clock.value,
        "kernel_sha256": result.kernel_sha256,
        "program_sha256": result.program_sha256,
        "values": {name: value for name, value in values.items() if value is not None},
    }


def read_history(path: Path) -> tuple[Entry, ...]:
    """The entries of a file; raises UsageError naming the line that is none."""
    data = read_bounded(path, BYTES_LIMIT, too_long="no history of benchmarks is")
    lines = data.decode("utf-8", "replace").splitlines()
    return tuple(_entry(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1))


def _entry(line: str, where: str) -> Entry:
    try:
        document = json.loads(line)
        if document["format"] != FORMAT:
            raise UsageError(f"{where} is of format {document['format']}: this granule reads {FORMAT}")
        return Entry(
            **{name: str(document[name]) for name in _TEXTS},
            values={str(name): float(value) for name, value in document["values"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where} is no line of a history of benchmarks: {line[:60]!r}") from error


def trends(entries: Iterable[Entry]) -> list[Trend]:
    """A trend for each benchmark of each title, clock and program, in the order they first appear."""
    found: dict[tuple[str, str, str, str], list[tuple[float, str]]] = {}
    for entry in entries:
        for name, value in entry.values.items():
            key = (entry.title, entry.clock, entry.program_sha256, name)
            found.setdefault(key, []).append((value, entry.made))
    return [
        Trend(
            title=title,
            clock=clock,
            program_sha256=program_sha256,
            name=name,
            values=tuple(value for value, _ in runs),
            last_made=runs[-1][1],
        )
        for (title, clock, program_sha256, name), runs in found.items()
    ]
