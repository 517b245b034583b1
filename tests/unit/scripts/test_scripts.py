"""The shell scripts, on a host that is made up."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parents[1]
PROGRAMS = ("apt-get", "dpkg-query", "python3", "ruff", "shellcheck")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts, and what bootstrap reads, without git."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, checkout / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(Path(__file__).with_name("fake-host.sh"))
    return checkout


def run(checkout: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts on the made-up host."""
    host = {"CALLED": str(called(checkout)), "PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        (checkout / "scripts" / script, *words), capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **host, **environment},
    )  # fmt: skip


def called(checkout: Path) -> Path:
    """The list of what was called."""
    return checkout.parent / "called"


def calls(checkout: Path, what: str) -> list[str]:
    """Lines of that list."""
    return [line for line in called(checkout).read_text().splitlines() if line.startswith(what)]


def test_bootstrap_is_quick_the_second_time(checkout: Path) -> None:
    """What is installed is not installed again."""
    assert run(checkout, "bootstrap").returncode == 0
    assert len(calls(checkout, "pip")) == 2
    assert run(checkout, "bootstrap").returncode == 0
    assert len(calls(checkout, "pip")) == 2
    assert not calls(checkout, "apt-get")


def test_bootstrap_after_a_move(checkout: Path) -> None:
    """A checkout that was moved gets another environment: the scripts in the old one name the old place."""
    run(checkout, "bootstrap")
    moved = checkout.rename(checkout.with_name("moved"))
    assert run(moved, "bootstrap").returncode == 0
    assert len(calls(moved, "pip")) == 4


def test_bootstrap_without_network(checkout: Path) -> None:
    """When pip fails, its words and what to look at are shown, with status 3; the next run tries again."""
    done = run(checkout, "bootstrap", PIP_FAILS="1")
    assert done.returncode == 3
    assert "no route to host" in done.stderr
    assert "network" in done.stderr
    assert "HTTPS_PROXY" in done.stderr
    assert run(checkout, "bootstrap").returncode == 0
    assert len(calls(checkout, "pip")) == 3


def test_bench_sets_up_first(checkout: Path) -> None:
    """In a fresh checkout there is no .venv: the benchmarks make it, and get their arguments."""
    done = run(checkout, "bench", "boot", "--json")
    assert done.returncode == 0, done.stderr
    assert calls(checkout, "python ") == ["python -m benchmarks boot --json"]


def test_shellcheck_needs_no_git(checkout: Path) -> None:
    """Every shell script is checked in a directory without git, by its first line; Python is not."""
    (checkout / ".ci").mkdir()
    for name, first in ((".ci/run", "#!/bin/sh"), ("scripts/new", "#!/usr/bin/env bash"), ("scripts/x", "")):
        (checkout / name).write_text(f"{first}\n")
    venv = checkout.parent
    done = run(checkout, "test", "lint", TOX_ENV_NAME="lint", VIRTUAL_ENV=str(venv))
    assert done.returncode == 0, done.stderr
    checked = set(calls(checkout, "shellcheck ")[0].split()[1:])
    assert checked == {
        ".ci/run", "harness/spawn.sh", "harness/kernels/kbuild/with-libc.sh", "harness/kselftest/cross-cc.sh",
        "scripts/bench", "scripts/bootstrap", "scripts/new", "scripts/smoke", "scripts/test",
    }  # fmt: skip
