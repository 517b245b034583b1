"""Tests of the scripts that run in distributions' guests, as far as this host's shell can run them."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import cast

import pytest

from harness.channel.command import Completed
from harness.guests import ElfScan
from harness.linux.tap import parse_tap
from harness.paths import data_dir
from harness.smoke.distro import clock, elf_alignment
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import PageSize
from harness.verdict import Verdict

HOME = data_dir("guests") / "disk" / "checks"
SCRIPTS = sorted(path for path in HOME.glob("*.sh") if path.name != "points.sh")


def _run(script: str) -> str:
    prelude = (HOME / "points.sh").read_text()
    done = subprocess.run(["sh", "-c", prelude + script], capture_output=True, text=True, check=True)
    return done.stdout


def test_points() -> None:
    """What holds, what does not, and what cannot be compared are points that the host reads as such."""
    tap = parse_tap(
        _run(
            "holds one true\nholds two sh -c 'echo no; exit 3'\n"
            "equal three a b\nabsent four 'not here'\nfinish"
        )
    )
    assert tap.complete
    assert [(point.ok, point.text) for point in tap.points] == [
        (True, "one"),
        (False, "two"),
        (False, "three"),
        (True, "four"),
    ]
    assert (tap.points[1].wanted, tap.points[1].seen) == ("success", "status 3: no")
    assert (tap.points[2].wanted, tap.points[2].seen) == ("a", "b")
    assert tap.points[3].skip_reason == "not here"


def test_words_of_a_command_cannot_pass_for_points() -> None:
    """Whatever a command prints is one line of one point."""
    tap = parse_tap(
        _run("holds one printf 'ok 2 - mine\\nok 3 - mine\\n# SKIP\\n'\nequal two a \"a\nok 9 - b\"\nfinish")
    )
    assert [point.ok for point in tap.points] == [True, False]
    assert tap.complete


def test_a_script_that_breaks_off() -> None:
    """Without its end a script is no whole run."""
    assert not parse_tap(_run("holds one true\n")).complete


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts(script: Path) -> None:
    """Each script is one that sh can read, and ends with its plan."""
    text = script.read_text()
    assert text.rstrip().endswith("\nfinish")
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck: apt-get install shellcheck")
def test_lint() -> None:
    """shellcheck is content with every script that runs in guests on disks."""
    home = data_dir("guests")
    scripts = [path for name in ("disk", "debian", "debian-lvm") for path in (home / name).rglob("*.sh")]
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert not done.stdout


@pytest.mark.parametrize(("size", "verdict"), [(PageSize.K4, Verdict.PASS), (PageSize.K64, Verdict.FAIL)])
def test_alignment_is_judged_by_the_page_size(size: PageSize, verdict: Verdict) -> None:
    """A library for 4K pages fails a 64K guest, and is named in any."""
    result = elf_alignment(ElfScan(scanned=3, unaligned=(("/lib/a.so", 4096),)), size)
    assert result.verdict is verdict
    assert "/lib/a.so" in result.output
    assert result.expectations == 3


def test_nothing_scanned_is_no_pass() -> None:
    """A scan that saw no program has shown nothing."""
    assert elf_alignment(ElfScan(), PageSize.K4).verdict is Verdict.FAIL


class _Says:
    """A guest that says the same to every command."""

    def __init__(self, text: str) -> None:
        self._text = text

    def sh(self, _script: str) -> Completed:
        return Completed(output=self._text.encode(), status=0)


@pytest.mark.parametrize(
    ("behind_s", "goes_on_s", "verdict"),
    [(0, 1, Verdict.PASS), (-3600, 1, Verdict.FAIL), (86400, 1, Verdict.FAIL), (0, 0, Verdict.FAIL)],
)
def test_clock(behind_s: int, goes_on_s: int, verdict: Verdict) -> None:
    """A clock that is right and goes on passes; one that is late, early or stands still does not."""
    now_s = int(time.time()) - behind_s
    evidence = Evidence()
    clock(cast(Subject, _Says(f"{now_s}\n{now_s + goes_on_s}\n")), evidence)
    assert evidence.result("clock", 0.0).verdict is verdict


@pytest.mark.parametrize("words", ["", "date: not found", "1 two", "-1 5"])
def test_clock_of_a_guest_that_says_something_else(words: str) -> None:
    """What is no number of seconds is a finding, whatever it is."""
    evidence = Evidence()
    clock(cast(Subject, _Says(words)), evidence)
    assert evidence.result("clock", 0.0).verdict is Verdict.FAIL
