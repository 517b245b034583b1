"""A tree's copy in the cache, with patches: only what changed is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.longrun import quiet
from harness.kernels.trees.origin import SourceTree
from harness.kernels.trees.patches import Patch, read_series
from harness.kernels.trees.scratch import patched

OLD_S = 1_600_000_000
FIRST = "--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1 +1 @@\n-one\n+{0}\n"
NEW = (
    "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/mm/new.c\n"
    "@@ -0,0 +1 @@\n+x\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "mm").mkdir(parents=True)
    (path / ".git").mkdir()
    (path / ".git/HEAD").write_text("x")
    for name in ("mm/a.c", "mm/b.c", "Kconfig"):
        (path / name).write_text("one\n")
        os.utime(path / name, (OLD_S, OLD_S))
    (path / "run.sh").write_text("#!/bin/sh\n")
    (path / "run.sh").chmod(0o755)
    (path / "link").symlink_to("mm/./b.c")
    return path


def source(path: Path, *, is_fixed: bool = False) -> SourceTree:
    return SourceTree(path=path, id="t", place="t", label="linux", origin="somewhere", is_fixed=is_fixed)


def series(tmp_path: Path, *diffs: str) -> tuple[Patch, ...]:
    path = tmp_path / "p.patch"
    path.write_text("".join(diffs))
    return read_series(path)


def sync(cache: Cache, tree: Path, patches: tuple[Patch, ...], *, is_fixed: bool = False) -> SourceTree:
    with patched(cache, source(tree, is_fixed=is_fixed), patches, progress=quiet) as made:
        return made


def times(path: Path) -> dict[str, int]:
    return {
        found.relative_to(path).as_posix(): found.lstat().st_mtime_ns
        for found in path.rglob("*")
        if not found.is_dir()
    }


def test_without_patches_there_is_no_copy(cache: Cache, tree: Path) -> None:
    """No series: the tree itself is built."""
    assert sync(cache, tree, ()) == source(tree)
    assert not (cache.root / "work").exists()


@pytest.mark.parametrize("is_fixed", [False, True])
def test_copy_is_the_tree_with_the_series(cache: Cache, tree: Path, tmp_path: Path, is_fixed: bool) -> None:
    """Content, permissions, links and old times are the tree's, but for what the series touches."""
    before = times(tree), (tree / "mm/a.c").read_text()
    made = sync(cache, tree, series(tmp_path, FIRST.format("two"), NEW), is_fixed=is_fixed)
    assert (made.path / "mm/a.c").read_text() == "two\n"
    assert (made.path / "mm/new.c").read_text() == "x\n"
    assert (made.path / "mm/b.c").stat().st_mtime == OLD_S
    assert os.readlink(made.path / "link") == "mm/./b.c"  # noqa: PTH115 - Path tidies it
    assert (made.path / "run.sh").stat().st_mode & 0o111
    assert not (made.path / ".git").exists()
    assert (times(tree), (tree / "mm/a.c").read_text()) == before
    assert ((made.path / "mm/b.c").stat().st_ino == (tree / "mm/b.c").stat().st_ino) is is_fixed


