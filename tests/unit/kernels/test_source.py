"""Kernels from source, against fakes of apt and make."""

from __future__ import annotations

import os
import shutil
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
from harness.kernels.kbuild.configs import Base, Configuration
from harness.kernels.kbuild.making import Made
from harness.kernels.record import Record
from harness.kernels.source import SourceKernels
from harness.kernels.trees.patches import Patch, read_series
from harness.linux.kconfig import read_config
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


def test_changed_module_is_published(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel, tree: Path
) -> None:
    """A driver that changed in its module alone is another kernel, though the Image is the same."""
    kernels = SourceKernels(cache, catalogue)
    first = kernels.build_tree(wanted, tree).kernel
    (archive / "module").write_text("changed")
    second = kernels.build_tree(wanted, tree).kernel
    assert first.sha256 == second.sha256
    assert second.modules is not None
    assert (second.modules / "kernel/dummy.ko").read_text() == "changed"


PATCH = "--- a/Kconfig\n+++ b/Kconfig\n@@ -0,0 +1 @@\n+# {}\n"


def patches(tmp_path: Path, text: str) -> tuple[Patch, ...]:
    path = tmp_path / "p.patch"
    path.write_text(f"From: A <a@b>\nSubject: [PATCH] {text}\n\nwhy\n---\n{PATCH.format(text)}")
    return read_series(path)


def page_fragments(catalogue: Catalogue) -> None:
    """Fragments beside that catalogue, as ours has them; a fake make keeps every option."""
    beside = catalogue.where.parent
    (beside / "trimmed.config").write_text("CONFIG_MODULES=y\n")
    (beside / "ptdump.config").write_text("CONFIG_DEBUG_WX=y\n")
    for size in ("4", "16", "64"):
        (beside / f"page-{size}k.config").write_text(
            f"CONFIG_ARM64_{size}K_PAGES=y\nCONFIG_ARM64_VA_BITS_52=y\n"
        )
    (beside / "page-boot.config").write_text("CONFIG_ARM64_BOOT_TIME_PAGE_SIZE=y\n")


def test_patched_tree_says_so(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel, tree: Path, tmp_path: Path
) -> None:
    """make works on the copy, the provenance has the series, and the user's tree nothing."""
    made = SourceKernels(cache, catalogue).build_tree(wanted, tree, patches(tmp_path, "first")).kernel
    record = Record.read(made.image.parent)
    assert record is not None
    assert (record.details["patches"], record.details["patch_subjects"]) == ("1", "first")
    assert len(record.details["patches_sha256"]) == 64
    assert (record.details["config"], record.details["fragments"]) == ("allnoconfig", "tiny")
    assert record.details["compiler"] == "12"
    assert "with 1 patch" in made.origin
    assert (tree / "Kconfig").read_text() == ""
    called = (archive / "called").read_text().splitlines()
    assert all(f"-C {cache.root}/work/patched-" in line for line in called)


def test_other_patches_build_where_the_last_did(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel, tree: Path, tmp_path: Path
) -> None:
    """One output directory whatever the patches; emptied only when the copy of the tree was made anew."""
    kernels = SourceKernels(cache, catalogue)
    kernels.build_tree(wanted, tree, patches(tmp_path, "first"))
    (output,) = (cache.root / "work").glob("build-*")
    (output / "object.o").touch()
    kernels.build_tree(wanted, tree, patches(tmp_path, "second"))
    assert (output / "object.o").exists()
    for path in (cache.root / "work").glob("patched-*"):
        shutil.rmtree(path)
    kernels.build_tree(wanted, tree, patches(tmp_path, "second"))
    assert not (output / "object.o").exists()
    assert len(list((cache.root / "work").glob("build-*"))) == 1


