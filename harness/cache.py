"""The per-user cache: what took long to fetch or build, kept by content, shared by every run.

    ROOT/<kind>/<key>/          an entry: appears whole by rename(2), never changes afterwards
    ROOT/work/<name>/           a directory updated in place (build trees, ccache), one user at a time
    ROOT/tmp/<random>/          an entry being made; its `.lock` is held while its maker lives
    ROOT/locks/<kind>/<key>.*   `.make`: one maker at a time; `.use`: shared by users, exclusive to prune

Locks are flock(2), so the kernel drops them however a process ends; lock files are never removed,
because removing one while another process waits on it lets two in.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from harness.errors import InfraError, UsageError

__all__ = ["Cache", "Entry", "Pruned", "Waiting", "default_root"]

Waiting = Callable[[str], None]
"""Called with one line when another process holds what we want."""

WORK = "work"
_RESERVED = frozenset({WORK, "tmp", "locks"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~=-]{0,199}")
_ABOUT = ".granule-entry.json"
_DAY_S = 86400.0


def default_root() -> Path:
    """`$GRANULE_CACHE`, else `granule` in the user's cache directory (XDG base directory specification)."""
    given = os.environ.get("GRANULE_CACHE")
    return Path(given).absolute() if given else user_cache_path("granule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in the cache, as `granule cache list` shows it."""

    kind: str
    """`kernels`, `packages`, `sources`, …, or `work` for a directory updated in place."""
    key: str
    path: Path
    label: str
    """What it is, in one line."""
    size_bytes: int
    """Disk space taken."""
    last_used: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What `Cache.prune` removed, and what it had to leave because a run uses it."""

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]


class Cache:
    """A cache directory. What this object has found or made stays on disk until it is closed.

    Arguments: `root`, created when absent (default: `default_root()`); `waiting`, told when another
    process is making what we want. Raises InfraError when `root` cannot be used.
    """

    def __init__(self, root: Path | None = None, *, waiting: Waiting | None = None) -> None:
        self.root = (root or default_root()).absolute()
        self._waiting = waiting or (lambda _what: None)
        self._leases: dict[Path, int] = {}
        self._guard = threading.Lock()
        with self._explained("open"):
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not os.access(self.root, os.R_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not readable", str(self.root))
        self._sweep()

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the entries in use; `prune` of any process may remove them from now on."""
        with self._guard:
            for fd in self._leases.values():
                os.close(fd)
            self._leases.clear()

    def entry(self, kind: str, key: str) -> Path:
        """Where that entry is, or would be; raises UsageError for names that could leave the cache."""
        _refuse_odd_name(kind)
        _refuse_odd_name(key)
        if kind in _RESERVED:
            raise UsageError(f"'{kind}' is the cache's own directory, not a kind of entry")
        return self.root / kind / key

    def find(self, kind: str, key: str) -> Path | None:
        """The entry's directory, held until this cache is closed, or None."""
        path = self.entry(kind, key)
        if not path.is_dir():
            return None
        self._lease(kind, key, path)
        if not path.is_dir():  # pruned between the two looks
            self._release(path)
            return None
        with contextlib.suppress(OSError):  # a read-only cache still serves
            os.utime(path / _ABOUT)
        return path

    def make(
        self,
        kind: str,
        key: str,
        build: Callable[[Path], None],
        *,
        describe: str = "",
        waiting: Waiting | None = None,
    ) -> Path:
        """The entry's directory, made by `build(empty directory)` unless it exists; held until close.

        Of two processes that want the same entry one builds and the other waits, saying so once.
        When `build` raises, nothing is published. Raises InfraError when the disk is full or the
        cache cannot be written.
        """
        found = self.find(kind, key)
        if found is not None:
            return found
        label = describe or f"{kind}/{key}"
        with self._explained(f"make {label} in"), self._locked(kind, key, ".make", label, waiting):
            found = self.find(kind, key)
            if found is not None:
                return found
            with self._temporary() as temporary:
                build(temporary)
                about = {"label": label, "created": time.time()}
                (temporary / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
                path = self.entry(kind, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lease(kind, key, path)
                temporary.rename(path)
        return path

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry that was found damaged, whoever uses it: files they have open stay readable."""
        path = self.entry(kind, key)
        with (
            self._explained(f"remove {kind}/{key} from"),
            self._locked(kind, key, ".make", f"{kind}/{key}", None),
            self._temporary() as temporary,
            contextlib.suppress(FileNotFoundError),
        ):
            path.rename(temporary / "removed")
        self._release(path)

    @contextlib.contextmanager
    def workdir(self, name: str, *, waiting: Waiting | None = None) -> Iterator[Path]:
        """A directory that outlives the run and is ours alone meanwhile; waits while another has it."""
        _refuse_odd_name(name)
        with (
            self._explained(f"use the working directory {name} of"),
            self._locked(WORK, name, ".make", name, waiting),
        ):
            path = self.shared_workdir(name)
            os.utime(self._lock_path(WORK, name, ".make"))
            yield path

    def shared_workdir(self, name: str) -> Path:
        """A working directory whose users do their own locking, such as ccache's."""
        _refuse_odd_name(name)
        path = self.root / WORK / name
        with self._explained(f"make the working directory {name} in"):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def list(self) -> tuple[Entry, ...]:
        """Every entry and working directory, by kind and then most recently used first."""
        entries = [
            self._describe(kind.name, path)
            for kind in _directories(self.root)
            if kind.name not in _RESERVED - {WORK}
            for path in _directories(kind)
        ]
        return tuple(sorted(entries, key=lambda entry: (entry.kind, -entry.last_used, entry.key)))

    def keys(self, kind: str) -> tuple[str, ...]:
        """The keys of one kind, most recently made first, without measuring them."""
        paths = _directories(self.root / kind)
        return tuple(path.name for path in sorted(paths, key=_created, reverse=True))

    def prune(self, *, older_than_days: float | None = None, kinds: Iterable[str] | None = None) -> Pruned:
        """Remove entries not used for that many days (None: all), of those kinds (None: all).

        An entry that any process has found, made or locked is left alone and listed as in use.
        """
        wanted = None if kinds is None else frozenset(kinds)
        newest = None if older_than_days is None else time.time() - older_than_days * _DAY_S
        removed: list[Entry] = []
        in_use: list[Entry] = []
        for entry in self.list():
            if wanted is not None and entry.kind not in wanted:
                continue
            if newest is not None and entry.last_used > newest:
                continue
            (removed if self._remove(entry) else in_use).append(entry)
        return Pruned(removed=tuple(removed), in_use=tuple(in_use))

    def trim(self, kind: str, *, keep: int) -> None:
        """Remove entries of that kind but for the `keep` used most recently; those in use stay besides."""
        paths = sorted(_directories(self.root / kind), key=lambda path: _mtime(path / _ABOUT), reverse=True)
        for path in paths[keep:]:
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                self._remove(self._describe(kind, path))

    def _remove(self, entry: Entry) -> bool:
        """Remove unless in use. Renamed first, so that a half-removed entry is never found."""
        with self._explained("prune"), contextlib.ExitStack() as stack:
            for suffix in (".make", ".use"):
                fd = os.open(self._lock_path(entry.kind, entry.key, suffix), os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, fd)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
            with self._temporary() as temporary:
                entry.path.rename(temporary / "removed")
        return True

    def _describe(self, kind: str, path: Path) -> Entry:
        about = _read_about(path)
        if kind == WORK:
            lock = self._lock_path(kind, path.name, ".make", create=False)
            used = lock if lock.exists() else path
        else:
            used = path / _ABOUT
        return Entry(
            kind=kind,
            key=path.name,
            path=path,
            label=str(about.get("label", path.name)),
            size_bytes=_size_bytes(path),
            last_used=_mtime(used),
        )

    def _lease(self, kind: str, key: str, path: Path) -> None:
        """Hold the shared lock that keeps `prune` off; a cache we may not write needs none."""
        with self._guard:
            if path in self._leases:
                return
            try:
                fd = os.open(self._lock_path(kind, key, ".use"), os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                    return
                raise
            fcntl.flock(fd, fcntl.LOCK_SH)
            self._leases[path] = fd

    def _release(self, path: Path) -> None:
        with self._guard:
            fd = self._leases.pop(path, None)
        if fd is not None:
            os.close(fd)

    def _lock_path(self, kind: str, key: str, suffix: str, *, create: bool = True) -> Path:
        path = self.root / "locks" / kind / f"{key}{suffix}"
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def _locked(
        self, kind: str, key: str, suffix: str, label: str, waiting: Waiting | None
    ) -> Iterator[None]:
        lock = FileLock(self._lock_path(kind, key, suffix))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            (waiting or self._waiting)(f"waiting for another granule, which is busy with {label}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A directory on the cache's file system, removed on the way out, or swept when we were killed."""
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / secrets.token_hex(8)
        lock = path.with_suffix(".lock")
        fd = _claim(lock)
        try:
            path.mkdir()
            yield path
        finally:
            _remove_tree(path)
            lock.unlink(missing_ok=True)
            os.close(fd)

    def _sweep(self) -> None:
        """Remove what makers left that are no longer alive: their locks are free."""
        parent = self.root / "tmp"
        with contextlib.suppress(OSError):
            for path in _directories(parent):
                if not path.with_suffix(".lock").exists():
                    _remove_tree(path)
            for lock in parent.glob("*.lock"):
                fd = os.open(lock, os.O_RDWR)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove_tree(lock.with_suffix(""))
                    lock.unlink(missing_ok=True)
                except BlockingIOError:
                    continue
                finally:
                    os.close(fd)

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn the errno of a full or unwritable disk into words."""
        try:
            yield
        except OSError as error:
            what = _MEANING.get(error.errno or 0)
            theirs = isinstance(error.filename, str) and not Path(error.filename).is_relative_to(self.root)
            if what is None or (theirs and error.errno not in (errno.ENOSPC, errno.EDQUOT)):
                raise
            raise InfraError(
                f"cannot {doing} the cache {self.root}: {what} ({error}). Free space with `granule cache "
                "prune`, or choose another directory with the environment variable GRANULE_CACHE."
            ) from error


_MEANING = {
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "its file system is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOTDIR: "part of the path is a file, not a directory",
    errno.EEXIST: "a file is in the way of a directory",
}


def _refuse_odd_name(name: str) -> None:
    """Keep names from leading out of the cache, from hiding in it, and from being too long for a file."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name[:80]}' cannot name anything in the cache")


def _claim(lock: Path) -> int:
    """Create and lock a file, again if a sweep removed it between the two steps."""
    while True:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if lock.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        os.close(fd)


def _directories(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_about(path: Path) -> dict[str, object]:
    try:
        about = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _created(path: Path) -> float:
    created = _read_about(path).get("created")
    return created if isinstance(created, float) else 0.0


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size_bytes(path: Path) -> int:
    total = 0
    for parent, _subdirectories, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - thrice as fast
    return total


def _remove_tree(path: Path) -> None:
    """Remove a tree, in which a package may have left directories without write permission."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        for parent, _subdirectories, _files in os.walk(path):
            Path(parent).chmod(0o700)
        shutil.rmtree(path)
