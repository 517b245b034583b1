"""A series with planted mistakes, on Debian's kernel source: exactly those are found, by patch and page size.

series.mbox holds ten patches in the encodings of mail. Trees, builds and results stay in the cache, so that
a second run compiles nothing and boots nothing that it has seen; from an empty cache it takes an hour on two
cores.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.kernels.store import KernelStore

SERIES = Path(__file__).with_name("series.mbox")
BASE = "trimmed-64k"
"""Whose source it is."""
SIZES = ("64k", "16k", "4k")
PASS, NOTHING, IDLE = "pass", "nothing to build", "built, not exercised"
NEW, SINCE, FIXED = "new", "fails since", "fixed"

# What each patch is, and which verdicts other than a pass it has: by page size, the checks.
EXPECTED: dict[int, dict[str, dict[str, set[str]]]] = {
    1: {},  # a clean-up
    2: {},  # documentation
    3: {"64k": {NEW: {"build"}}},
    4: {"64k": {FIXED: {"build"}}},
    5: {"16k": {NEW: {"mapping", "kernel-log"}}},
    6: {"64k": {NEW: {"mapping"}}, "16k": {SINCE: {"mapping", "kernel-log"}}},
    7: {"64k": {SINCE: {"mapping"}}, "16k": {SINCE: {"mapping", "kernel-log"}}},  # a clean-up
    8: {
        "64k": {SINCE: {"mapping"}, NEW: {"storvsc", "wire"}},
        "16k": {SINCE: {"mapping", "kernel-log"}, NEW: {"storvsc", "wire"}},
    },
    9: {
        "64k": {SINCE: {"mapping", "storvsc", "wire"}},
        "16k": {SINCE: {"mapping", "kernel-log", "storvsc", "wire"}},
    },
    10: {
        "64k": {SINCE: {"mapping", "storvsc", "wire"}},
        "16k": {SINCE: {"mapping", "kernel-log", "storvsc", "wire"}},
    },
}


def granule(*argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The program, in a process of its own."""
    command = [sys.executable, "-c", "from harness.entry import main; main()", *argv]
    return subprocess.run(command, check=False, capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def report(granule_kernels: KernelStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the whole series at each page size."""
    directory = tmp_path_factory.mktemp("series") / "report"
    done = granule("series", str(SERIES), "--base", BASE, "--repeat", "2", "--report", str(directory))
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    return directory


@pytest.fixture(scope="module")
def found(report: Path) -> Any:
    """series.json."""
    return json.loads((report / "series.json").read_text())


def verdicts(found: Any, patch: int, size: str) -> dict[str, set[str]]:
    """Checks by their verdict."""
    table: dict[str, set[str]] = {}
    for one in found["verdicts"]:
        if (one["patch"], one["page_size"]) == (patch, size):
            table.setdefault(one["verdict"], set()).add(one["check"])
    return table


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", EXPECTED)
def test_table(found: Any, patch: int, size: str) -> None:
    """Each patch has the verdicts that were planted, at those page sizes and checks, and no others."""
    seen = verdicts(found, patch, size)
    wanted = EXPECTED[patch].get(size, {})
    assert {word: checks for word, checks in seen.items() if word in (NEW, SINCE, FIXED)} == wanted
    rest = set(seen) - {NEW, SINCE, FIXED}
    if patch == 2:
        assert rest == {NOTHING}
    elif patch == 9:
        assert rest - {"not run"} == {IDLE}
    elif "build" in wanted.get(NEW, ()):
        assert rest == {"not built"}
    elif any("kernel-log" in checks for checks in wanted.values()):
        assert rest == {PASS, "not run"}  # a guest that has oopsed is asked nothing more
    else:
        assert rest == {PASS}


def test_base_is_clean(found: Any) -> None:
    """The control passes everything at each page size."""
    assert [set(verdicts(found, 0, size)) for size in SIZES] == [{PASS}] * len(SIZES)


def test_first_bad(found: Any) -> None:
    """Each planted mistake is named once, by patch, page size and check, and all exactly."""
    bad = {(one["patch"], one["page_size"], one["check"]) for one in found["first_bad"]}
    assert bad == {
        (patch, size, check)
        for patch, sizes in EXPECTED.items()
        for size, words in sizes.items()
        for check in words.get(NEW, ())
    }
    by_check = {(one["patch"], one["check"]): one for one in found["first_bad"]}
    assert by_check[3, "build"]["place"].startswith("mm/mincore.c:")
    assert "msync" in by_check[5, "kernel-log"]["place"]
    assert all(one["failed"] == one["runs"] for one in found["first_bad"])


def test_new_warning(found: Any) -> None:
    """The one warning that the series brings is its patch's, at each page size."""
    warnings = {(one["patch"], one["page_size"], one["file"]) for one in found["new_warnings"]}
    assert warnings == {(9, size, "drivers/rtc/rtc-pl031.c") for size in SIZES}


def test_a_second_run_does_nothing_again(found: Any, tmp_path: Path) -> None:
    """All is found on disk, and the table is the same."""
    argv = ("series", str(SERIES), "--base", BASE, "--repeat", "2", "--report", str(tmp_path / "report"))
    granule(*argv)
    again = json.loads((tmp_path / "report/series.json").read_text())
    assert again["verdicts"] == found["verdicts"]
    assert {one["done"] for one in again["kernels"]} == {0}


def test_goes_on_after_kill_9(found: Any, tmp_path: Path) -> None:
    """A run that is killed in its work is gone on with: its finished work stays, the table is the same."""
    words = (
        "series",
        str(SERIES),
        "--base",
        BASE,
        "-p",
        "4k",
        "--tip",
        "--checks",
        "mapping",
        "--repeat",
        "1",
        "--config",
        "trimmed,hyperv,ptdump",  # as above, so that nothing is built for it
    )
    argv = [*words, "--report", str(tmp_path / "report")]
    command = [sys.executable, "-c", "from harness.entry import main; main()", *argv, "--again"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "base at 4K: virt:" in line:  # the base has been run, and the tip has not
                os.kill(process.pid, signal.SIGKILL)
                break
    done = granule(*argv)
    assert done.returncode == 0, done.stderr
    kernels = json.loads((tmp_path / "report/series.json").read_text())["kernels"]
    made = {one["patch"]: one["done"] for one in kernels}
    assert made.keys() == {0, 10}
    assert made[0] == 0
    assert made[10] <= 1  # its run; none where this test has been run before on this host


def test_bisect(found: Any, tmp_path: Path) -> None:
    """Bisecting names the same first bad patches with fewer kernels."""
    argv = ("series", str(SERIES), "--base", BASE, "-p", "16k", "--bisect", "--repeat", "2")
    granule(*argv, "--report", str(tmp_path / "report"))
    bisected = json.loads((tmp_path / "report/series.json").read_text())
    named = {(one["patch"], one["check"]) for one in bisected["first_bad"]}
    assert named == {(one["patch"], one["check"]) for one in found["first_bad"] if one["page_size"] == "16k"}
    assert len(bisected["kernels"]) < len([one for one in found["kernels"] if one["page_size"] == "16k"])


def test_mail(report: Path) -> None:
    """The text for a cover letter fits, and names what is new."""
    text = granule("report", "--mail", str(report)).stdout
    assert len(text.splitlines()) <= 25
    assert max(map(len, text.splitlines())) <= 72
    for words in ("linux-source-6.12", "mm/mincore.c", "mapping", "64K:", "Not covered"):
        assert words in text


@pytest.mark.parametrize("cell", ["05-16k-virt", "06-64k-virt"])
def test_repro_in_a_bare_environment(report: Path, tmp_path: Path, cell: str) -> None:
    """The oops and the broken rule show again with QEMU and a shell, nothing else in the environment."""
    made = granule("repro", cell, "-o", str(tmp_path / "repro"), "--report", str(report))
    assert made.returncode == 0, made.stderr
    argv = ["env", "-i", "/bin/sh", str(tmp_path / "repro/run.sh")]
    done = subprocess.run(argv, check=False, capture_output=True, cwd="/", timeout=600)
    assert done.returncode == 1, done.stderr[-2000:]
    console = (tmp_path / "repro/console.log").read_text(errors="replace")
    assert "granule-repro: end" in console or "Oops" in console


def test_not_for_hyperv(report: Path, tmp_path: Path) -> None:
    """A cell whose host is granule's is refused with the command that repeats it."""
    refused = granule("repro", "08-16k-hyperv", "-o", str(tmp_path / "repro"), "--report", str(report))
    assert refused.returncode == 2
    assert "granule smoke" in refused.stderr or "smoke --kernel" in refused.stderr
