"""Kernels from source, against fakes of apt and make."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError, KernelUnavailable, UsageError
from harness.kernels import source
from harness.kernels.catalogue import Catalogue, CatalogueKernel
from harness.kernels.source import SourceKernels
from harness.spec import PageSize

CATALOGUE = """\
schema = 1
[[kernel]]
name = "small-4k"
page_size = "4k"
source = "build"
package = "linux-source-6.12"
suite = "trixie"
fragments = ["tiny"]
purpose = "testing"
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    (tmp_path / "tiny.config").write_text("# a comment\nCONFIG_MODULES=y\nCONFIG_ARM64_4K_PAGES=y\n")
    (tmp_path / "catalogue.toml").write_text(CATALOGUE)
    return Catalogue.load(tmp_path / "catalogue.toml")


@pytest.fixture
def wanted(catalogue: Catalogue) -> CatalogueKernel:
    return catalogue.find("small-4k")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "arch/arm64").mkdir(parents=True)
    (path / "arch/arm64/Makefile").touch()
    (path / "Kconfig").touch()
    return path


@pytest.fixture
def archive(
    fakes: Path, tree: Path, make_image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> Path:
    (fakes / "targets").write_text("Debian|http://m.invalid|bookworm|main|Packages|http://m.invalid/|\n")
    offer(fakes, "6.12.1-1")
    deb = fakes / "tree-linux-source-6.12/usr/src"
    deb.mkdir(parents=True)
    archive = deb / "linux-source-6.12.tar.xz"
    subprocess.run(["tar", "-cJf", str(archive), "-C", str(tree.parent), tree.name], check=True)
    (fakes / "image").write_bytes(make_image(0xA))
    use_compiler(monkeypatch, "12")
    return fakes


def offer(archive: Path, version: str) -> None:
    sha256 = (version.encode().hex() * 64)[:64]
    (archive / "show-linux-source-6.12").write_text(
        f"Package: linux-source-6.12\nVersion: {version}\nArchitecture: all\nSHA256: {sha256}\n"
    )


def use_compiler(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(source, "_toolchain", lambda: Toolchain(cc=("gcc",), prefix="", version=version))


def compiled(archive: Path) -> int:
    return (archive / "called").read_text().count("Image modules")


def test_kernel_is_built_whole(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel
) -> None:
    """Source, fragments and make lead to Image, configuration, vmlinux, modules and provenance."""
    kernel = SourceKernels(cache, catalogue).get(wanted)
    assert (kernel.name, kernel.page_size, kernel.release) == ("small-4k", PageSize.K4, "6.12.1-test")
    assert kernel.config is not None
    assert "CONFIG_ARM64_4K_PAGES=y" in kernel.config.read_text()
    assert kernel.vmlinux is not None
    assert kernel.modules is not None
    assert (kernel.modules / "kernel/dummy.ko").is_file()
    assert "linux-source-6.12 6.12.1-1 with tiny" in kernel.origin
    assert [entry.kind for entry in cache.list()].count("sources") == 1


def test_built_kernel_is_found(
    archive: Path,
    cache: Cache,
    catalogue: Catalogue,
    wanted: CatalogueKernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second get needs no compiler and runs nothing."""
    kernels = SourceKernels(cache, catalogue)
    assert kernels.find(wanted) is None
    kernel = kernels.get(wanted)
    (archive / "called").unlink()
    monkeypatch.delattr(source, "_toolchain")
    assert kernels.get(wanted, offline=True) == kernels.find(wanted) == kernel
    assert not (archive / "called").exists()


def test_changed_fragment_makes_another_kernel(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel, tmp_path: Path
) -> None:
    """An option more is another kernel; a comment more is the same."""
    kernels = SourceKernels(cache, catalogue)
    kernels.get(wanted)
    (tmp_path / "tiny.config").write_text("# another comment\n\nCONFIG_MODULES=y\nCONFIG_ARM64_4K_PAGES=y\n")
    assert kernels.find(wanted) is not None
    (tmp_path / "tiny.config").write_text("CONFIG_MODULES=y\nCONFIG_ARM64_4K_PAGES=y\nCONFIG_NET=y\n")
    assert kernels.find(wanted) is None
    kernels.get(wanted)
    assert compiled(archive) == 2


def test_refresh_builds_only_what_changed(
    archive: Path,
    cache: Cache,
    catalogue: Catalogue,
    wanted: CatalogueKernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refresh builds for a new source or compiler, and not when both are those of the cached kernel."""
    kernels = SourceKernels(cache, catalogue)
    kernels.get(wanted)
    kernels.get(wanted, refresh=True)
    assert compiled(archive) == 1
    use_compiler(monkeypatch, "13")
    kernels.get(wanted, refresh=True)
    assert compiled(archive) == 2
    offer(archive, "6.12.2-1")
    assert "6.12.2-1" in kernels.get(wanted, refresh=True).origin
    assert compiled(archive) == 3


def test_offline_builds_from_cached_sources_only(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel
) -> None:
    """Offline without sources is KernelUnavailable; with them the kernel is built."""
    kernels = SourceKernels(cache, catalogue)
    with pytest.raises(KernelUnavailable, match="granule kernels fetch small-4k"):
        kernels.get(wanted, offline=True)
    kernels.get(wanted)
    cache.close()
    cache.prune(kinds=["kernels"])
    (archive / "offline").touch()
    assert kernels.get(wanted, offline=True).name == "small-4k"


def test_failed_build_publishes_nothing(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel
) -> None:
    """A compiler error publishes no kernel, and the next try builds again."""
    (archive / "fails").write_text("mm/x.c:1:1: error: no\n")
    kernels = SourceKernels(cache, catalogue)
    with pytest.raises(InfraError, match=r"mm/x\.c:1:1"):
        kernels.get(wanted)
    assert cache.keys("kernels") == ()
    (archive / "fails").unlink()
    kernels.get(wanted)


def test_wrong_page_size_is_not_published(
    archive: Path,
    cache: Cache,
    catalogue: Catalogue,
    wanted: CatalogueKernel,
    make_image: Callable[..., bytes],
) -> None:
    """A kernel whose header tells another size than the catalogue is not what was asked for."""
    (archive / "image").write_bytes(make_image(0xE))
    with pytest.raises(InfraError, match="64K pages in its Image header, not 4K"):
        SourceKernels(cache, catalogue).get(wanted)
    assert cache.keys("kernels") == ()


def test_kernel_may_have_no_modules(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel, tmp_path: Path
) -> None:
    """Where modules are configured out, kbuild has no such targets, and the kernel none."""
    (tmp_path / "tiny.config").write_text("CONFIG_ARM64_4K_PAGES=y\n")
    assert SourceKernels(cache, catalogue).get(wanted).modules is None
    assert "modules" not in (archive / "called").read_text()


def test_users_tree_is_made_every_time(
    archive: Path,
    cache: Cache,
    catalogue: Catalogue,
    wanted: CatalogueKernel,
    tree: Path,
    make_image: Callable[..., bytes],
) -> None:
    """A tree may have changed, so make runs each time; the tree itself is not touched."""
    before = sorted(tree.rglob("*"))
    kernels = SourceKernels(cache, catalogue)
    first = kernels.build_tree(wanted, tree).kernel
    assert kernels.build_tree(wanted, tree).kernel == first
    assert compiled(archive) == 2
    (archive / "image").write_bytes(make_image(0xA, release="6.12.1-patched"))
    with pytest.raises(InfraError):  # the fake installs modules of another release
        kernels.build_tree(wanted, tree)
    assert sorted(tree.rglob("*")) == before
    assert kernels.find(wanted) is None
    assert str(tree) in first.origin


def test_users_tree_must_be_one(
    cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel, tmp_path: Path
) -> None:
    """A directory that is no kernel tree is refused before anything runs."""
    with pytest.raises(UsageError, match="not a Linux source tree"):
        SourceKernels(cache, catalogue).build_tree(wanted, tmp_path)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_ended_build_leaves_nothing_published(
    archive: Path,
    cache: Cache,
    catalogue: Catalogue,
    wanted: CatalogueKernel,
    tree: Path,
    how: signal.Signals,
) -> None:
    """A build ended by Ctrl-C or SIGKILL leaves no compiler, publishes nothing, and can be repeated."""
    (archive / "hangs").touch()
    (archive / "called").touch()
    child = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).parent / "tree_builder.py"),
            str(cache.root),
            str(catalogue.where),
            str(tree),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(harness.__file__).parents[1])},
        stderr=subprocess.DEVNULL,
    )
    Deadline.after(20).wait_until(
        lambda: compiled(archive) == 1 and held(archive / "hangs"), "the build to start"
    )
    child.send_signal(how)
    child.wait()
    Deadline.after(5).wait_until(lambda: not held(archive / "hangs"), "the compiler to end")
    assert cache.keys("kernels") == ()
    (archive / "hangs").unlink()
    with Cache(cache.root) as again:
        assert SourceKernels(again, catalogue).build_tree(wanted, tree).kernel.name == "small-4k"


def held(lock: Path) -> bool:
    """True while a process of the fake make holds that file's lock."""
    return subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode != 0
