"""The cache, against races, death, full disks and pruning."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import harness
from harness.cache import Cache, default_root
from harness.errors import InfraError, UsageError

Child = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def child(root: Path) -> Iterator[Child]:
    """Starts cache_maker.py on the same cache; killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(what: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cache_maker.py")), str(root), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(harness.__file__).parents[1])},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def write(text: str) -> Callable[[Path], None]:
    def build(directory: Path) -> None:
        (directory / "made-by").write_text(text)

    return build


def never(_directory: Path) -> None:
    raise AssertionError("built again")


def temporaries(root: Path) -> list[Path]:
    return list((root / "tmp").iterdir())


def test_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """GRANULE_CACHE outranks the user's cache directory."""
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
    monkeypatch.delenv("GRANULE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "granule"


def test_made_once_and_found_again(root: Path) -> None:
    """A second make of a key does not build, and find returns the same directory."""
    with Cache(root) as cache:
        assert cache.find("things", "one") is None
        path = cache.make("things", "one", write("us"))
        assert (path / "made-by").read_text() == "us"
        assert cache.make("things", "one", never) == path
        assert cache.find("things", "one") == path
    assert temporaries(root) == []


def test_failed_build_publishes_nothing(root: Path) -> None:
    """An exception in build leaves neither entry nor temporary, and the next make builds."""

    def fails(directory: Path) -> None:
        (directory / "half").write_text("")
        raise KeyboardInterrupt

    with Cache(root) as cache:
        with pytest.raises(KeyboardInterrupt):
            cache.make("things", "one", fails)
        assert cache.find("things", "one") is None
        assert temporaries(root) == []
        cache.make("things", "one", write("us"))


def test_entry_is_invisible_until_whole(root: Path) -> None:
    """While it is being built, an entry cannot be found."""
    seen: list[Path | None] = []
    with Cache(root) as cache:

        def build(_directory: Path) -> None:
            seen.append(Cache(root).find("things", "one"))

        cache.make("things", "one", build)
    assert seen == [None]


def test_two_processes_build_once_and_the_second_says_it_waits(root: Path, child: Child) -> None:
    """The process that comes second tells of waiting, then gets what the first built."""
    first = child("make")
    assert line_of(first) == "building"
    second = child("make")
    assert "waiting for another granule" in line_of(second)
    go(first)
    path = line_of(first)
    assert line_of(second) == path
    assert (Path(path) / "made-by").read_text() == "child"


def test_threads_of_one_process_build_once(root: Path) -> None:
    """Locks hold between threads that share a Cache, as the cells of a matrix do."""
    built: list[int] = []
    inside = threading.Barrier(4)

    def build(directory: Path) -> None:
        built.append(threading.get_ident())
        (directory / "made-by").write_text("")

    with Cache(root) as cache:

        def run() -> None:
            inside.wait()
            cache.make("things", "one", build)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(built) == 1


def test_killed_maker_leaves_nothing(root: Path, child: Child) -> None:
    """After SIGKILL in mid-build the entry is absent, its lock is free, and the next user sweeps."""
    process = child("make")
    assert line_of(process) == "building"
    assert len(temporaries(root)) == 2
    process.kill()
    process.wait()
    with Cache(root) as cache:
        assert temporaries(root) == []
        assert cache.find("things", "one") is None
        cache.make("things", "one", write("us"))


def test_sweep_spares_the_living(root: Path, child: Child) -> None:
    """Opening the cache does not disturb a build that is under way."""
    process = child("make")
    assert line_of(process) == "building"
    Cache(root).close()
    assert len(temporaries(root)) == 2
    go(process)
    assert (Path(line_of(process)) / "made-by").read_text() == "child"


def test_prune_spares_what_another_process_uses(root: Path, child: Child) -> None:
    """An entry that a process has found is listed as in use; once the process is gone it is removed."""
    process = child("hold")
    assert line_of(process) == "building"
    go(process)
    path = Path(line_of(process))
    with Cache(root) as cache:
        spared = cache.prune()
        assert [entry.key for entry in spared.in_use] == ["one"]
        assert spared.removed == ()
        assert path.is_dir()
        process.kill()
        process.wait()
        assert [entry.key for entry in cache.prune().removed] == ["one"]
        assert not path.exists()
    assert temporaries(root) == []


def test_close_gives_entries_up(root: Path) -> None:
    """What a Cache found is in use until it is closed, and no longer."""
    cache = Cache(root)
    path = cache.make("things", "one", write("us"))
    with Cache(root) as other:
        assert other.prune().removed == ()
        cache.close()
        assert [entry.path for entry in other.prune().removed] == [path]


def test_prune_by_age_and_kind(root: Path) -> None:
    """Only entries older than asked, and of the kinds asked, are removed; finding one makes it young."""
    with Cache(root) as cache:
        for kind, key in (("a", "old"), ("a", "used"), ("b", "old"), ("a", "new")):
            path = cache.make(kind, key, write(""))
            if key != "new":
                long_ago = time.time() - 10 * 86400
                os.utime(path / ".granule-entry.json", (long_ago, long_ago))
        assert cache.find("a", "used") is not None
    with Cache(root) as cache:
        assert cache.find("a", "used") is not None
        cache.close()
        removed = cache.prune(older_than_days=5, kinds=["a"]).removed
        assert [(entry.kind, entry.key) for entry in removed] == [("a", "old")]
        left = {(entry.kind, entry.key) for entry in cache.list()}
    assert left == {("a", "used"), ("b", "old"), ("a", "new")}


def test_list_tells_kind_label_and_size(root: Path) -> None:
    """The list has a row for each entry and working directory, with the space each takes."""
    with Cache(root) as cache:
        cache.make("things", "one", write("x" * 100_000), describe="A thing")
        with cache.workdir("tree") as tree:
            (tree / "y").write_bytes(b"y" * 50_000)
        thing, work = cache.list()
    assert (thing.kind, thing.key, thing.label) == ("things", "one", "A thing")
    assert 100_000 <= thing.size_bytes < 200_000
    assert (work.kind, work.key) == ("work", "tree")
    assert time.time() - work.last_used < 60


def test_keys_are_newest_first(root: Path) -> None:
    """keys() orders by when entries were made, whatever their names."""
    with Cache(root) as cache:
        for key in ("b", "c", "a"):
            cache.make("things", key, write(""))
        assert cache.keys("things") == ("a", "c", "b")
        assert cache.keys("others") == ()


def test_working_directory_has_one_user(root: Path, child: Child) -> None:
    """A second process says that it waits for a working directory, and prune leaves it alone meanwhile."""
    process = child("work")
    assert line_of(process) == "building"
    with Cache(root) as cache:
        assert [entry.key for entry in cache.prune(kinds=["work"]).in_use] == ["tree"]
    second = child("work")
    assert "waiting for another granule" in line_of(second)
    go(process)
    assert line_of(second) == "building"


def test_working_directory_is_kept(root: Path) -> None:
    """What was written in a working directory is there for the next user, even after an error."""

    def stumble(cache: Cache) -> None:
        with cache.workdir("tree") as tree:
            (tree / "object.o").write_text("")
            raise ZeroDivisionError

    with Cache(root) as cache:
        with pytest.raises(ZeroDivisionError):
            stumble(cache)
        with cache.workdir("tree") as tree:
            assert (tree / "object.o").exists()


def test_full_disk_is_explained(root: Path) -> None:
    """ENOSPC in a build becomes one paragraph that names the cache and the way out; nothing is left."""

    def fills(directory: Path) -> None:
        (directory / "half").write_text("")
        with Path("/dev/full").open("w") as full:  # the kernel's own ENOSPC
            full.write("x" * 100_000)

    with Cache(root) as cache, pytest.raises(InfraError, match="disk is full") as caught:
        cache.make("things", "one", fills)
    assert str(root) in str(caught.value)
    assert "granule cache prune" in str(caught.value)
    assert temporaries(root) == []


def test_read_only_disk_is_explained(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that became read-only still serves what it has, and says so when asked to make."""
    with Cache(root) as cache:
        path = cache.make("things", "one", write("us"))

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(root / "x"))

    cache = Cache(root)
    for name in ("os.open", "os.utime"):
        monkeypatch.setattr(name, refuse)
    assert cache.find("things", "one") == path
    with pytest.raises(InfraError, match="read-only"):
        cache.make("things", "two", never)


@pytest.mark.parametrize("place", ["/sys/granule-test", "{tmp}/file/cache"])
def test_unusable_place_is_explained(place: str, tmp_path: Path) -> None:
    """A root that cannot be made is an InfraError, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="GRANULE_CACHE"):
        Cache(Path(place.format(tmp=tmp_path)))


def test_anothers_permission_error_is_not_ours(root: Path, tmp_path: Path) -> None:
    """An error about a file outside the cache is not blamed on the cache."""

    def build(_directory: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "tree"))

    with Cache(root) as cache, pytest.raises(PermissionError):
        cache.make("things", "one", build)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\nb", "x" * 300])
def test_names_stay_in_the_cache(root: Path, name: str) -> None:
    """A key that could lead out of the cache, or hide in it, is refused."""
    with Cache(root) as cache:
        with pytest.raises(UsageError):
            cache.entry("things", name)
        with pytest.raises(UsageError), cache.workdir(name):
            pass


@pytest.mark.parametrize("kind", ["work", "tmp", "locks"])
def test_kinds_do_not_collide_with_the_caches_own(root: Path, kind: str) -> None:
    """The cache's own directories are no kinds of entry."""
    with Cache(root) as cache, pytest.raises(UsageError):
        cache.entry(kind, "x")


def test_a_damaged_entry_is_discarded_under_its_users(tmp_path: Path) -> None:
    """discard() removes an entry at once, even one in use; a file of it that is open stays readable."""
    with Cache(tmp_path) as cache, Cache(tmp_path) as other:
        path = cache.make("kind", "key", write("old"))
        assert other.find("kind", "key") == path
        with (path / "made-by").open() as file:
            cache.discard("kind", "key")
            assert file.read() == "old"
        assert other.find("kind", "key") is None
        cache.discard("kind", "key")
        cache.make("kind", "key", write("new"))
        assert (path / "made-by").read_text() == "new"
