"""Places in a kernel, by its vmlinux."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.linux.source_lines import SourceLines

COMPILER = "aarch64-linux-gnu-gcc"
SOURCE = """\
int other(int *a);

int broken(int *a)
{
\tint b = other(a);

\treturn *a + b;
}
"""
OTHER = "int other(int *a) { return *a * 3; }\nvoid _start(void) { }\n"


def linked(tmp_path: Path, *flags: str) -> Path:
    """An executable of two files."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed: apt-get install gcc-aarch64-linux-gnu")
    tree = tmp_path / "tree/mm"
    tree.mkdir(parents=True)
    (tree / "broken.c").write_text(SOURCE)
    (tree / "other.c").write_text(OTHER)
    path = tmp_path / "vmlinux"
    argv = [
        COMPILER,
        "-O1",
        "-ffreestanding",
        "-nostdlib",
        "-static",
        "-Wl,-Ttext=0xffff800080000000",
        *flags,
        "-o",
        str(path),
    ]
    subprocess.run([*argv, str(tree / "other.c"), str(tree / "broken.c")], check=True)
    return path


@pytest.mark.parametrize("flag", ["-gdwarf-4", "-gdwarf-5"])
def test_file_and_line(tmp_path: Path, flag: str) -> None:
    """With debugging information it is the line of the source, by its path from the tree's top."""
    lines = SourceLines(linked(tmp_path, flag))
    assert lines.find("broken+0x0/0x20") == "mm/broken.c:4"
    assert lines.find("other+0x0/0x10") == "mm/other.c:1"


def test_file_alone(tmp_path: Path) -> None:
    """Without it, the file that the function is from, also of functions that are not static."""
    lines = SourceLines(linked(tmp_path))
    assert lines.find("broken+0x4/0x20") == "broken.c"
    assert lines.find("other+0x4/0x10") == "other.c"


@pytest.mark.parametrize("place", ["nothing+0x0/0x4", "", "0xffff800080000000", "x+0x4/0x8 [module]"])
def test_places_that_it_does_not_know(tmp_path: Path, place: str) -> None:
    """It says nothing of them."""
    assert SourceLines(linked(tmp_path)).find(place) == ""


def test_a_damaged_vmlinux_says_nothing(tmp_path: Path) -> None:
    """It is help and no verdict: no error either."""
    path = linked(tmp_path, "-g")
    path.write_bytes(path.read_bytes()[:2000])
    assert SourceLines(path).find("broken+0x0/0x20") == ""
    assert SourceLines(tmp_path / "absent").find("broken+0x0/0x20") == ""
