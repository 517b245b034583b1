"""A copy of a source tree in the cache, which holds a series' changes and is kept between builds.

kbuild rebuilds what is newer than its objects, so only files whose content changes are written again, with
the time of the change, and all others keep theirs: the next build compiles what the series changed.
A tree of the cache never changes and is hard-linked; a tree of the user's may, and is copied.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.longrun import Progress
from harness.kernels.trees.origin import MAX_TREE_FILES, SourceTree
from harness.kernels.trees.overlay import Overlay, apply_series
from harness.kernels.trees.patches import Patch, series_digest

__all__ = ["patched"]

_STATE = "state.json"
_PART = ".granule-part"
_SKIPPED = frozenset({".git"})
_TOLD_EVERY = 2000
_FICLONE = 0x40049409  # linux/fs.h, _IOW(0x94, 9, int)


@contextmanager
def patched(
    cache: Cache, tree: SourceTree, series: Sequence[Patch], *, progress: Progress, copy: bool = False
) -> Iterator[SourceTree]:
    """`tree` with the series applied, in a copy that is ours alone until the block is left.

    `copy`: have the copy without any patch too, as what the patches are compared with. Raises UsageError
    where a patch does not apply; the copy is then as it was, and `tree` always is.
    """
    if not series and not copy:
        yield tree
        return
    place = f"patched-{tree.place}"
    with (
        cache.workdir(place, waiting=lambda what: progress(0, None, what)) as directory,
        tempfile.TemporaryDirectory(prefix="granule-series-") as made,
    ):
        words = f"{len(series)} patch{'es' if len(series) > 1 else ''}"
        progress(0, None, f"applying {words}" if series else "preparing the tree")
        overlay = apply_series(tree.path, series, Path(made))
        generation = _synced(tree, overlay, directory, cache.root, progress)
        patched_tree = replace(tree, path=directory / "tree", place=place, generation=generation)
        if series:
            digest = series_digest(series)
            patched_tree = replace(
                patched_tree,
                id=f"{tree.id}+{digest[:16]}",
                origin=f"{tree.origin} with {words} ({digest[:12]})",
                series=tuple(series),
            )
        yield patched_tree


def _synced(tree: SourceTree, overlay: Overlay, directory: Path, avoided: Path, progress: Progress) -> str:
    """Make `directory`/tree hold the tree under the overlay; returns what names this life of the copy."""
    state = directory / _STATE
    generation = _generation(state)
    first = generation is None
    if generation is None:
        # Files keep their old times in a first copy. Objects of an earlier one could then look up to date:
        # the new name has builds start afresh.
        generation = secrets.token_hex(8)
        state.unlink(missing_ok=True)
    copier = _Copier(tree.path, directory / "tree", overlay, linked=tree.is_fixed, first=first)
    try:
        copier.run(avoided, progress)
    except FileNotFoundError as error:
        if not Path(str(error.filename)).is_relative_to(tree.path):
            raise
        raise UsageError(
            f"{tree.path} changes while it is copied: {error.filename} has gone. Run again."
        ) from None
    if first:
        part = state.with_suffix(".part")
        part.write_text(json.dumps({"generation": generation}), encoding="utf-8")
        part.replace(state)
    return generation


def _generation(state: Path) -> str | None:
    """None where no first copy was finished."""
    try:
        return str(json.loads(state.read_text(encoding="utf-8"))["generation"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class _Copier:
    source: Path
    target: Path
    overlay: Overlay
    linked: bool
    first: bool

    def run(self, avoided: Path, progress: Progress) -> None:
        """Write what differs, remove what is too much. `avoided`: the cache, which may lie in the tree."""
        self.target.mkdir(parents=True, exist_ok=True)
        wanted: set[str] = set()
        prefixes = f"{self.source}/", f"{self.target}/"
        for done, path in enumerate(_files_of(self.source, avoided)):
            if done % _TOLD_EVERY == 0:
                progress(done, None, "copying the tree" if self.first else "comparing the tree with its copy")
            if path not in self.overlay.files:
                wanted.add(path)
                self._put_pristine(path, *prefixes)
        for path in self.overlay.files:
            if os.path.lexists(self.overlay.directory / path):
                wanted.add(path)
                self._put(self.overlay.directory / path, self.target / path)
        for path in list(_files_of(self.target)):
            if path not in wanted:
                (self.target / path).unlink()

    def _put_pristine(self, path: str, source_prefix: str, target_prefix: str) -> None:
        # Paths as text: this is asked of 87,000 files each time, and Path would take twice as long.
        given, had = os.lstat(source_prefix + path), _lstat(target_prefix + path)
        if had is not None and _looks_same(given, had):
            return
        source, target = self.source / path, self.target / path
        if had is None and self.first and stat.S_ISREG(given.st_mode):
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.linked and _linked(source, target):
                return
            _copy(source, target, given)
            os.utime(target, ns=(given.st_atime_ns, given.st_mtime_ns))
        else:
            self._put(source, target)

    def _put(self, source: Path, target: Path) -> None:
        """A file or link of that content, written anew only where it differs; its time is then now."""
        given, had = source.lstat(), _lstat(target)
        if had is not None and _same_content(source, given, target, had):
            return
        if had is not None and stat.S_ISDIR(had.st_mode):
            shutil.rmtree(target)
        self._make_parents(target)
        part = target.with_name(f"{target.name[:200]}{_PART}")
        part.unlink(missing_ok=True)
        if stat.S_ISLNK(given.st_mode):
            part.symlink_to(_link_text(source))
        else:
            _copy(source, part, given)
        part.replace(target)

    def _make_parents(self, target: Path) -> None:
        for parent in reversed(target.relative_to(self.target).parents):
            found = self.target / parent
            if found.is_symlink() or found.is_file():
                found.unlink()  # was a file in the tree before
        target.parent.mkdir(parents=True, exist_ok=True)


def _files_of(root: Path, avoided: Path | None = None) -> Iterator[str]:
    """Files and links under a directory, as paths from it, but for the repository's own.

    Raises UsageError where a directory cannot be read, or there are more files than any kernel has.
    """
    pending = [""]
    count = 0
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            raise UsageError(f"cannot read the tree {root / folder}: {error.strerror}") from error
        for entry in entries:
            path = f"{folder}{entry.name}"
            if path in _SKIPPED or entry.path == str(avoided):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{path}/")
            elif entry.is_symlink() or entry.is_file():
                count += 1
                if count > MAX_TREE_FILES:
                    raise UsageError(f"{root} holds over {MAX_TREE_FILES} files; no kernel tree does")
                yield path


def _lstat(path: str | Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _looks_same(given: os.stat_result, had: os.stat_result) -> bool:
    """One inode, or a copy with its original's time: what was written later has a time of its own."""
    if (given.st_ino, given.st_dev) == (had.st_ino, had.st_dev):
        return True
    return stat.S_ISREG(given.st_mode) and (given.st_mode, given.st_size, given.st_mtime_ns) == (
        had.st_mode,
        had.st_size,
        had.st_mtime_ns,
    )


def _same_content(source: Path, given: os.stat_result, target: Path, had: os.stat_result) -> bool:
    if stat.S_IFMT(given.st_mode) != stat.S_IFMT(had.st_mode):
        return False
    if stat.S_ISLNK(given.st_mode):
        return _link_text(source) == _link_text(target)
    if (given.st_mode & stat.S_IXUSR) != (had.st_mode & stat.S_IXUSR):
        return False
    return filecmp.cmp(source, target, shallow=False)


def _link_text(path: Path) -> str:
    """As it is written: Path.readlink tidies it."""
    return os.readlink(path)  # noqa: PTH115


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        return False
    return True


def _copy(source: Path, target: Path, given: os.stat_result) -> None:
    """The content, sharing blocks where the file system can, and the permissions; the time is now."""
    try:
        with source.open("rb") as original, target.open("wb") as copy:
            try:
                fcntl.ioctl(copy.fileno(), _FICLONE, original.fileno())
            except OSError:
                shutil.copyfileobj(original, copy, 1 << 20)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.unlink()
        if error.filename == str(source):
            raise UsageError(f"cannot read {source}: {error.strerror}") from error
        raise
    target.chmod(0o755 if given.st_mode & stat.S_IXUSR else 0o644)
