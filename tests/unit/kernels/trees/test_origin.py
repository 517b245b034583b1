"""What --tree may be: a directory, a tarball, a commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.longrun import quiet
from harness.kernels.trees import origin
from harness.kernels.trees.origin import SourceTree, find_tree


def make_tree(path: Path) -> Path:
    (path / "arch/arm64").mkdir(parents=True)
    (path / "arch/arm64/Makefile").write_text("# arm64\n")
    (path / "Kconfig").touch()
    return path


def git(repository: Path, *arguments: str) -> str:
    names = ("-c", "user.name=A", "-c", "user.email=a@b")
    ran = subprocess.run(
        ["git", *names, *arguments], cwd=repository, check=True, capture_output=True, text=True
    )
    return ran.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A kernel's repository: a tag, a later commit, and something not committed."""
    path = make_tree(tmp_path / "linux")
    git(path, "init", "-q", "-b", "main")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    git(path, "tag", "-am", "the first", "v1")
    (path / "later.c").write_text("x\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "second")
    (path / "Kconfig").write_text("being edited\n")
    return path


def find(cache: Cache, text: str) -> SourceTree:
    return find_tree(cache, text, progress=quiet)


def tarball_of(tree: Path, path: Path) -> Path:
    subprocess.run(["tar", "-caf", str(path), "-C", str(tree.parent), tree.name], check=True)
    return path


def test_directory_is_built_where_it_lies(cache: Cache, tmp_path: Path) -> None:
    """A directory is not copied, and may change: it is not fixed."""
    tree = make_tree(tmp_path / "my linux-6.1").rename(tmp_path / "linux-6.1")
    found = find(cache, str(tree))
    assert (found.path, found.is_fixed, found.label) == (tree, False, "linux-6.1")
    assert cache.keys("sources") == ()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz", ".tar.zst"])
def test_tarball_is_unpacked_once(cache: Cache, tmp_path: Path, suffix: str) -> None:
    """Its one directory becomes a fixed tree under the hash of the file, which a copy elsewhere shares."""
    path = tarball_of(make_tree(tmp_path / "linux-6.12"), tmp_path / f"linux-6.12{suffix}")
    found = find(cache, str(path))
    assert (found.path / "arch/arm64/Makefile").read_text() == "# arm64\n"
    assert (found.is_fixed, found.label) == (True, "linux-6.12")
    assert find(cache, str(path.rename(tmp_path / "other.bin"))).path == found.path
    assert len(cache.keys("sources")) == 1


def test_tarball_may_have_no_top_directory(cache: Cache, tmp_path: Path) -> None:
    """What `git archive` makes without a prefix."""
    make_tree(tmp_path / "x")
    path = tmp_path / "flat.tar"
    subprocess.run(["tar", "-cf", str(path), "-C", str(tmp_path / "x"), "."], check=True)
    assert (find(cache, str(path)).path / "Kconfig").is_file()


def test_tarball_that_changes_is_not_kept(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is still being written is not published under a hash that is not its own."""
    path = tarball_of(make_tree(tmp_path / "linux"), tmp_path / "linux.tar")
    hashes = iter(["a" * 64, "b" * 64])
    monkeypatch.setattr(origin, "sha256_of", lambda _path: next(hashes))
    with pytest.raises(UsageError, match="changed while it was unpacked"):
        find(cache, str(path))
    assert cache.keys("sources") == ()


def test_truncated_tarball_leaves_nothing(cache: Cache, tmp_path: Path) -> None:
    """A download that ended early is refused, and nothing of it is kept."""
    path = tarball_of(make_tree(tmp_path / "linux"), tmp_path / "linux.tar.xz")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError, match="truncated"):
        find(cache, str(path))
    assert cache.keys("sources") == ()
    assert list((cache.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("ref", ["main", "HEAD", "v1", "HEAD~1", "main@{0}"])
def test_commit_of_a_repository(cache: Cache, repository: Path, ref: str) -> None:
    """REPOSITORY@REF is the committed files of that ref, whatever is checked out or edited."""
    found = find(cache, f"{repository}@{ref}")
    assert (found.path / "Kconfig").read_text() == ""
    assert (found.path / "later.c").exists() is (ref not in ("v1", "HEAD~1"))
    assert not (found.path / ".git").exists()
    assert found.is_fixed
    assert git(repository, "rev-parse", f"{ref}^{{commit}}")[:12] in found.origin


def test_ref_alone_is_of_the_repository_here(
    cache: Cache, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REF needs no directory inside a repository; a commit is one tree by whatever name."""
    monkeypatch.chdir(repository / "arch")
    assert find(cache, "v1").path == find(cache, "main~1").path
    assert (find(cache, "v1").path / "Kconfig").exists()  # and not only what lies under arch
    assert find(cache, "@").path == find(cache, "main").path
    assert find(cache, f"{repository / 'arch'}@v1").path == find(cache, "v1").path


def test_bare_repository(cache: Cache, repository: Path, tmp_path: Path) -> None:
    """A repository without a work tree has commits all the same."""
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    assert (find(cache, f"{tmp_path / 'bare.git'}@v1").path / "Kconfig").is_file()


def test_repository_is_not_touched(cache: Cache, repository: Path) -> None:
    """No work tree is registered, no ref, index or object written, under a hook's variables as without."""
    repository.joinpath("later.c").touch()

    def state() -> dict[str, tuple[int, bytes]]:
        return {
            path.relative_to(repository).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in repository.rglob("*")
            if path.is_file()
        }

    before = state()
    find(cache, f"{repository}@v1")
    assert state() == before


def test_variables_of_a_hook_are_ignored(
    cache: Cache, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIT_DIR of a hook that we run under is not the repository that was named."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert (find(cache, f"{repository}@v1").path / "Kconfig").exists()


@pytest.mark.parametrize("ref", ["nothing", "v2", "--output=x", "HEAD:Kconfig", "a b"])
def test_ref_that_is_none_is_told(cache: Cache, repository: Path, ref: str) -> None:
    """No such ref, an option in disguise, a file and not a commit."""
    with pytest.raises(UsageError, match="is no commit of the git repository"):
        find(cache, f"{repository}@{ref}")


def test_directory_without_a_repository_has_no_refs(cache: Cache, tmp_path: Path) -> None:
    """DIR@REF of a directory that is in no repository."""
    with pytest.raises(UsageError, match=r"is no commit.*git said: .*not a git repository"):
        find(cache, f"{make_tree(tmp_path / 'linux')}@v6.12")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/no/such/dir", "there is no such directory or tarball"),
        ("./linux", "there is no such directory or tarball"),
        ("linux-6.12.tar.xz", "there is no such directory or tarball"),
        ("", "there is no such directory or tarball"),
        ("v6.12", "neither a directory nor a tarball, and the current directory is not in a git repository"),
        ("x" * 5000, "neither a directory nor a tarball"),
    ],
)
def test_what_is_nothing_is_told(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    """Paths and names that are not there, outside of any repository."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        find(cache, text)


@pytest.mark.parametrize("form", ["directory", "tarball", "commit"])
def test_tree_without_arm64_is_refused(cache: Cache, repository: Path, form: str) -> None:
    """A kernel source that lacks arm64 is told as that, in whatever form it came, and not kept."""
    git(repository, "rm", "-qrf", "arch")
    (repository / "arch/x86").mkdir(parents=True)
    (repository / "arch/x86/Makefile").touch()
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "no arm64")
    text = {
        "directory": str(repository),
        "tarball": str(tarball_of(repository, repository.parent / "l.tar")),
        "commit": f"{repository}@main",
    }[form]
    with pytest.raises(UsageError, match="a Linux source tree without arm64"):
        find(cache, text)
    assert cache.keys("sources") == ()


def test_special_file_is_no_tree(cache: Cache, tmp_path: Path) -> None:
    """A FIFO is not read."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="no such directory or tarball"):
        find(cache, str(tmp_path / "fifo"))
