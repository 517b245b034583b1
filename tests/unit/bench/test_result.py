"""Results: their numbers, and their way through JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.bench.guest_output import EMPTY, Outcome
from harness.bench.opcode import Kind
from harness.bench.profile import Profile
from harness.bench.result import Clock, Result, load_results, render_results, told_apart
from harness.bench.shape import due_shape
from harness.errors import UsageError
from harness.spec import PageSize

from .conftest import MakeResult, MakeRow


@pytest.fixture
def measured(row: MakeRow, result: MakeResult) -> Result:
    profile = Profile(user=3, functions={"copy_page_range": 40}, kinds={Kind.TLBI: 2}, aborts=1)
    return result(
        row(EMPTY, (6, 6, 6)),
        row("fork", (106, 306, 206, 506), profile=profile),
        row("dup", (1006,), times=512),
        row("thp", (), outcome=Outcome.SKIP, reason="too small"),
        row("bad", (5,), outcome=Outcome.FAIL, reason="a page is wrong"),
        row("loose", (5,), varied="5 then 6"),
        shape=due_shape(PageSize.K4, 1 << 33, 64 << 20),
    )


def test_numbers(measured: Result) -> None:
    """A number is the lower middle sample, without what nothing costs, for one operation."""
    assert measured.value("fork") == 200
    assert measured.value("dup") == 1000 / 512


@pytest.mark.parametrize("name", ["thp", "bad", "loose", "unknown"])
def test_no_number(measured: Result, name: str) -> None:
    """What was skipped, failed its check, or differed between two runs has no number."""
    assert measured.value(name) is None


def test_time(row: MakeRow, result: MakeResult) -> None:
    """Ticks of a counter at 25 MHz are 40 ns each."""
    timed = result(row(EMPTY, (1,)), row("fork", (11,)), clock=Clock.TIME, clock_hz=25_000_000)
    assert timed.value("fork") == 400


def test_there_and_back(measured: Result, tmp_path: Path) -> None:
    """A file holds all that a result has."""
    path = tmp_path / "bench.json"
    path.write_text(render_results((measured, replace(measured, label="other"))))
    assert load_results(path) == (measured, replace(measured, label="other"))


def test_kernels_of_one_name(measured: Result) -> None:
    """Two Images of one name are told by their hashes; others keep their names."""
    other = replace(measured, kernel_sha256="cc" * 32)
    third = replace(measured, label="third")
    assert [one.title for one in told_apart((measured, other, third))] == [
        "k bb 4K",
        "k cccccccc 4K",
        "third 4K",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("label", 3), "'label'"),
        (("clock_hz", 0), "clock"),
        (("page_size_bytes", 5), "page size"),
        (("clock", "sundial"), "clock"),
        (("rows", {}), "rows"),
        (("rows", [3]), "row"),
        (("verified", "yes"), "'verified'"),
        (("shape", {"leaves": {}, "tables": {"9": 1}, "contiguous": 0}), "level"),
    ],
)
def test_refused(measured: Result, tmp_path: Path, change: tuple[str, object], words: str) -> None:
    """A field that is wrong is named."""
    document = json.loads(render_results((measured,)))
    document["results"][0][change[0]] = change[1]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=words):
        load_results(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "granule-bench", "schema_version": 9}', "[" * 99999]
)
def test_no_results(tmp_path: Path, text: str) -> None:
    """Another file is refused by name."""
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"other\.json"):
        load_results(path)
