"""Writing the three files: whole or not at all, and clear about why not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.report import load_report, write_reports
from harness.verdict import MatrixResult


def test_three_files_appear(passed: MatrixResult, tmp_path: Path) -> None:
    """In a directory that is made for them, readable by others, with nothing else beside them."""
    directory = tmp_path / "new" / "report"
    paths = write_reports(passed, directory)
    assert sorted(p.name for p in directory.iterdir()) == ["junit.xml", "report.html", "report.json"]
    assert sorted(paths) == sorted(directory.iterdir())
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in paths)
    assert load_report(directory / "report.json") == passed


def test_hostile_result_is_written(hostile: MatrixResult, tmp_path: Path) -> None:
    """Half a surrogate pair in a console does not keep the reports from being written."""
    assert len(write_reports(hostile, tmp_path)) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_failure_leaves_the_old_report_and_no_scrap(
    passed: MatrixResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A full disk is an InfraError that names the directory; what was there before stays, temporaries go."""
    (tmp_path / "report.json").write_text("old")

    def fail(descriptor: int, mode: int) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr("harness.report.os.fchmod", fail)
    with pytest.raises(InfraError, match=f"{tmp_path}.*no room"):
        write_reports(passed, tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("report.json", "old")]


def test_file_in_the_way_is_an_infra_error(passed: MatrixResult, tmp_path: Path) -> None:
    """A directory that cannot be made is said so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="could not be written"):
        write_reports(passed, tmp_path / "file" / "report")