def test_each_page_size_is_a_build(
    archive: Path, cache: Cache, catalogue: Catalogue, tree: Path, make_image: Callable[..., bytes]
) -> None:
    """Sizes are built in order, each told as soon as it is there, in an output directory of its own."""
    page_fragments(catalogue)
    told: list[Made] = []

    def next_image(made: Made) -> None:
        told.append(made)
        (archive / "image").write_bytes(make_image(0xE))

    made = SourceKernels(cache, catalogue).build(
        str(tree), None, (PageSize.K4, PageSize.K64), made=next_image
    )
    assert [one.kernel.page_size for one in made] == [PageSize.K4, PageSize.K64]
    assert [one.kernel.name for one in made] == ["linux-4k", "linux-64k"]
    assert list(made) == told
    outputs = {path.name.partition("-trimmed")[2] for path in (cache.root / "work").glob("build-*")}
    assert outputs == {"-ptdump-page-4k", "-ptdump-page-64k"}


def test_header_must_have_the_size_asked_for(
    archive: Path, cache: Cache, catalogue: Catalogue, tree: Path
) -> None:
    """A build whose header says 4K is not what 16K asked for."""
    page_fragments(catalogue)
    with pytest.raises(InfraError, match="built with 4K pages in its Image header, not 16K"):
        SourceKernels(cache, catalogue).build(str(tree), None, (PageSize.K16,))


def test_boot_time_selection_needs_the_series(
    archive: Path,
    cache: Cache,
    catalogue: Catalogue,
    tree: Path,
    tmp_path: Path,
    make_image: Callable[..., bytes],
) -> None:
    """A tree without the option is told so before make runs; with it the kernel is had."""
    page_fragments(catalogue)
    kernels = SourceKernels(cache, catalogue)
    with pytest.raises(UsageError, match=r"has no ARM64_BOOT_TIME_PAGE_SIZE.*--patches"):
        kernels.build(str(tree), None, (None,))
    assert not (archive / "called").exists()
    path = tmp_path / "series.patch"
    path.write_text(
        "diff --git a/arch/arm64/Kconfig b/arch/arm64/Kconfig\nnew file mode 100644\n--- /dev/null\n"
        "+++ b/arch/arm64/Kconfig\n@@ -0,0 +1,2 @@\n+config ARM64_BOOT_TIME_PAGE_SIZE\n+\tbool\n"
    )
    (archive / "image").write_bytes(make_image(0x8) + b"arm64.pagesize")
    (made,) = kernels.build(str(tree), None, (None,), read_series(path))
    assert (made.kernel.page_size, made.kernel.is_boot_time, made.kernel.name) == (None, True, "linux-boot")


def test_full_configuration_keeps_its_address_bits(
    archive: Path, cache: Cache, catalogue: Catalogue, tree: Path
) -> None:
    """Over a .config only the page size is laid; what got lost is listed in a file of the build directory."""
    page_fragments(catalogue)
    (archive / "unknown").write_text("GONE\n")
    base = Base("old.config", "CONFIG_ARM64_16K_PAGES=y\nCONFIG_ARM64_VA_BITS_48=y\nCONFIG_GONE=y\n")
    configuration = Configuration(fragments=(), base=base, place="config-1")
    (made,) = SourceKernels(cache, catalogue).build(str(tree), configuration, (PageSize.K4,))
    assert made.kernel.config is not None
    assert dict(read_config(made.kernel.config)) == {"ARM64_VA_BITS_48": "y", "ARM64_4K_PAGES": "y"}
    assert [missing.option for missing in made.dropped] == ["GONE"]
    assert made.dropped_list is not None
    assert made.dropped_list.read_text() == "CONFIG_GONE: wanted y, found absent\n"


def test_fixed_tree_is_built_once(
    archive: Path, cache: Cache, catalogue: Catalogue, wanted: CatalogueKernel, tree: Path, tmp_path: Path
) -> None:
    """Equal tarball, configuration, patches and compiler: the kernel in the cache; other patches: not."""
    path = tmp_path / "linux.tar"
    subprocess.run(["tar", "-cf", str(path), "-C", str(tree.parent), tree.name], check=True)
    kernels = SourceKernels(cache, catalogue)
    first = kernels.build_tree(wanted, path, patches(tmp_path, "first")).kernel
    assert kernels.build_tree(wanted, path, patches(tmp_path, "first")).kernel == first
    assert compiled(archive) == 1
    kernels.build_tree(wanted, path, patches(tmp_path, "second"))
    kernels.build_tree(wanted, path)
    assert compiled(archive) == 3


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
