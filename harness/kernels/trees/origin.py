"""What a kernel can be built from: a source directory, a tarball of one, or a commit of a git repository.

The last two are unpacked into the cache, once, under what names their content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.copied import shown
from harness.kernels.kbuild.build import check_tree
from harness.kernels.longrun import Progress
from harness.kernels.record import sha256_of
from harness.kernels.trees.git import archived, commit_of, top_of
from harness.kernels.trees.patches import Patch
from harness.kernels.trees.tarball import MAX_TREE_FILES, opened_tarball, unpack_tar

__all__ = ["MAX_TREE_FILES", "SOURCES", "SourceTree", "find_tree"]

SOURCES = "sources"
"""The cache's kind of entry for source trees."""

_ARCHIVE = re.compile(r"\.(?:tar(?:\.\w+)?|tgz|txz)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """A kernel tree to build from."""

    path: Path
    id: str
    """What it holds, where that is fixed: package and version, commit, hash of the tarball; and patches."""
    place: str
    """Names its build directories, the same with other patches: package and version, a hash of the path."""
    label: str
    """Begins the names of its kernels: `linux-6.12`."""
    origin: str
    """One line for people."""
    is_fixed: bool
    """True where it never changes, so that a build of it need not be tried again."""
    series: tuple[Patch, ...] = ()
    """What has been applied to it here."""
    generation: str = ""
    """Of a copy in the cache: a build directory that was used with another has to start afresh."""


def find_tree(cache: Cache, text: str, *, progress: Progress) -> SourceTree:
    """The tree that a user means: DIR, a tarball, DIR@REF, or REF of the current directory's repository.

    What exists as a file or directory is that, whatever refs there are. Raises UsageError where it is none of
    them, or no kernel source with arm64.
    """
    path = Path(text).expanduser() if text.startswith(("~/", "/")) else Path(text)
    if text and _is(path.is_dir):
        return _directory(path.resolve())
    if _is(path.is_file):
        return _tarball(cache, path, progress)
    before, at, ref = text.partition("@")
    if at and before and ref and _is(Path(before).expanduser().is_dir):
        return _commit(cache, Path(before).expanduser().resolve(), ref, progress)
    if not text or _is(path.exists) or _ARCHIVE.search(text) or text.startswith(("/", "./", "../", "~")):
        raise UsageError(f"--tree {shown(text)}: there is no such directory or tarball")
    here = top_of(Path.cwd())
    if here is None:
        raise UsageError(
            f"--tree {shown(text)} is neither a directory nor a tarball, and the current directory is not in "
            "a git repository that it could be a ref of. Wanted DIR, TARBALL, REPOSITORY@REF, or REF."
        )
    return _commit(cache, here, text, progress)


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # too long for a name, say
        return False


def _directory(path: Path) -> SourceTree:
    check_tree(path)
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    name = f"tree-{digest}"
    return SourceTree(
        path=path, id=name, place=name, label=_label(path.name), origin=shown(path), is_fixed=False
    )


def _tarball(cache: Cache, path: Path, progress: Progress) -> SourceTree:
    progress(0, None, f"reading {path.name}")
    digest = _sha256(path)

    def build(directory: Path) -> None:
        with opened_tarball(path) as stream:
            unpack_tar(stream, directory / "unpacked", where=shown(path.name), progress=progress)
        if _sha256(path) != digest:
            raise UsageError(
                f"{shown(path)} changed while it was unpacked. Run again when it has been written."
            )
        _settle(directory, shown(path))

    entry = cache.make(SOURCES, f"tar-{digest[:32]}", build, describe=f"source from {shown(path.name)}")
    return SourceTree(
        path=entry / "tree",
        id=entry.name,
        place=entry.name,
        label=_label(_ARCHIVE.sub("", path.name)),
        origin=f"{shown(path.name)}, sha256 {digest[:16]}",
        is_fixed=True,
    )


def _commit(cache: Cache, repository: Path, ref: str, progress: Progress) -> SourceTree:
    repository = top_of(repository) or repository
    commit = commit_of(repository, ref)

    def build(directory: Path) -> None:
        progress(0, None, f"checking out {ref[:60]}")
        with archived(repository, commit) as stream:
            unpack_tar(stream, directory / "unpacked", where=f"commit {commit[:12]}", progress=progress)
        _settle(directory, f"commit {commit[:12]} of {shown(repository)}")

    entry = cache.make(SOURCES, f"git-{commit}", build, describe=f"source of commit {commit[:12]}")
    return SourceTree(
        path=entry / "tree",
        id=entry.name,
        place=entry.name,
        label=f"{_label(repository.name)[:20]}-{commit[:12]}",
        origin=f"{shown(repository)} at {shown(ref[:60])} (commit {commit[:12]})",
        is_fixed=True,
    )


def _settle(directory: Path, where: str) -> None:
    """Make `unpacked`, or the one directory in it, the entry's `tree`; raises UsageError unless it is one."""
    top = directory / "unpacked"
    found = list(top.iterdir())
    if len(found) == 1 and found[0].is_dir() and not found[0].is_symlink():
        top = found[0]
    check_tree(top, name=where)
    top.rename(directory / "tree")
    if (directory / "unpacked").exists():
        (directory / "unpacked").rmdir()


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UsageError(f"cannot read the tarball {shown(path)}: {error.strerror}") from error


def _label(name: str) -> str:
    """Part of a kernel's name: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:40] or "linux"
