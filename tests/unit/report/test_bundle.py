"""Tests of harness.report.bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.report import write_reports
from harness.report.bundle import keep_bundles
from harness.spec import PageSize
from harness.verdict import CellResult, MatrixResult, Verdict

CELL = CellResult(
    id="4k-good",
    page_size_asked=PageSize.K4,
    page_size_in_force=PageSize.K4,
    kernel="k",
    cpu="max",
    accel="tcg",
    vcpus=1,
    memory_mib=384,
    verdict=Verdict.PASS,
    reason="",
    checks=(),
    duration_s=1.0,
    boot_s=1.0,
    rerun="granule smoke --kernel k",
    console="hello\n",
    provenance={"argv": "qemu -cpu max"},
)
BAD = replace(CELL, id="4k-bad", verdict=Verdict.PANIC, reason="it panicked")


def test_every_console_is_kept_and_failures_with_all_that_repeats_them(tmp_path: Path) -> None:
    """A passing cell leaves its console; a failing one its command line, its rerun and its facts too."""
    result = keep_bundles(MatrixResult(expected=2, cells=(CELL, BAD)), tmp_path)
    assert {path.name for path in (tmp_path / "consoles").iterdir()} == {"4k-good.log", "4k-bad.log"}
    assert [cell.bundle for cell in result.cells] == ["", str(tmp_path / "failed" / "4k-bad")]
    bundle = Path(result.cells[1].bundle)
    assert (bundle / "argv").read_text() == "qemu -cpu max\n"
    assert (bundle / "rerun").read_text() == "granule smoke --kernel k\n"
    assert "it panicked" in (bundle / "facts.json").read_text()


def test_an_earlier_runs_failures_go(tmp_path: Path) -> None:
    """A directory with a report in it is cleared of that run's consoles and failures, and of nothing else."""
    (tmp_path / "mine.txt").write_text("keep")
    result = keep_bundles(MatrixResult(expected=1, cells=(BAD,)), tmp_path)
    write_reports(result, tmp_path)
    keep_bundles(MatrixResult(expected=1, cells=(CELL,)), tmp_path)
    assert not (tmp_path / "failed").exists()
    assert {path.name for path in (tmp_path / "consoles").iterdir()} == {"4k-good.log"}
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_somebody_elses_directory_is_not_cleared(tmp_path: Path) -> None:
    """Without a report of ours in it, what lies there stays."""
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "precious").write_text("keep")
    keep_bundles(MatrixResult(expected=1, cells=(CELL,)), tmp_path)
    assert (tmp_path / "failed" / "precious").read_text() == "keep"


def test_a_disk_that_does_not_take_it_is_an_infra_error(tmp_path: Path) -> None:
    """A report directory that cannot be made is named in the error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="file"):
        keep_bundles(MatrixResult(expected=1, cells=(BAD,)), tmp_path / "file")
