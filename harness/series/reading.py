"""A series as it is given: a mailbox, a directory of patches, or a range of commits; and whether it is whole.

Nothing here writes to a repository: a range is read with git's plumbing, which takes no notice of how
somebody has his diffs shown (git-diff-tree(1), git-rev-list(1)).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import InfraError, UsageError
from harness.kernels.trees.diff import touched_files
from harness.kernels.trees.git import commit_of, git, said, top_of
from harness.kernels.trees.patches import MAX_PATCHES, MAX_SERIES_BYTES, Patch, read_series

__all__ = ["Given", "check_whole", "read_given"]

_DIFF: Final = (
    "-p", "--root", "--no-commit-id", "--full-index", "--binary", "--no-renames", "--no-ext-diff",
    "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A series, and what it says of where it belongs."""

    patches: tuple[Patch, ...]
    name: str
    """For people: the file's name, or the range with its last commit."""
    base: str = ""
    """What it applies to, as --base takes it: the start of a range; empty where nobody says."""


def read_given(text: str, stdin: bytes | None = None) -> Given:
    """MBOX, DIR, `A..B` of the repository that we are in, REPOSITORY@A..B, or `-` for a mailbox on stdin.

    Raises UsageError for what is none of these, and as read_series does.
    """
    if text == "-":
        return _from_stdin(stdin or b"")
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    try:
        there = path.exists()
    except OSError:  # too long for a name
        there = False
    if there:
        patches = read_series(path)
        check_whole(patches, path.name)
        return Given(patches=patches, name=path.name)
    before, at, rest = text.rpartition("@")
    if ".." not in (rest if at else text):
        raise UsageError(
            f"{text[:200]} is neither a mailbox nor a directory of patches, nor a range of commits such as "
            "v6.12..HEAD or ~/linux@v6.12..topic"
        )
    repository = Path(before).expanduser() if at else Path.cwd()
    return _from_range(repository, rest if at else text)


def check_whole(patches: Sequence[Patch], name: str) -> None:
    """Raise UsageError for a series that says it has N patches where one of them is missing, or comes
    twice.
    """
    numbered = [patch for patch in patches if patch.number is not None and patch.total is not None]
    for total in dict.fromkeys(patch.total for patch in numbered if patch.total is not None):
        have = [patch.number for patch in numbered if patch.total == total]
        twice = sorted({number for number in have if have.count(number) > 1 and number is not None})
        if twice:
            raise UsageError(
                f"{name}: number {twice[0]} of {total} is there twice; is it two versions of a series?"
            )
        missing = [number for number in range(1, total + 1) if number not in have]
        if missing and len(have) > 1:
            shown = ", ".join(map(str, missing[:8]))
            raise UsageError(f"{name}: of {total} patches {len(missing)} are missing: number {shown}")
    order = [patch.number for patch in numbered]
    if len({patch.total for patch in numbered}) == 1 and order != sorted(
        order, key=lambda number: number or 0
    ):
        raise UsageError(f"{name}: the patches are out of order: {', '.join(map(str, order[:12]))}")


def _from_stdin(data: bytes) -> Given:
    if len(data) > MAX_SERIES_BYTES:
        raise UsageError(f"over {MAX_SERIES_BYTES >> 20} MiB of patches on stdin; no series is that long")
    with tempfile.TemporaryDirectory(prefix="granule-stdin-") as directory:
        path = Path(directory) / "stdin"
        path.write_bytes(data)
        patches = read_series(path)
    check_whole(patches, "stdin")
    return Given(patches=patches, name="stdin")


def _from_range(directory: Path, text: str) -> Given:
    if "..." in text:
        raise UsageError(f"{text[:200]}: wanted two dots: with three a range is both sides of a fork")
    start, _dots, end = text.partition("..")
    top = top_of(directory)
    if top is None:
        raise UsageError(f"{directory} is in no git repository that {text[:200]} could be a range of")
    first, last = commit_of(top, start or "HEAD"), commit_of(top, end or "HEAD")
    listed = git("rev-list", "--reverse", "--topo-order", "--parents", f"{first}..{last}", cwd=top)
    if listed.returncode != 0:
        raise UsageError(f"git cannot list {text[:200]}: {said(listed.stderr)}")
    commits = [line.split() for line in listed.stdout.decode("ascii", "replace").splitlines()]
    if not commits:
        raise UsageError(f"{text[:200]} holds no commit: is it the wrong way round?")
    if len(commits) > MAX_PATCHES:
        raise UsageError(
            f"{text[:200]} holds {len(commits)} commits, over {MAX_PATCHES}; no series is that long"
        )
    merges = [words[0][:12] for words in commits if len(words) > 2]
    if merges:
        raise UsageError(
            f"{text[:200]} holds merges ({', '.join(merges[:3])}), which are no patches: rebase it to a line"
        )
    patches = tuple(_patch(top, words[0]) for words in commits)
    return Given(patches=patches, name=f"{text} ({last[:12]})", base=f"{top}@{first}")


def _patch(top: Path, commit: str) -> Patch:
    about = git("show", "-s", "--no-show-signature", "--format=%s%x00%an <%ae>%x00%b", commit, cwd=top)
    diff = git("diff-tree", *_DIFF, commit, cwd=top)
    if about.returncode != 0 or diff.returncode != 0:
        raise InfraError(f"git cannot show {commit[:12]}: {said(about.stderr + diff.stderr)}")
    subject, author, body = about.stdout.decode("utf-8", "replace").split("\0", 2)
    where = f"the commit {commit[:12]}"
    return Patch(
        name=commit[:12],
        subject=subject.strip() or commit[:12],
        author=author,
        body=body.strip(),
        diff=diff.stdout,
        files=touched_files(diff.stdout.decode("utf-8", "surrogateescape"), where=where),
    )
