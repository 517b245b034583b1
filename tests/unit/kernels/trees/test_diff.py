"""What a diff touches, without applying it."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.kernels.trees.diff import parts_of, touched_files

HUNK = "@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n"


def test_both_sides_are_named_once() -> None:
    """A change names its file once, a rename both names, a new or deleted file the one it has."""
    text = (
        f"diff --git a/mm/a.c b/mm/a.c\n--- a/mm/a.c\n+++ b/mm/a.c\n{HUNK}"
        "diff --git a/old.c b/new.c\nsimilarity index 100%\nrename from old.c\nrename to new.c\n"
        "diff --git a/born.c b/born.c\nnew file mode 100644\n--- /dev/null\n+++ b/born.c\n@@ -0,0 +1 @@\n+x\n"
        "diff --git a/dead.c b/dead.c\ndeleted file mode 100644\n--- a/dead.c\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-x\n"
    )
    assert touched_files(text, where="p") == ("mm/a.c", "old.c", "new.c", "born.c", "dead.c")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755", "run.sh"),
        ("diff --git a/with space b/with space\nnew file mode 100644", "with space"),
        ('diff --git "a/\\303\\244.c" "b/\\303\\244.c"\nnew file mode 100644', "ä.c"),
        ("--- a/x.c\t2026-01-01 00:00:00\n+++ b/x.c\t2026-01-01\n@@ -1 +1 @@\n-a\n+b", "x.c"),
    ],
)
def test_names_are_read_as_git_writes_them(line: str, path: str) -> None:
    """Changes of mode, empty files, blanks, quoted names and the dates of diff -u."""
    assert touched_files(line, where="p") == (path,)


def test_lines_of_a_hunk_are_no_headers() -> None:
    """Removed lines that look like a header, form feeds and missing last newlines stay in the hunk."""
    text = (
        "--- a/x.c\n+++ b/x.c\n@@ -1,4 +1,2 @@\n--- a/fake.c\n-+++ b/fake.c\n \x0ca\n+y\n-z\n"
        "\\ No newline at end of file\n-- \n2.39\n"
    )
    assert touched_files(text, where="p") == ("x.c",)


def test_prose_is_no_diff() -> None:
    """A cover letter with a diffstat touches nothing."""
    assert touched_files("Hello\n---\n mm/a.c | 2 +-\n 1 file changed\n\n--- not a header\n", where="p") == ()


@pytest.mark.parametrize(
    "tail", ["@@ -1,3 +1,2 @@\n one\n-two\n", "@@ -1,2 +1,2 @@\n one\n@@ -9 +9 @@\n-a\n+b\n"]
)
def test_cut_hunk_is_told(tail: str) -> None:
    """A hunk with fewer lines than it announces, at the end or before the next, is refused."""
    with pytest.raises(UsageError, match="the patch p is damaged or cut short: the hunk '@@ -1,"):
        touched_files(f"--- a/x.c\n+++ b/x.c\n{tail}", where="the patch p")


@pytest.mark.parametrize(
    "name",
    ["a/../../etc/passwd", "/etc/passwd", "a/mm/../../x", "a//etc/passwd", "a/.git/hooks/x", "a/", "a/./x"],
)
@pytest.mark.parametrize(
    "form", ["--- {0}\n+++ b/x\n@@ -1 +1 @@\n-a\n+b", "--- a/x\n+++ {0}\n@@ -1 +1 @@\n-a\n+b"]
)
def test_path_out_of_the_tree_is_refused(name: str, form: str) -> None:
    """Neither side of a diff may leave the tree or enter a repository."""
    with pytest.raises(UsageError, match="not a path inside a source tree"):
        touched_files(form.format(name), where="p")


def test_rename_out_of_the_tree_is_refused() -> None:
    """A rename's names have no first component to strip, and are held to the same."""
    with pytest.raises(UsageError, match="not a path inside"):
        touched_files("diff --git a/x b/y\nrename from x\nrename to ../y\n", where="p")


def test_submodule_is_refused() -> None:
    """A change of a submodule cannot be applied to files."""
    with pytest.raises(UsageError, match="submodule"):
        touched_files("diff --git a/x b/x\nnew file mode 160000\n", where="p")


def test_parts() -> None:
    """A diff comes apart by files, whatever its hunks look like; what stands before it is left out."""
    git = f"diff --git a/mm/a.c b/mm/a.c\nindex 1..2 100644\n--- a/mm/a.c\n+++ b/mm/a.c\n{HUNK}"
    moved = "diff --git a/old.c b/new.c\nsimilarity index 100%\nrename from old.c\nrename to new.c\n"
    plain = "--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n--- a/no.c\n+++ b/no.c\n one\n"
    parts = parts_of(f"a message\n---\n x | 2 +-\n\n{plain}{git}{moved}", where="p")
    assert [part.files for part in parts] == [("x.c",), ("mm/a.c",), ("old.c", "new.c")]
    assert [part.text for part in parts] == [plain, git, moved]


def test_parts_of_no_diff() -> None:
    """A text without a diff has no parts, and one that is cut short is refused."""
    assert parts_of("only words\n", where="p") == ()
    with pytest.raises(UsageError, match="cut short"):
        parts_of("--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n one\n", where="p")
