"""One place to ask for a kernel: names, families, files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import KernelUnavailable, UsageError
from harness.kernels.catalogue import Catalogue
from harness.kernels.file import Beside
from harness.kernels.record import Record, describe_image
from harness.kernels.store import KernelState, KernelStore, is_path
from harness.spec import PageSize


@pytest.fixture
def store(cache: Cache) -> KernelStore:
    return KernelStore(cache, offline=True)


def publish(cache: Cache, make_image: Callable[..., bytes]) -> None:
    """A cached debian-16k, as harness/kernels/debian.py leaves one."""

    def build(directory: Path) -> None:
        (directory / "Image").write_bytes(make_image(0xC))
        _image, release, sha256 = describe_image(directory / "Image")
        Record(
            origin="somewhere",
            release=release,
            image_sha256=sha256,
            page_size_bytes=16384,
            recipe="debian trixie linux-image-arm64-16k",
        ).write(directory)

    cache.make("kernels", "x", build)


def test_cached_kernel_is_had_at_once(
    cache: Cache, store: KernelStore, make_image: Callable[..., bytes]
) -> None:
    """A cached kernel is available offline; another of the catalogue is not."""
    publish(cache, make_image)
    assert store.available("debian-16k")
    assert not store.available("debian-4k")
    kernel = store.get("debian-16k")
    assert (kernel.name, kernel.page_size) == ("debian-16k", PageSize.K16)
    with pytest.raises(KernelUnavailable):
        store.get("debian-4k")
    with pytest.raises(KernelUnavailable):
        KernelStore(Cache(cache.root / "other"), offline=True).get("debian-16k")


def test_rows_tell_the_state(cache: Cache, store: KernelStore, make_image: Callable[..., bytes]) -> None:
    """The list has every kernel of the catalogue, with its state and, once cached, what it is."""
    publish(cache, make_image)
    rows = {row.name: row for row in store.list()}
    assert tuple(rows) == Catalogue.load().names
    assert rows["debian-16k"].state is KernelState.CACHED
    assert rows["debian-16k"].release == "6.12.1-test"
    assert rows["debian-16k"].size_bytes > 4096
    assert rows["debian-4k"].state is KernelState.NOT_FETCHED
    assert rows["trimmed-64k"].state is KernelState.NOT_BUILT
    assert [row.name for row in rows.values() if row.state.is_ready] == ["debian-16k"]


def test_damaged_entry_is_as_good_as_none(
    cache: Cache, store: KernelStore, make_image: Callable[..., bytes]
) -> None:
    """An entry whose provenance is unreadable is passed over."""
    publish(cache, make_image)
    (cache.root / "kernels/x/provenance.json").write_text("{")
    assert not store.available("debian-16k")


def test_families_expand(store: KernelStore) -> None:
    """A family stands for its kernels, a name or a path for itself."""
    assert store.expand("trimmed") == ("trimmed-4k", "trimmed-16k", "trimmed-64k")
    assert store.expand("debian") == ("debian-4k", "debian-16k")
    assert store.expand("trimmed-4k") == ("trimmed-4k",)
    assert store.expand("./x") == ("./x",)
    with pytest.raises(UsageError, match="Did you mean trimmed"):
        store.expand("trimed")


def test_unknown_names_are_refused(store: KernelStore) -> None:
    """get and available refuse what neither the catalogue nor the directory has."""
    for ask in (store.get, store.available):
        with pytest.raises(UsageError, match="Did you mean debian-16k"):
            ask("debian-16")


def test_paths_are_files_or_trees(
    store: KernelStore, tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    """A path gives the kernel in that file, or in that build tree, with what lies beside it."""
    boot = tmp_path / "linux/arch/arm64/boot"
    boot.mkdir(parents=True)
    (boot / "Image").write_bytes(make_image(0xE))
    assert store.get(str(boot / "Image"), beside=Beside(cmdline="quiet")).cmdline == "quiet"
    assert store.get(str(tmp_path / "linux")).name == "linux"
    assert store.available(str(boot / "Image"))
    assert not store.available(str(boot / "nothing"))
    with pytest.raises(UsageError, match="does not exist"):
        store.get(str(boot / "nothing"))


def test_a_file_here_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_image: Callable[..., bytes]
) -> None:
    """`Image` means the file of that name, but a name of the catalogue is never a file by accident."""
    monkeypatch.chdir(tmp_path)
    catalogue = Catalogue.load()
    assert not is_path("Image", catalogue)
    for name in ("Image", "debian-4k", "trimmed"):
        (tmp_path / name).write_bytes(make_image())
    assert is_path("Image", catalogue)
    assert not is_path("debian-4k", catalogue)
    assert not is_path("trimmed", catalogue)
    assert not is_path("", catalogue)


def test_odd_paths_are_usage_errors(store: KernelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name too long, an unknown user's home, a directory that is closed to us: a paragraph each."""
    for ask in (store.get, store.available):
        with pytest.raises(UsageError, match="cannot be looked at: File name too long"):
            ask("./" + "x" * 300)
        with pytest.raises(UsageError, match="whom this machine does not know"):
            ask("~no-such-user-here/Image")
    with pytest.raises(UsageError, match="xxxx"):
        store.get("x" * 300)

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.is_relative_to("/closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return os.stat(path, follow_symlinks=follow_symlinks)  # noqa: PTH116 - Path.stat is us

    monkeypatch.setattr(Path, "stat", stat)
    for ask in (store.get, store.available):
        with pytest.raises(UsageError, match="cannot be looked at: Permission denied"):
            ask("/closed/Image")


def test_name_that_is_not_utf8(store: KernelStore, tmp_path: Path, make_image: Callable[..., bytes]) -> None:
    """Nothing in the Kernel of such a file keeps a report from being written as UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Ima\xffge"))
    path.write_bytes(make_image())
    kernel = store.get(str(path))
    for text in (kernel.name, kernel.origin, str(kernel.image)):
        text.encode()


def test_files_beside_go_with_files(store: KernelStore) -> None:
    """--modules and the like with a name of the catalogue are refused."""
    with pytest.raises(UsageError, match="go with a kernel file"):
        store.get("debian-4k", beside=Beside(cmdline="quiet"))


def test_trees_are_built_like_built_kernels(store: KernelStore, tmp_path: Path) -> None:
    """A tree cannot be built like a packaged kernel."""
    with pytest.raises(UsageError, match="one of: trimmed-4k"):
        store.build_tree("debian-4k", tmp_path)


def test_the_source_of_a_packaged_kernel(
    cache: Cache, store: KernelStore, make_image: Callable[..., bytes]
) -> None:
    """Of Debian's kernels it is the linux-source package of their version, of ours the one they name."""
    publish(cache, make_image)
    with pytest.raises(KernelUnavailable, match=r"source linux-source-6\.12 is not in the cache"):
        store.source_of("debian-16k")
    made = cache.make("sources", "linux-source-6.12_6.12.1-1_abc", lambda path: (path / "tree").mkdir())
    for name in ("debian-16k", "trimmed-64k", "combined"):
        tree = store.source_of(name)
        assert (tree.path, tree.origin) == (made / "tree", "Debian linux-source-6.12 6.12.1-1")


def test_a_file_has_no_source(store: KernelStore) -> None:
    """What a kernel file was built from nobody knows, and it is said how to tell."""
    with pytest.raises(UsageError, match=r"kernel file.*--tree"):
        store.source_of("./Image")
