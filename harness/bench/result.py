"""All that was measured of one kernel at one page size, and its JSON.

May import harness.bench, harness.errors, harness.spec and the standard library.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from statistics import median_low
from typing import Any, Final

from harness.bench.guest_output import EMPTY, Outcome, Samples, samples_of
from harness.bench.opcode import Kind
from harness.bench.profile import Profile
from harness.bench.shape import Shape
from harness.errors import UsageError
from harness.reading import read_bounded
from harness.spec import PageSize

__all__ = ["HARDWARE", "SCHEMA", "Clock", "Result", "Row", "load_results", "render_results", "told_apart"]

SCHEMA: Final = "granule-bench"
SCHEMA_VERSION: Final = 1
FILE_BYTES_LIMIT: Final = 64 << 20
RESULTS_LIMIT: Final = 1000
ROWS_LIMIT: Final = 500
HARDWARE: Final = "hardware"
"""In place of an accelerator: the program was run on a machine of its own."""


class Clock(Enum):
    """What was counted; the value is how files spell it."""

    INSTRUCTIONS = "instructions"
    TIME = "time"

    @property
    def unit(self) -> str:
        """Of a number."""
        return "instructions" if self is Clock.INSTRUCTIONS else "ns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One benchmark."""

    samples: Samples
    varied: str = ""
    """How two runs differed; empty where they were equal, or where there was only one."""
    profile: Profile | None = None
    """Of the sample that is the number, where functions were counted."""

    @property
    def no_number(self) -> str:
        """Why this benchmark has no number; empty where it has."""
        if self.samples.outcome is not Outcome.OK:
            return f"{self.samples.outcome.value}: {self.samples.reason}"
        return f"two runs were not equal: {self.varied}" if self.varied else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run of all benchmarks."""

    label: str
    """The kernel as reports call it."""
    page_size: PageSize
    clock: Clock
    clock_hz: int
    accelerator: str
    """tcg, kvm, or HARDWARE."""
    cpu: str
    qemu: str
    memory_mib: int
    large_bytes: int
    """What stood for 1 GiB."""
    program_sha256: str
    """Of what the guest was given; empty where that is not known."""
    release: str
    version: str
    kernel_sha256: str
    origin: str
    compiler: str
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Options that are set; empty where the configuration is not known."""
    cmdline: str = ""
    made: str = ""
    """When, by ISO 8601."""
    first: bool = True
    """The program ran ahead of all else on its CPU."""
    verified: bool = False
    """Every number was measured in two runs that agree."""
    rows: tuple[Row, ...] = ()
    shape: Shape | None = None
    """Of the large area's page tables, as they were found in the guest; None: nobody looked."""

    @property
    def title(self) -> str:
        """The label, with the page size where that does not say it."""
        token = self.page_size.token
        return self.label if self.label.endswith(f"-{token}") else f"{self.label} {self.page_size.label}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the benchmarks, but for the empty one."""
        return tuple(row.samples.name for row in self.rows if row.samples.name != EMPTY)

    def row(self, name: str) -> Row | None:
        """The benchmark of that name."""
        return next((row for row in self.rows if row.samples.name == name), None)

    def values(self, name: str) -> tuple[float, ...]:
        """What each sample says of one operation, in the clock's unit; none where there is no number."""
        row = self.row(name)
        if row is None or row.no_number:
            return ()
        scale = 1.0 if self.clock is Clock.INSTRUCTIONS else 1e9 / self.clock_hz
        return tuple((ticks - self.overhead) * scale / row.samples.times for ticks in row.samples.ticks)

    def value(self, name: str) -> float | None:
        """The number of a benchmark: the middle one of its samples, the lower of two."""
        values = self.values(name)
        return median_low(values) if values else None

    @property
    def overhead(self) -> int:
        """Ticks of a sample in which nothing is done."""
        row = self.row(EMPTY)
        return median_low(row.samples.ticks) if row is not None and row.samples.ticks else 0


def told_apart(results: tuple[Result, ...]) -> tuple[Result, ...]:
    """The results; kernels of one name get the beginning of their Image's hash."""
    counts = Counter(result.title for result in results)
    return tuple(
        replace(result, label=f"{result.label} {result.kernel_sha256[:8]}")
        if counts[result.title] > 1
        else result
        for result in results
    )


def render_results(results: tuple[Result, ...]) -> str:
    """JSON text; a pure function of the results."""
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "results": [_to_json(result) for result in results],
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def load_results(path: Path) -> tuple[Result, ...]:
    """The results in a file; raises UsageError for what is no such file, naming what is wrong."""
    data = read_bounded(path, FILE_BYTES_LIMIT, too_long="no results of benchmarks are")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{path} does not hold results of `granule bench`: its schema is not {SCHEMA}")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(f"{path}: this granule reads version {SCHEMA_VERSION} of {SCHEMA}")
    found = document.get("results")
    if not isinstance(found, list) or not 0 < len(found) <= RESULTS_LIMIT:
        raise UsageError(f"{path}: 'results' is no list of 1 to {RESULTS_LIMIT}")
    return tuple(_from_json(one, f"{path}: result {number}") for number, one in enumerate(found, start=1))


