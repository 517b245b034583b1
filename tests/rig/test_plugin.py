"""Tests of the pytest plugin's dimensions, by collecting only: QEMU is asked for its CPU models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest


def test_everywhere(subject):
    pass


@pytest.mark.page_size("16k", "64k")
def test_not_at_4k(subject):
    pass


@pytest.mark.memory(1024)
def test_large(subject):
    pass
"""


def _collected(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_mine.py").write_text(TESTS)
    plugin = ("-p", "harness.pytest_plugin", "-p", "no:cacheprovider")
    argv = (sys.executable, "-m", "pytest", "--collect-only", "-q", *_once(plugin), *options, str(directory))
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def _once(plugin: tuple[str, ...]) -> tuple[str, ...]:
    """Name the plugin only where the package is not installed, which would name it a second time."""
    from importlib.metadata import entry_points

    installed = any(entry.value == "harness.pytest_plugin" for entry in entry_points(group="pytest11"))
    return plugin[2:] if installed else plugin


def _ids(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]


def test_a_test_runs_once_per_cell(tmp_path: Path) -> None:
    """Without options a test runs at three page sizes; markers narrow it, and ids can be read."""
    ids = _ids(_collected(tmp_path, "--granule-accel", "tcg"))
    sizes = ("4k-debian-4k", "16k-debian-16k", "64k-trimmed-64k")
    assert [f"test_everywhere[{size}-neoverse-n1-tcg]" for size in sizes] == [
        each for each in ids if "everywhere" in each
    ]
    assert [each.split("[")[1].split("-")[0] for each in ids if "not_at_4k" in each] == ["16k", "64k"]
    assert all(each.endswith("-1024m]") for each in ids if "large" in each)


def test_options_choose_the_cells(tmp_path: Path) -> None:
    """Kernel, page size and CPU are options."""
    options = ("--granule-kernel", "trimmed", "--granule-page-size", "16k", "--granule-cpu", "max+lpa2=off")
    ids = _ids(_collected(tmp_path, *options, "--granule-accel", "tcg"))
    assert "test_everywhere[16k-trimmed-16k-max+lpa2=off-tcg]" in ids
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--granule-page-size", "8k"), "not a page size"),
        (("--granule-kernel", "nosuch"), "there is no kernel 'nosuch'"),
        (("--granule-page-size", "16k", "--granule-cpu", "cortex-a57"), "no 16K granule"),
    ],
)
def test_what_cannot_be_ends_the_run(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """Nonsense ends the run before any test, with the reason."""
    done = _collected(tmp_path, *options, "--granule-accel", "tcg")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert said in done.stdout + done.stderr