def test_what_it_is_names_the_series(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """Another series is another tree to a kernel's key, in the same place for its builds."""
    first = sync(cache, tree, series(tmp_path, FIRST.format("two")))
    second = sync(cache, tree, series(tmp_path, FIRST.format("three")))
    assert first.id != second.id
    assert (first.place, first.path, first.generation) == (second.place, second.path, second.generation)
    assert "with 1 patch" in first.origin


def test_next_series_writes_only_what_differs(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """Files of equal content keep their times; changed, reverted and removed ones are made anew."""
    made = sync(cache, tree, series(tmp_path, FIRST.format("two"), NEW))
    before = times(made.path)
    sync(cache, tree, series(tmp_path, FIRST.format("two"), NEW))
    assert times(made.path) == before
    sync(cache, tree, series(tmp_path, FIRST.format("two")))
    after = times(made.path)
    assert after.keys() == before.keys() - {"mm/new.c"}
    assert {name for name in after if after[name] != before[name]} == set()
    sync(cache, tree, series(tmp_path, NEW))
    last = times(made.path)
    assert {name for name in after if last[name] != after[name]} == {"mm/a.c"}


def test_reverted_file_is_newer_than_its_object(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """A file that a series no longer touches gets today's time, or make would keep the patched object."""
    made = sync(cache, tree, series(tmp_path, FIRST.format("two")), is_fixed=True)
    built_ns = (made.path / "mm/a.c").stat().st_mtime_ns
    sync(cache, tree, series(tmp_path, NEW), is_fixed=True)
    assert (made.path / "mm/a.c").read_text() == "one\n"
    assert (made.path / "mm/a.c").stat().st_mtime_ns > built_ns


def test_users_edit_arrives(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """What the user changes, adds and removes is so in the copy, with the time of the change there."""
    made = sync(cache, tree, series(tmp_path, NEW))
    before_ns = max(times(made.path).values())
    (tree / "mm/b.c").write_text("edited\n")
    os.utime(tree / "mm/b.c", (OLD_S + 1, OLD_S + 1))
    (tree / "added.c").write_text("y\n")
    os.utime(tree / "added.c", (OLD_S, OLD_S))
    (tree / "Kconfig").unlink()
    sync(cache, tree, series(tmp_path, NEW))
    assert (made.path / "mm/b.c").read_text() == "edited\n"
    assert (made.path / "mm/b.c").stat().st_mtime_ns > before_ns
    assert (made.path / "added.c").stat().st_mtime_ns > before_ns
    assert not (made.path / "Kconfig").exists()


def test_touched_but_equal_file_is_left_alone(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """A new time on an old content compiles nothing."""
    made = sync(cache, tree, series(tmp_path, NEW))
    before = times(made.path)
    os.utime(tree / "mm/b.c")
    sync(cache, tree, series(tmp_path, NEW))
    assert times(made.path) == before


def test_series_that_does_not_apply_changes_nothing(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """The copy is as the last series left it."""
    made = sync(cache, tree, series(tmp_path, FIRST.format("two")))
    before = times(made.path)
    bad = "--- a/mm/b.c\n+++ b/mm/b.c\n@@ -1 +1 @@\n-not this\n+x\n"
    with pytest.raises(UsageError, match="does not apply"):
        sync(cache, tree, series(tmp_path, NEW, bad))
    assert times(made.path) == before


def test_new_copy_is_another_generation(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """A copy that was lost, or not finished, is made again under a new name for its builds."""
    first = sync(cache, tree, series(tmp_path, NEW))
    state = first.path.parent / "state.json"
    state.unlink()
    (first.path / "mm/b.c").write_text("half")
    second = sync(cache, tree, series(tmp_path, NEW))
    assert second.generation != first.generation
    assert (second.path / "mm/b.c").read_text() == "one\n"


def test_file_and_directory_change_places(cache: Cache, tree: Path, tmp_path: Path) -> None:
    """A file where a directory was, and the other way round."""
    made = sync(cache, tree, series(tmp_path, FIRST.format("two")))
    (tree / "Kconfig").unlink()
    (tree / "Kconfig").mkdir()
    (tree / "Kconfig/x").write_text("in it\n")
    (tree / "mm/b.c").rename(tree / "b")
    (tree / "run.sh").unlink()
    sync(cache, tree, series(tmp_path, FIRST.format("two")))
    assert (made.path / "Kconfig/x").read_text() == "in it\n"
    (tree / "Kconfig/x").unlink()
    (tree / "Kconfig").rmdir()
    (tree / "Kconfig").write_text("a file again\n")
    sync(cache, tree, series(tmp_path, FIRST.format("two")))
    assert (made.path / "Kconfig").read_text() == "a file again\n"


def test_cache_inside_the_tree_is_not_copied(tree: Path, tmp_path: Path) -> None:
    """With the cache in the tree, the copy does not hold itself."""
    with Cache(tree / "cache") as cache:
        made = sync(cache, tree, series(tmp_path, NEW))
        assert not (made.path / "cache").exists()