_TEXTS: Final = (
    "label", "accelerator", "cpu", "qemu", "program_sha256", "release", "version", "kernel_sha256",
    "origin", "compiler", "cmdline", "made",
)  # fmt: skip
_NUMBERS: Final = ("clock_hz", "memory_mib", "large_bytes")
_FLAGS: Final = ("first", "verified")


def _to_json(result: Result) -> dict[str, Any]:
    return {
        **{name: getattr(result, name) for name in (*_TEXTS, *_NUMBERS, *_FLAGS)},
        "page_size_bytes": result.page_size.bytes,
        "clock": result.clock.value,
        "config": dict(result.config),
        "rows": [_row_to_json(result, row) for row in result.rows],
        "shape": None if result.shape is None else _shape_to_json(result.shape),
    }


def _shape_to_json(shape: Shape) -> dict[str, Any]:
    return {
        "leaves": {str(level): count for level, count in shape.leaves.items()},
        "tables": {str(level): count for level, count in shape.tables.items()},
        "contiguous": shape.contiguous,
    }


def _row_to_json(result: Result, row: Row) -> dict[str, Any]:
    samples, profile = row.samples, row.profile
    return {
        "name": samples.name,
        "unit": samples.unit,
        "about": samples.about,
        "times": samples.times,
        "verdict": samples.outcome.value,
        "reason": samples.reason,
        "ticks": list(samples.ticks),
        "faults": list(samples.faults),
        "table_kib": list(samples.table_kib),
        "varied": row.varied,
        # For readers; it follows from the ticks.
        "value": result.value(samples.name),
        "profile": None
        if profile is None
        else {
            "user": profile.user,
            "functions": dict(profile.functions),
            "kinds": {kind.name.lower(): count for kind, count in profile.kinds.items()},
            "aborts": profile.aborts,
        },
    }


def _from_json(document: object, where: str) -> Result:
    if not isinstance(document, dict):
        raise UsageError(f"{where} is no object")
    for names, kind in ((_TEXTS, str), (_NUMBERS, int), (_FLAGS, bool)):
        for name in names:
            if not isinstance(document.get(name), kind):
                raise UsageError(f"{where}: '{name}' is missing or wrong")
    page_bytes = document.get("page_size_bytes")
    page_size = PageSize.of_bytes(page_bytes) if isinstance(page_bytes, int) else None
    clocks = {clock.value: clock for clock in Clock}
    rows, config, clock = document.get("rows"), document.get("config"), str(document.get("clock"))
    if page_size is None or clock not in clocks or document["clock_hz"] < 1:
        raise UsageError(f"{where}: its page size or its clock is none")
    if not isinstance(rows, list) or len(rows) > ROWS_LIMIT or not isinstance(config, dict):
        raise UsageError(f"{where}: its rows or its configuration are missing")
    return Result(
        **{name: document[name] for name in (*_TEXTS, *_NUMBERS, *_FLAGS)},
        page_size=page_size,
        clock=clocks[clock],
        config={str(name): str(value) for name, value in config.items()},
        rows=tuple(_row_from_json(row, where) for row in rows),
        shape=_shape_from_json(document.get("shape"), page_size, document["large_bytes"], where),
    )


def _row_from_json(document: object, where: str) -> Row:
    if not isinstance(document, dict):
        raise UsageError(f"{where}: a row is no object")
    return Row(
        samples=samples_of(document, where),
        varied=str(document.get("varied") or ""),
        profile=_profile_from_json(document.get("profile"), where),
    )


def _profile_from_json(document: object, where: str) -> Profile | None:
    if document is None:
        return None
    if not isinstance(document, dict):
        raise UsageError(f"{where}: a profile is no object")
    kinds = {kind.name.lower(): kind for kind in Kind}
    return Profile(
        user=_count(document.get("user"), where),
        functions={str(name): _count(count, where) for name, count in _object(document, "functions", where)},
        kinds={
            kinds[n]: _count(count, where) for n, count in _object(document, "kinds", where) if n in kinds
        },
        aborts=_count(document.get("aborts"), where),
    )


def _shape_from_json(document: object, page_size: PageSize, area_bytes: int, where: str) -> Shape | None:
    if document is None:
        return None
    if not isinstance(document, dict):
        raise UsageError(f"{where}: a shape is no object")
    by_level = []
    for name in ("leaves", "tables"):
        found = _object(document, name, where)
        if any(level not in ("0", "1", "2", "3") for level, _ in found):
            raise UsageError(f"{where}: '{name}' of a shape has a level that is none")
        by_level.append({int(level): _count(count, where) for level, count in found})
    return Shape(
        page_size=page_size,
        area_bytes=area_bytes,
        leaves=by_level[0],
        tables=by_level[1],
        contiguous=_count(document.get("contiguous"), where),
    )


def _object(document: dict[str, Any], name: str, where: str) -> tuple[tuple[str, object], ...]:
    found = document.get(name)
    if not isinstance(found, dict):
        raise UsageError(f"{where}: '{name}' is no object")
    return tuple(found.items())


def _count(found: object, where: str) -> int:
    if not isinstance(found, int) or found < 0:
        raise UsageError(f"{where}: {str(found)[:40]!r} stands where a count is wanted")
    return found
