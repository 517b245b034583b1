"""Tests of `granule series`, `report` and `repro` without a build: what is refused, and with which status."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli.report import report
from harness.cli.repro import repro
from harness.cli.series import series
from harness.errors import InfraError, UsageError
from harness.report.series.document import render_series_json
from harness.series.engine import CANNOT_TELL, Engine
from harness.series.store import Results
from tests.unit.report.series.test_series_reports import ABOUT, result_of
from tests.unit.series.fakes import K16, Deaf, FakeBuilder, FakeRunner, asked

# The package has the commands by these names.
series_module: Any = importlib.import_module("harness.cli.series")
repro_module: Any = importlib.import_module("harness.cli.repro")
MAIL = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A <a@example.org>
Subject: [PATCH {number}/2] mm: change {number}

Why.
---
--- a/mm/a.c
+++ b/mm/a.c
@@ -1 +1 @@
-{old}
+{new}
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on a tree with one file, below an empty cache."""
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("arch/arm64/Makefile", "Kconfig", "mm/a.c"):
        path = tmp_path / "linux" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("start\n")
    (tmp_path / "good.mbox").write_text(
        MAIL.format(number=1, old="start", new="one") + MAIL.format(number=2, old="one", new="two")
    )
    (tmp_path / "bad.mbox").write_text(
        MAIL.format(number=1, old="start", new="one") + MAIL.format(number=2, old="three", new="two")
    )

    def made(*argv: str, **more: Any) -> Result:
        return CliRunner().invoke(series, argv, **more)

    return made


def test_plan(run: Run) -> None:
    """--plan shows each patch's files, what they call for, and what every kernel is asked."""
    done = run("good.mbox", "--base", "./linux", "--plan")
    assert done.exit_code == 0
    for words in (
        "mm: change 1",
        "mm/a.c",
        "mm, tables",
        "Every kernel is asked: boot, mm, tables.",
        "64K, 16K, 4K",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("bad.mbox", "--base", "./linux"), "patch 2 of 2, 'mm: change 2'"),
        (("good.mbox",), "--base is missing"),
        (("good.mbox", "--base", "./absent"), "--base ./absent: there is no such directory"),
        (("absent.mbox", "--base", "./linux"), "neither a mailbox nor a directory"),
        (("good.mbox", "--base", "./linux", "--checks", "nonsense"), "no such group"),
        (("good.mbox", "--base", "./linux", "-p", "8k"), "not a page size"),
    ],
)
def test_refusals_before_anything_is_built(run: Run, argv: tuple[str, ...], said: str) -> None:
    """What cannot be is told, with a status that `git bisect run` does not take for a bad commit."""
    done = run(*argv)
    assert done.exit_code == CANNOT_TELL
    assert said in " ".join(done.stderr.split())


def test_mailbox_on_stdin(run: Run, tmp_path: Path) -> None:
    """A dash reads the mail from stdin."""
    done = run("-", "--base", "./linux", "--plan", input=(tmp_path / "good.mbox").read_bytes())
    assert done.exit_code == 0
    assert "mm: change 2" in done.stdout


@pytest.mark.parametrize(
    ("failing", "status"),
    [((), 0), (("mapping",), 1)],
    ids=["clean", "broken"],
)
def test_status_and_reports(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...], status: int
) -> None:
    """0 or 1 by what is new, and a report of each kind."""
    runner = FakeRunner(lambda step, variant, _run: failing if step and variant == K16 else ())
    result = Engine(
        asked=asked(2), builder=FakeBuilder(image=str(tmp_path)), runner=runner,
        results=Results(tmp_path / "state"), listening=Deaf(),
    ).run()  # fmt: skip
    monkeypatch.setattr(series_module._Work, "run", lambda _self, _interrupted: result)
    monkeypatch.setattr(series_module._Work, "about", lambda _self: ABOUT)
    done = run("good.mbox", "--base", "./linux", "--terse", "--report", str(tmp_path / "out"))
    assert done.exit_code == status
    assert done.stdout.count("ERROR") == len(failing)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"series.json", "series.html", "series.txt", "mail.txt", "report.html", "junit.xml"} <= names


@pytest.mark.parametrize("error", [InfraError("no disk"), UsageError("no option")])
def test_faults_of_this_machine(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """They are no verdict on a commit."""

    def fail(_self: object, _interrupted: object) -> None:
        raise error

    monkeypatch.setattr(series_module._Work, "run", fail)
    assert run("good.mbox", "--base", "./linux").exit_code == CANNOT_TELL


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("30m", 1800), ("900s", 900), ("1.5h", 5400), ("9", 9)]
)
def test_budget(text: str, seconds: float) -> None:
    """Hours, minutes or seconds."""
    assert series_module._seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "0", "2 days"])
def test_no_budget(text: str) -> None:
    """What is no time is refused."""
    with pytest.raises(UsageError, match="wanted a time"):
        series_module._seconds(text)


def test_report_of_a_series(tmp_path: Path) -> None:
    """`granule report` prints the table again, and with --mail the text for a cover letter."""
    (tmp_path / "series.json").write_text(render_series_json(result_of(tmp_path), ABOUT))
    table = CliRunner().invoke(report, [str(tmp_path)])
    assert "new: build" in table.stdout
    mail = CliRunner().invoke(report, ["--mail", str(tmp_path)])
    assert len(mail.stdout.splitlines()) <= 25
    assert "New against the base" in mail.stdout


def test_mail_of_something_else(tmp_path: Path) -> None:
    """A report of another command is no series'."""
    (tmp_path / "report.json").write_text(json.dumps({"schema": "granule-report"}))
    done = CliRunner().invoke(report, ["--mail", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "is for a series' report" in str(done.exception)


def test_repro_of_an_unknown_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells that can be shown are named."""
    cells = [SimpleNamespace(id="05-16k-virt"), SimpleNamespace(id="06-16k-virt")]
    monkeypatch.setattr(repro_module, "load_report", lambda _path: SimpleNamespace(cells=cells))
    monkeypatch.setattr(repro_module, "refusal_of", lambda cell: "" if cell.id < "06" else "it passed")
    (tmp_path / "report.json").touch()
    done = CliRunner().invoke(repro, ["x", "-o", str(tmp_path / "out"), "--report", str(tmp_path)])
    assert "these can be shown so: 05-16k-virt" in str(done.exception)
    assert "06-16k-virt" not in str(done.exception)
