"""Tests of the granule program: what it answers without booting anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.smoke import EVERY_CHECK

MAIN = "import sys; sys.argv[0] = 'granule'; from harness.cli import main; main()"


def _granule(cache: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", MAIN, *words),
        capture_output=True, text=True, check=False, timeout=60, cwd=cache,
        env={**os.environ, "GRANULE_CACHE": str(cache / "cache"), **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    "command", ["smoke", "boot", "run", "replay", "kernels", "guests", "cache", "doctor"]
)
def test_help(tmp_path: Path, command: str) -> None:
    """Every command explains itself."""
    done = _granule(tmp_path, command, "--help")
    assert done.returncode == 0
    assert "Usage: granule" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("smoke", "--page-size", "8k"), "not a page size"),
        (("smoke", "--check", "nothing"), "there is no check 'nothing'"),
        (("smoke", "--nonsense"), "No such option"),
        (("smoke", "--deterministic", "seven"), "is not a seed"),
        (("smoke", "--explore", "0"), "--explore"),
        (("replay", "gone.json"), "does not exist"),
        (("kernels", "fetch", "debain-4k"), "debian-4k"),
        (("smoke", "--kernel", "./gone/Image", "--accel", "tcg"), "does not exist"),
        (("kernels", "build", "--tree", ".", "--like", "debian-4k"), "packaged kernel"),
    ],
)
def test_usage_errors(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """What cannot be is one paragraph on stderr, status 2, and no traceback."""
    done = _granule(tmp_path, *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_qemu(tmp_path: Path) -> None:
    """Without QEMU on PATH the command that installs it is named, with status 3."""
    done = _granule(tmp_path, "smoke", PATH=str(tmp_path))
    assert done.returncode == 3
    assert "apt-get install qemu-system-arm" in done.stderr
    assert "Traceback" not in done.stderr


def test_offline_without_a_kernel(tmp_path: Path) -> None:
    """`--offline` with an empty cache is an infrastructure error that names what to fetch."""
    done = _granule(tmp_path, "kernels", "fetch", "debian-4k", "--offline")
    assert done.returncode == 3
    assert "debian-4k" in done.stderr


def test_a_cache_that_cannot_be_used(tmp_path: Path) -> None:
    """A cache directory that is a file is an infrastructure error with its path."""
    (tmp_path / "cache").write_text("")
    done = _granule(tmp_path, "cache", "list")
    assert done.returncode == 3
    assert str(tmp_path / "cache") in done.stderr
    assert "Traceback" not in done.stderr


def test_list_checks(tmp_path: Path) -> None:
    """The list names every check with what it claims."""
    done = _granule(tmp_path, "smoke", "--list-checks")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [check.name for check in EVERY_CHECK]


def test_kernels_list(tmp_path: Path) -> None:
    """The catalogue is listed with an empty cache and no network."""
    done = _granule(tmp_path, "kernels", "list")
    assert done.returncode == 0
    assert "debian-16k" in done.stdout
    assert "not built" in done.stdout


def test_doctor_names_what_mends(tmp_path: Path) -> None:
    """On a host without tools each one lacking has its apt-get line, and the status is 3."""
    done = _granule(tmp_path, "doctor", PATH=str(tmp_path), COLUMNS="200")
    assert done.returncode == 3
    assert "apt-get install qemu-system-arm" in done.stdout
    assert "apt-get install bison" in done.stdout


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """Output into a closed pipe ends quietly."""
    script = f'{sys.executable} -c "{MAIN}" smoke --list-checks | head -n 1'
    done = subprocess.run(("sh", "-c", script), capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr


def test_an_interrupt_while_starting() -> None:
    """Ctrl-C before the program has been imported is no traceback either."""
    script = (
        "import builtins, sys\n"
        "real = builtins.__import__\n"
        "def interrupted(name, *rest, **more):\n"
        "    if name == 'harness.cli':\n"
        "        raise KeyboardInterrupt\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = interrupted\n"
        "from harness.entry import main\n"
        "main()\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 130
    assert done.stderr == "granule: interrupted\n"


def test_guests_that_are_not_there(tmp_path: Path) -> None:
    """`granule guests` names what there is, and without a network says what to do."""
    done = _granule(tmp_path, "guests", "plan9")
    assert done.returncode == 2
    assert "micro, debian, debian-lvm" in done.stderr
    assert _granule(tmp_path, "guests", "micro").returncode == 2
    done = _granule(tmp_path, "guests", "--offline", "debian")
    assert done.returncode == 3
    assert "--offline forbids" in done.stderr
