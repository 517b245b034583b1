"""What two builds of a source differ in, function by function."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.codegen import Comparison, compare_builds

COMPILER = "aarch64-linux-gnu-gcc"
SOURCE = """\
int printk(const char *text, int number);
static int table[4] = { 1, 2, 3, 4 };
__attribute__((noipa)) int first(int a) { return printk("first", a); }
__attribute__((noipa)) int second(int a) { return table[a & 3] + printk("second", __LINE__); }
int third(int a) { return second(a) + first(a); }
"""

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compiles sources by name into a directory of that name."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed: apt-get install gcc-aarch64-linux-gnu")

    def made(where: str, **sources: str) -> Path:
        directory = tmp_path / where
        for name, text in sources.items():
            path = directory / f"mm/{name}.o"
            path.parent.mkdir(parents=True, exist_ok=True)
            argv = [
                COMPILER,
                "-O2",
                "-ffreestanding",
                "-fno-asynchronous-unwind-tables",
                "-x",
                "c",
                "-c",
                "-",
                "-o",
                str(path),
            ]
            subprocess.run(argv, input=text.encode(), check=True)
        return directory

    return made


def names(found: Comparison) -> list[tuple[str, bool]]:
    """What changed."""
    return [(one.name, one.is_code) for one in found.changed]


def test_the_same_source_is_the_same(build: Build) -> None:
    """Nothing is said where nothing changed."""
    found = compare_builds(build("a", x=SOURCE, y=SOURCE), build("b", x=SOURCE, y=SOURCE))
    assert (found.identical, found.changed, found.is_same_code) == (2, (), True)


def test_a_function_that_moved_is_the_same(build: Build) -> None:
    """Only the function that was changed is named, though all that follow lie elsewhere."""
    changed = SOURCE.replace('return printk("first", a)', 'return printk("first", a * 77 + 1)')
    found = compare_builds(build("a", x=SOURCE), build("b", x=changed))
    assert names(found) == [("first", True)]
    assert not found.is_same_code
    (one,) = found.changed
    assert one.object == "mm/x.o"
    assert one.before_bytes is not None
    assert one.after_bytes is not None
    assert one.after_bytes > one.before_bytes


def test_a_string_is_part_of_the_function(build: Build) -> None:
    """Another message makes another function, and the others keep theirs."""
    found = compare_builds(build("a", x=SOURCE), build("b", x=SOURCE.replace('"second"', '"zweite"')))
    assert names(found) == [("second", True)]


def test_another_callee_of_the_same_size(build: Build) -> None:
    """A call that goes elsewhere is a difference, though its instruction is the same before linking."""
    found = compare_builds(build("a", x=SOURCE), build("b", x=SOURCE.replace("printk", "printf")))
    assert [name for name, _code in names(found)] == ["first", "second"]


def test_data_is_told_apart(build: Build) -> None:
    """Another table is other data, and the code is the same."""
    found = compare_builds(build("a", x=SOURCE), build("b", x=SOURCE.replace("1, 2, 3, 4", "1, 2, 3, 5")))
    assert names(found) == [("table", False)]
    assert found.is_same_code


def test_objects_that_come_and_go(build: Build) -> None:
    """An object of the option's own is no zero cost."""
    found = compare_builds(build("a", x=SOURCE, old=SOURCE), build("b", x=SOURCE, new=SOURCE))
    assert (found.only_before, found.only_after) == (("mm/old.o",), ("mm/new.o",))
    assert not found.is_same_code


def test_single_objects(build: Build) -> None:
    """Two objects are compared as two builds are."""
    before, after = build("a", x=SOURCE), build("b", x=SOURCE.replace("second(a) +", "second(a) -"))
    assert names(compare_builds(before / "mm/x.o", after / "mm/x.o")) == [("third", True)]


def test_what_cannot_be_compared(build: Build, tmp_path: Path) -> None:
    """Directories without objects, and damaged objects, are told."""
    (tmp_path / "empty").mkdir()
    before = build("a", x=SOURCE)
    with pytest.raises(UsageError, match="no object is in both"):
        compare_builds(before, tmp_path / "empty")
    after = build("b", x=SOURCE)
    whole = (after / "mm/x.o").read_bytes()
    (after / "mm/x.o").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="damaged"):
        compare_builds(before, after)
