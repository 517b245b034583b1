"""`granule cache prune` asks before it removes, where there is someone to ask."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cache import Cache

MAIN = "import sys; sys.argv[0] = 'granule'; from harness.cli import main; main()"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache with one entry."""
    with Cache(tmp_path / "cache") as cache:
        cache.make("things", "one", lambda directory: (directory / "x").touch())
    return tmp_path / "cache"


def prune(root: Path, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        (sys.executable, "-c", MAIN, "cache", "prune", *words), stdin=stdin, capture_output=True, text=True,
        check=False, timeout=60, env={**os.environ, "GRANULE_CACHE": str(root)},
    )  # fmt: skip


def test_without_a_terminal(root: Path) -> None:
    """Where nobody can be asked, --yes is asked for and nothing is removed; with it, it is."""
    done = prune(root)
    assert (done.returncode, "give --yes" in done.stderr) == (2, True), done.stderr
    assert "interrupted" not in done.stderr
    assert (root / "things/one").is_dir()
    done = prune(root, "--yes")
    assert (done.returncode, "removed 1 entries" in done.stdout) == (0, True), done.stderr
    assert not (root / "things/one").exists()


def test_the_answer_no(root: Path) -> None:
    """Who says no at the terminal keeps everything, and that is no interruption."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"n\n")
        done = prune(root, stdin=theirs)
    finally:
        os.close(theirs)
        os.close(ours)
    assert (done.returncode, "nothing removed" in done.stdout) == (0, True), done.stderr
    assert (root / "things/one").is_dir()
