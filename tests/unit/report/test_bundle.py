"""Tests of harness.report.bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InfraError, UsageError
from harness.report import write_reports
from harness.report.bundle import FAILED, README, claim_directory, keep_bundles
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


def test_an_earlier_runs_report_goes(tmp_path: Path) -> None:
    """A directory with a report of ours is cleared of it before the run, and of nothing else."""
    (tmp_path / "mine.txt").write_text("keep")
    write_reports(keep_bundles(MatrixResult(expected=1, cells=(BAD,)), tmp_path), tmp_path)
    claim_directory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_somebody_elses_report_is_not_touched(tmp_path: Path) -> None:
    """A report.json that is not ours is refused, and what lies beside it stays."""
    (tmp_path / "report.json").write_text('{"mine": 1}')
    (tmp_path / "failed").mkdir()
    with pytest.raises(UsageError, match="not ours"):
        claim_directory(tmp_path)
    assert (tmp_path / "failed").exists()
    assert (tmp_path / "report.json").read_text() == '{"mine": 1}'


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A path under a file is refused before anything runs."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used"):
        claim_directory(tmp_path / "file" / "report")


def test_a_disk_that_does_not_take_it_is_an_infra_error(tmp_path: Path) -> None:
    """A report directory that cannot be made is named in the error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="file"):
        keep_bundles(MatrixResult(expected=1, cells=(BAD,)), tmp_path / "file")


def test_a_bundle_with_a_snapshot_says_what_to_do_with_it(tmp_path: Path) -> None:
    """README.txt has the commands for a snapshot that is there, by the name granule was called by."""
    directory = tmp_path / "a report"
    (directory / FAILED / BAD.id).mkdir(parents=True)
    (directory / FAILED / BAD.id / "guest.snapshot").write_bytes(b"GRNLSNAP")
    keep_bundles(MatrixResult(expected=1, cells=(BAD,)), directory, program="bin/granule")
    text = (directory / FAILED / BAD.id / README).read_text()
    assert f"cd '{directory / FAILED / BAD.id}'" in text
    commands = [line.split("#")[0].split() for line in text.splitlines() if " tables " in line]
    assert [words[2:4] for words in commands] == [
        [name, "guest.snapshot"] for name in ("dump", "check", "walk", "core")
    ]
    assert {words[0] for words in commands} == {str(Path("bin/granule").absolute())}
    assert BAD.rerun in text


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ({}, "--snapshot"),
        ({"snapshot": "none: QEMU had ended"}, "There is no snapshot of the guest: QEMU had"),
    ],
)
def test_a_bundle_without_a_snapshot_says_why(tmp_path: Path, provenance: dict[str, str], words: str) -> None:
    """README.txt names no file that is not there: it says why there is none."""
    cell = replace(BAD, provenance=provenance)
    keep_bundles(MatrixResult(expected=1, cells=(cell,)), tmp_path)
    text = (tmp_path / FAILED / BAD.id / README).read_text()
    assert words in text
    assert "tables core" not in text
