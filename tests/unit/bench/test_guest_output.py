"""What the guest's program prints, read and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.bench.guest_output import Outcome, parse_output
from harness.errors import UsageError
from harness.spec import PageSize

SETTING: dict[str, Any] = {
    "format": 1, "page_bytes": 65536, "clock_hz": 10**9, "large_bytes": 1 << 26, "small_bytes": 1 << 22,
    "samples": 2, "warm_ups": 3, "first": True, "release": "6.12.1", "version": "#1 SMP",
}  # fmt: skip
FORK: dict[str, Any] = {
    "name": "fork", "unit": "fork", "about": "a fork", "times": 1, "verdict": "ok", "reason": "",
    "ticks": [7, 9], "faults": [3, 3], "table_kib": [64, -64],
}  # fmt: skip


def _text(*documents: dict[str, Any]) -> str:
    return "\n".join(json.dumps(document) for document in documents)


def test_a_run() -> None:
    """Setting and samples come out as they were printed."""
    output = parse_output(_text(SETTING, FORK))
    assert output.page_size is PageSize.K64
    assert output.is_scaled
    (fork,) = output.benchmarks
    assert (fork.name, fork.outcome, fork.ticks, fork.table_kib) == ("fork", Outcome.OK, (7, 9), (64, -64))


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ((), "printed nothing"),
        ((SETTING | {"format": 2},), "format 2"),
        ((SETTING | {"page_bytes": 8192},), "pages of 8192"),
        ((SETTING, FORK, FORK), "twice"),
        ((SETTING, FORK | {"verdict": "good"}), "no outcome"),
        ((SETTING, FORK | {"ticks": [1]}), "as many"),
        ((SETTING, FORK | {"ticks": [1, -1]}), "'ticks'"),
        ((SETTING, FORK | {"ticks": [1, True]}), "'ticks'"),
        ((SETTING, FORK | {"ticks": [1, 1 << 63]}), "'ticks'"),
        ((SETTING, FORK | {"times": 0}), "no samples"),
        ((SETTING, FORK | {"name": "x" * 301}), "'name'"),
        ((SETTING, {key: FORK[key] for key in FORK if key != "unit"}), "'unit'"),
    ],
)
def test_refused(documents: tuple[dict[str, Any], ...], words: str) -> None:
    """What no program of ours prints is refused, with the field that is wrong."""
    with pytest.raises(UsageError, match=words):
        parse_output(_text(*documents))


@pytest.mark.parametrize("line", ["bench: not found", "[1]", "[" * 100_000])
def test_no_json(line: str) -> None:
    """A line that is no JSON object is named."""
    with pytest.raises(UsageError, match="line 2"):
        parse_output(f"{json.dumps(SETTING)}\n{line}")


def test_too_many_lines() -> None:
    """A program that prints without end is not read to it."""
    with pytest.raises(UsageError, match="at most"):
        parse_output("{}\n" * 300)
