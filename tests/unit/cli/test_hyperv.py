"""Tests of `granule hyperv` without a guest: what is refused, and how a trial is told."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from harness.cli.hyperv import hyperv
from harness.cli.hyperv.trial_table import print_trials, trial_facts
from harness.cli.hyperv.try_change import _prepare, _status
from harness.errors import ExitStatus, UsageError
from harness.spec import PageSize
from harness.trial import Change, Outcome, Prepared, Trial
from harness.trial.outcome import RuleCount
from harness.verdict import CellResult, CheckResult, Skipped, Verdict

PATCH = """--- a/drivers/scsi/storvsc_drv.c
+++ b/drivers/scsi/storvsc_drv.c
@@ -1,1 +1,1 @@
-a
+b
"""
CELL: Any = SimpleNamespace(id="16k-k", kernel="k", page_size=PageSize.K16)


def outcome(verdict: Verdict, broken: int = 0) -> Outcome:
    """A guest whose one check ended so, with a rule of storvsc's."""
    result = CellResult(
        id="16k-k", page_size_asked=PageSize.K16, page_size_in_force=PageSize.K16, kernel="k", cpu="c",
        accel="tcg", vcpus=2, memory_mib=384, verdict=verdict, reason="", duration_s=1.0, boot_s=1.0,
        rerun="", console="",
        checks=(CheckResult(name="storvsc", verdict=verdict, expectations=1, duration_s=0.1),),
    )  # fmt: skip
    rule = RuleCount(
        driver="storvsc", source="s.c:1", claim="it is so", comparisons=9, broken=broken, first="5; wanted 4"
    )
    return Outcome(cell=result, rules={"storvsc.count": rule})


def trial(
    after: Verdict = Verdict.PASS, broken: int = 0, modules: tuple[str, ...] = ("hv_storvsc",)
) -> Trial:
    """One that passed before."""
    return Trial(
        cell=CELL, before=outcome(Verdict.PASS), after=outcome(after, broken), modules=modules,
        elsewhere=("pci-hyperv",),
    )  # fmt: skip


@pytest.fixture
def change(tmp_path: Path) -> Change:
    """Of storvsc."""
    (tmp_path / "a.patch").write_text(PATCH)
    return Change.of_patches([tmp_path / "a.patch"])


def printed(change: Change, *trials: Trial, skipped: tuple[Skipped, ...] = ()) -> str:
    """As the command prints them."""
    console = Console(file=io.StringIO(), width=200)
    print_trials(change, trials, skipped, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("words", [[], ["--patch", "{patch}", "--module", "{directory}"]])
def test_one_thing_is_tried(tmp_path: Path, words: list[str]) -> None:
    """A patch or a directory: neither, or both, is an error of use."""
    (tmp_path / "a.patch").write_text(PATCH)
    filled = [word.format(patch=tmp_path / "a.patch", directory=tmp_path) for word in words]
    done = CliRunner().invoke(hyperv, ["try", *filled])
    assert isinstance(done.exception, UsageError)
    assert "say what is tried" in str(done.exception)


def test_a_directory_without_kbuild(tmp_path: Path) -> None:
    """It is told what is missing."""
    done = CliRunner().invoke(hyperv, ["try", "--module", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "neither Kbuild nor Makefile" in str(done.exception)


def test_a_patch_of_documentation(tmp_path: Path) -> None:
    """What changes no code cannot be tried."""
    (tmp_path / "a.patch").write_text(PATCH.replace("drivers/scsi/storvsc_drv.c", "Documentation/a.rst"))
    done = CliRunner().invoke(hyperv, ["try", "--patch", str(tmp_path / "a.patch")])
    assert isinstance(done.exception, UsageError)
    assert "changes no code: Documentation/a.rst" in str(done.exception)


def test_a_rule_that_changed_is_told(change: Change) -> None:
    """The table has both verdicts; below it stand rule, driver, source and what was seen."""
    text = printed(change, trial(Verdict.FAIL, broken=2))
    assert "PASS > FAIL" in text
    assert "16K k: storvsc.count broken with it: storvsc, it is so (s.c:1): 5; wanted 4" in text
    assert "worse at 16K" in text


def test_what_was_not_exercised_is_told(change: Change) -> None:
    """A rebuilt driver that did nothing, and one that nothing here speaks to, are no pass."""
    idle = trial(modules=("hv_storvsc", "hv_sock"))
    assert idle.not_exercised == ("hv_sock", "pci-hyperv")
    text = printed(change, idle, skipped=(Skipped(id="4k-x", reason="why not"),))
    assert "16K k: changed, and not exercised: hv_sock, pci-hyperv" in text
    assert "not tried: 4k-x: why not" in text
    assert "no difference; not exercised: hv_sock, pci-hyperv" in text


def test_one_that_does_not_build_is_worse(change: Change) -> None:
    """At one page size of several it is a finding, in the table and for programs."""
    broken = Trial(cell=CELL, before=None, after=None, not_built="a.c:1: error: no")
    assert "16K k: does not build: a.c:1: error: no" in printed(change, broken, trial())
    facts = trial_facts(change, [broken], [])
    assert (facts["worse"], facts["trials"][0]["built"]) == (True, False)
    assert _status([broken, trial()]) is ExitStatus.FAILED


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(Verdict.PASS, ExitStatus.PASSED), (Verdict.FAIL, ExitStatus.FAILED), (Verdict.INFRA, ExitStatus.INFRA)],
)
def test_status(verdict: Verdict, status: ExitStatus) -> None:
    """Worse is 1; a guest that our own machine failed is 3; else 0."""
    assert _status([trial(verdict)]) is status


def test_what_builds_nowhere_is_an_error_of_use(
    change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing boots then; where it builds for one kernel, both go on."""
    setting: Any = SimpleNamespace(store=None, bench=None, kernel_progress=None)
    made: dict[str, Any] = {"a": None, "b": None}
    # The package's name is the group's as well, so that no dotted path leads to the module.
    monkeypatch.setattr(
        sys.modules[_prepare.__module__],
        "prepare",
        lambda _change, cell, *_rest: Prepared(cell=cell, old=CELL, new=made[cell.kernel], not_built="no"),
    )
    cells: Any = [SimpleNamespace(id=name, kernel=name) for name in made]
    with pytest.raises(UsageError, match="does not build: no"):
        _prepare(change, cells, setting, tmp_path)
    made["b"] = CELL
    assert len(_prepare(change, cells, setting, tmp_path)[0]) == 2
