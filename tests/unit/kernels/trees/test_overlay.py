"""Applying a series to copies of the files that it touches."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.trees.overlay import Overlay, apply_series
from harness.kernels.trees.patches import Patch
from harness.kernels.trees.patches import read_series as read

CHANGE = "--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+{0}\n three\n"
MIDDLE = (
    "--- a/mm/b.c\n+++ b/mm/b.c\n@@ -10,7 +10,7 @@\n line 10\n line 11\n line 12\n-line 13\n+good\n line 14\n"
    " line 15\n line 16\n"
)
AGAIN = "--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1,3 +1,3 @@\n one\n-TWO\n+2\n three\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "mm").mkdir(parents=True)
    (path / "mm/a.c").write_text("one\ntwo\nthree\n")
    (path / "mm/b.c").write_text("".join(f"line {number}\n" for number in range(1, 61)))
    (path / "run.sh").write_text("x\n")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def series(tmp_path: Path, *diffs: str) -> tuple[Patch, ...]:
    found: list[Patch] = []
    for number, diff in enumerate(diffs, start=1):
        path = tmp_path / f"{number}.patch"
        path.write_text(
            f"From: A <a@b>\nSubject: [PATCH {number}/{len(diffs)}] step {number}\n\nwhy\n---\n{diff}"
        )
        found += read(path)
    return tuple(found)


def contents(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_patches_build_on_each_other(tree: Path, out: Path, tmp_path: Path) -> None:
    """The second patch of a file sees what the first made of it; the tree sees nothing of either."""
    before = contents(tree)
    made = apply_series(tree, series(tmp_path, CHANGE.format("TWO"), AGAIN), out)
    assert made == Overlay(out, frozenset({"mm/a.c"}))
    assert contents(out) == {"mm/a.c": "one\n2\nthree\n"}
    assert contents(tree) == before


def test_files_come_go_and_move(tree: Path, out: Path, tmp_path: Path) -> None:
    """A new file, a removed one, a renamed one and a mode: all named, and only what is there is made."""
    diff = (
        "diff --git a/new.c b/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n"
        "diff --git a/mm/a.c b/mm/a.c\ndeleted file mode 100644\n--- a/mm/a.c\n+++ /dev/null\n"
        "@@ -1,3 +0,0 @@\n-one\n-two\n-three\n"
        "diff --git a/mm/b.c b/fs/c.c\nsimilarity index 100%\nrename from mm/b.c\nrename to fs/c.c\n"
        "diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n"
    )
    made = apply_series(tree, series(tmp_path, diff), out)
    assert made.files == {"new.c", "mm/a.c", "mm/b.c", "fs/c.c", "run.sh"}
    assert sorted(contents(out)) == ["fs/c.c", "new.c", "run.sh"]
    assert (out / "run.sh").stat().st_mode & 0o100


def test_first_that_does_not_apply_is_named_with_its_hunk(tree: Path, out: Path, tmp_path: Path) -> None:
    """Which patch of how many, which file, which hunk, and the hunk's text."""
    second = (
        f"{MIDDLE}@@ -30,7 +30,7 @@\n line 30\n line 31\n line 32\n-this is not there\n+bad\n line 34\n"
        " line 35\n line 36\n"
    )
    with pytest.raises(UsageError) as caught:
        apply_series(tree, series(tmp_path, CHANGE.format("TWO"), second, AGAIN), out)
    said = str(caught.value)
    assert "patch 2 of 3, 'step 2' (2.patch), does not apply to" in said
    assert "in mm/b.c, hunk #2 does not fit" in said
    assert "-this is not there" in said
    assert "+good" not in said


def test_reject_is_bounded(tree: Path, out: Path, tmp_path: Path) -> None:
    """A long hunk is shown by its first lines."""
    body = "".join(f"+{'y' * 500} {number}\n" for number in range(200))
    diff = f"--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1,1 +1,201 @@\n nothing like it\n{body}"
    with pytest.raises(UsageError) as caught:
        apply_series(tree, series(tmp_path, diff), out)
    lines = str(caught.value).splitlines()
    assert "lines more" in lines[-1]
    assert len(lines) < 30
    assert max(map(len, lines[1:])) < 200


def test_series_for_another_tree_says_what_is_lacking(tree: Path, out: Path, tmp_path: Path) -> None:
    """A file that the tree does not have is named, and the version is questioned."""
    diff = "--- a/drivers/gone.c\n+++ b/drivers/gone.c\n@@ -1 +1 @@\n-a\n+b\n"
    with pytest.raises(UsageError, match=r"The tree has no drivers/gone\.c.*another version"):
        apply_series(tree, series(tmp_path, diff), out)


def test_missing_number_is_suspected(tree: Path, out: Path, tmp_path: Path) -> None:
    """Where the patch before it is missing from the mailbox, that is said."""
    both = series(tmp_path, CHANGE.format("TWO"), AGAIN)
    with pytest.raises(UsageError, match="Number 1 of the series is missing"):
        apply_series(tree, both[1:], out)


def test_no_fuzz(tree: Path, out: Path, tmp_path: Path) -> None:
    """A hunk whose context differs is refused where patch(1) would guess; one that only moved is taken."""
    text = (tree / "mm/b.c").read_text()
    (tree / "mm/b.c").write_text(f"more\nmore\n{text}")
    apply_series(tree, series(tmp_path, MIDDLE), out)
    assert "good" in (out / "mm/b.c").read_text()
    (tree / "mm/b.c").write_text(text.replace("line 10\n", "line ten\n"))
    with pytest.raises(UsageError, match="does not apply"):
        apply_series(tree, series(tmp_path, MIDDLE), out)


def test_repository_around_the_copies_is_no_matter(tree: Path, tmp_path: Path) -> None:
    """What a repository around the cache is configured to refuse applies here all the same."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "config", "apply.whitespace", "error"], check=True)
    out = tmp_path / "deep/out"
    out.mkdir(parents=True)
    apply_series(tree, series(tmp_path, CHANGE.format("TWO ")), out)
    assert contents(out) == {"mm/a.c": "one\nTWO \nthree\n"}


@pytest.mark.parametrize("kind", ["link", "file", "directory"])
def test_path_through_something_else_is_refused(tree: Path, out: Path, tmp_path: Path, kind: str) -> None:
    """Nothing is written through a link of the tree, below a file, or over a directory."""
    if kind == "link":
        (tree / "elsewhere").symlink_to("/usr")
    elif kind == "file":
        (tree / "elsewhere").write_text("x")
    else:
        (tree / "elsewhere/x.c").mkdir(parents=True)
    diff = "diff --git a/elsewhere/x.c b/elsewhere/x.c\nnew file mode 100644\n"
    with pytest.raises(UsageError, match="nothing was applied"):
        apply_series(tree, series(tmp_path, diff), out)


@pytest.mark.parametrize(
    ("target", "refused"), [("../../etc/passwd", True), ("/etc/passwd", True), ("a.c", False)]
)
def test_link_out_of_the_tree_is_refused(
    tree: Path, out: Path, tmp_path: Path, target: str, refused: bool
) -> None:
    """A patch may make a link within the tree, and none out of it."""
    diff = (
        "diff --git a/mm/link b/mm/link\nnew file mode 120000\n--- /dev/null\n+++ b/mm/link\n"
        f"@@ -0,0 +1 @@\n+{target}\n\\ No newline at end of file\n"
    )
    if refused:
        with pytest.raises(UsageError, match="a link that leads out of the tree"):
            apply_series(tree, series(tmp_path, diff), out)
    else:
        apply_series(tree, series(tmp_path, diff), out)
        assert (out / "mm/link").is_symlink()
