"""`granule kselftest`: what it refuses before anything is built or booted, and how a cell is run again."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.kselftest import kselftest
from harness.cli.options import Setting
from harness.errors import UsageError
from harness.kselftest.build import Suite
from harness.kselftest.script import Listed
from harness.matrix.plan import plan
from harness.spec import PageSize
from harness.verdict import CellResult, CheckResult, MatrixResult, Verdict

MODULE = importlib.import_module("harness.cli.kselftest")
"""By this way, as the package's attribute of that name is the command."""
TESTS = (Listed(category="cow", command="./cow"), Listed(category="mremap", command="./mremap_test"))


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite that costs no build, and a source that nobody asks for."""
    (tmp_path / "build.log").touch()
    (tmp_path / "cow").touch()
    suite = Suite(collection="mm", directory=tmp_path, tests=TESTS, version="6.12.1", origin="here")
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(MODULE, "_source", lambda _setting, _tree: None)
    monkeypatch.setattr(MODULE, "build_suite", lambda *_, **__: suite)


def _invoke(*words: str) -> str:
    return CliRunner().invoke(kselftest, words, catch_exceptions=False).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net",), "no collection 'net' of kselftest"),
        (("mm", "--category", "cwo"), "no category 'cwo'"),
        (("mm", "--test", "cwo"), "no test 'cwo'"),
    ],
)
def test_what_is_not_there_is_refused(words: tuple[str, ...], said: str) -> None:
    """An unknown collection, category or test ends before any guest, and what there is is named."""
    with pytest.raises(UsageError, match=said):
        _invoke(*words, "--kernel", "debian-4k")


def test_list() -> None:
    """--list names each test with what it needs, or why it is not run."""
    lines = _invoke("mm", "--list").splitlines()
    assert [line.split()[:2] for line in lines] == [["cow", "cow:"], ["mremap", "mremap_test:"]]
    assert "MiB" in lines[0]
    assert "not run: this source builds no such program" in lines[1]


def test_a_cell_and_how_it_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page size is one cell of the memory given, with 2 MiB huge pages, and its command says the same."""
    seen: list[Setting] = []
    monkeypatch.setattr(MODULE, "run_and_report", lambda setting, *_, **__: seen.append(setting))
    _invoke(
        *("mm", "--kernel", "debian-4k", "--memory", "2048", "--category", "cow", "--test", "cow"),
        *("--accel", "tcg"),
    )
    setting = seen[0]
    (cell,) = plan(setting.request, setting.store, setting.bench.qemu, setting.beside).cells
    assert (cell.page_size, cell.memory_mib) == (PageSize.K4, 2048)
    assert [check.name for check in cell.checks] == ["mm/source", "mm/cow/cow"]
    assert "default_hugepagesz=2M" in cell.cmdline
    assert cell.rerun.endswith("--memory 2048 --category cow --test cow")
    assert "--check" not in cell.rerun


def test_huge_pages_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that the user gives stays: the kernel takes the first that is said."""
    seen: list[Setting] = []
    monkeypatch.setattr(MODULE, "run_and_report", lambda setting, *_, **__: seen.append(setting))
    _invoke("mm", "--kernel", "debian-4k", "--cmdline", "default_hugepagesz=32M")
    assert seen[0].request.cmdline == "default_hugepagesz=32M"


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each cell it is said how many tests passed, failed and did not run, and which failures are known."""
    checks = (
        CheckResult(name="mm/source", verdict=Verdict.PASS, expectations=1, duration_s=0.0),
        CheckResult(
            name="mm/cow/cow", verdict=Verdict.PASS, expectations=7, duration_s=0.0,
            output="ok\nknown failure: x: not ok: as ever",
        ),
        CheckResult(name="mm/thp/k", verdict=Verdict.SKIP, expectations=0, duration_s=0.0, skip_reason="no"),
        CheckResult(name="mm/thp/l", verdict=Verdict.TIMEOUT, expectations=0, duration_s=0.0),
    )  # fmt: skip
    cell = CellResult(
        id="4k-x", page_size_asked=PageSize.K4, page_size_in_force=PageSize.K4, kernel="x", cpu="c",
        accel="tcg", vcpus=2, memory_mib=1024, verdict=Verdict.FAIL, reason="", checks=checks, duration_s=0.0,
        boot_s=0.0, rerun="", console="",
    )  # fmt: skip
    result = MatrixResult(expected=1, cells=(cell, dataclasses.replace(cell, id="16k-x")))
    monkeypatch.setattr(
        MODULE,
        "run_and_report",
        lambda setting, _report, _jobs, _missing, show, **__: show(result, setting.console),
    )
    said = _invoke("mm", "--kernel", "debian-4k")
    assert "4k-x: 3 tests: 1 passed (7 points), 1 failed, 1 not run, skipped or known to fail" in said
    assert "  mm/cow/cow: known failure: x: not ok: as ever" in said
