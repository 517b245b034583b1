"""`granule tables` on a real kernel: booted, looked at, saved, and looked at again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

MAIN = "import sys; sys.argv[0] = 'granule'; from harness.cli import main; main()"
KERNEL = "debian-16k"
ATTEMPTS = 10


def _granule(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", MAIN, "tables", *map(str, words)),
        capture_output=True, text=True, check=False, timeout=600, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved guest."""
    path = tmp_path_factory.mktemp("tables") / "guest.snap"
    done = _granule("save", KERNEL, path)
    assert done.returncode == 0, done.stderr
    return path


def test_symbols_of_a_live_kernel() -> None:
    """The address of swapper_pg_dir, wherever KASLR put it, translates to the table that TTBR1 holds."""
    done = _granule("walk", KERNEL, "swapper_pg_dir", "_text", "--json")
    assert done.returncode == 0, done.stderr
    tables, text = json.loads(done.stdout)
    assert tables["pa"] == tables["steps"][0]["table"]
    # The first page of the image is its header, which nobody executes.
    allowed = {(one["el"], one["kind"]) for one in text["accesses"] if one["allowed"]}
    assert allowed == {(1, "read")}
    assert "is up after" in done.stderr


def _half(guest: Path, half: str) -> dict[str, Any]:
    done = _granule("dump", guest, "--half", half, "--json", "--limit", "0")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def test_what_a_kernel_maps(guest: Path) -> None:
    """All of RAM is in the linear map once, and the image has code that nobody writes."""
    found = _half(guest, "kernel")
    linear = [row for row in found["rows"] if row["region"] == "linear map"]
    assert found["regime"]["granule_bytes"] == 16384
    assert sum(row["size_bytes"] for row in linear) == pytest.approx(384 << 20, rel=0.02)
    assert len({int(row["va"], 16) - int(row["pa"], 16) for row in linear}) == 1
    image = {row["el1"] for row in found["rows"] if row["region"] == "kernel image"}
    assert image == {"r--", "r-x", "rw-"}
    assert {row["el0"] for row in found["rows"]} == {"---"}


def test_what_a_process_maps(guest: Path, tmp_path: Path) -> None:
    """The user half is the process that ran last: code of EL0, and nothing that EL1 executes."""
    rows = _half(guest, "user")["rows"]
    # That process may have ended: a vCPU then has the empty table. Another guest was caught elsewhere.
    for number in range(ATTEMPTS):
        if rows:
            break
        path = tmp_path / f"{number}.snap"
        assert _granule("save", KERNEL, path).returncode == 0
        rows = _half(path, "user")["rows"]
    assert any("x" in row["el0"] for row in rows)
    assert not any("x" in row["el1"] for row in rows)


def test_a_clean_kernel_is_clean(guest: Path) -> None:
    """No rule finds anything in a saved guest."""
    done = _granule("check", guest)
    assert (done.returncode, "nothing found" in done.stdout) == (0, True), done.stdout


def test_a_picture(guest: Path, tmp_path: Path) -> None:
    """The regions of the kernel are in the drawing."""
    done = _granule("map", guest, "-o", tmp_path / "map.svg")
    assert done.returncode == 0, done.stderr
    words = [one.text for one in ET.parse(tmp_path / "map.svg").iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314
    assert {"linear map", "kernel image", "vmemmap", "fixmap", "16K pages"} <= set(words)
