"""`granule bench import`, and what is held against what; without QEMU."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from harness.bench.compare import compare
from harness.bench.guest_output import Outcome
from harness.bench.result import Result, load_results
from harness.cli.bench import bench
from harness.cli.bench.run import pairs_of, status_of
from harness.errors import ExitStatus, UsageError
from harness.report.terminal import make_console
from harness.spec import PageSize

from .conftest import MakeResult, MakeRow

SETTING: dict[str, Any] = {
    "format": 1, "page_bytes": 4096, "clock_hz": 25_000_000, "large_bytes": 1 << 30, "first": True,
    "release": "6.12.1", "version": "#1",
}  # fmt: skip


def _file(path: Path, ticks: list[int], **setting: object) -> str:
    zeros = [0] * len(ticks)
    fork = {
        "name": "fork", "unit": "fork", "about": "a fork", "times": 1, "verdict": "ok", "reason": "",
        "ticks": ticks, "faults": zeros, "table_kib": zeros,
    }  # fmt: skip
    path.write_text(f"{json.dumps(SETTING | setting)}\n{json.dumps(fork)}\n")
    return str(path)


def test_import(tmp_path: Path) -> None:
    """Two machines' outputs are compared by the clock, with an interval, and kept."""
    base = _file(tmp_path / "4k.txt", [1000, 1001, 1002, 1003, 1004, 1005])
    other = _file(tmp_path / "64k.txt", [1128, 1129, 1130, 1131, 1132, 1133], page_bytes=65536)
    done = CliRunner().invoke(bench, ["import", base, other, "--report", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    assert "Time, in nanoseconds" in done.output
    assert "+12.8 %" in done.output
    assert "configuration" in done.output, "nobody said whether they differ"
    results = load_results(tmp_path / "report/bench.json")
    assert [result.title for result in results] == ["4k 4K", "64k 64K"]
    assert results[0].value("fork") == 1002 * 40

    again = CliRunner().invoke(
        bench, ["import", str(tmp_path / "report/bench.json"), "--report", str(tmp_path / "again")]
    )
    assert "+12.8 %" in again.output, "what was kept can be imported"


def test_import_of_something_else(tmp_path: Path) -> None:
    """Another file is refused."""
    other = tmp_path / "notes.txt"
    other.write_text("fork was slow\n")
    done = CliRunner().invoke(bench, ["import", str(other), "--report", str(tmp_path / "report")])
    assert isinstance(done.exception, UsageError)
    assert "not JSON" in str(done.exception)


def _guests(*sizes: PageSize) -> Any:
    return tuple(SimpleNamespace(cell=SimpleNamespace(page_size=size)) for size in sizes)


def test_pairs() -> None:
    """Without --vs all are held against the first; with it, those of one page size; two alone always."""
    every = _guests(*PageSize)
    assert pairs_of(every, ()) == ((0, 1), (0, 2))
    assert pairs_of(every, _guests(PageSize.K64, PageSize.K16)) == ((2, 3), (1, 4))
    assert pairs_of(_guests(PageSize.K4), _guests(PageSize.K64)) == ((0, 1),)
    with pytest.raises(UsageError, match="no page size in common"):
        pairs_of(_guests(PageSize.K4, PageSize.K16), _guests(PageSize.K64))


def test_status(row: MakeRow, result: MakeResult) -> None:
    """Over the threshold, and a check that failed, are 1; two runs that differ are 3; all else is 0."""
    base, dearer = result(row("fork", (1000,))), result(row("fork", (1020,)))
    failed = result(row("fork", (1,), outcome=Outcome.FAIL, reason="wrong"))
    varied = result(row("fork", (1,), varied="1 then 2"))
    console = make_console(io.StringIO())

    def status(other: Result, threshold: float | None) -> int:
        return status_of((base, other), (compare(base, other),), threshold, console)

    assert status(dearer, None) == ExitStatus.PASSED
    assert status(dearer, 3.0) == ExitStatus.PASSED
    assert status(dearer, 1.0) == ExitStatus.FAILED
    assert status(failed, None) == ExitStatus.FAILED
    assert status(varied, None) == ExitStatus.INFRA
