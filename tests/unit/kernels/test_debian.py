"""Debian's kernels, from a fake archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import InfraError, KernelUnavailable
from harness.kernels.debian import DebianKernels, fetch_package, find_package
from harness.spec import PageSize

RELEASE = "6.12.9+deb13-arm64-16k"
REAL = f"linux-image-{RELEASE}"
META = "linux-image-arm64-16k"


def stanza(name: str, version: str, depends: str = "") -> str:
    sha256 = (version.encode().hex() * 64)[:64]
    return f"Package: {name}\nVersion: {version}\nArchitecture: arm64\nDepends: {depends}\nSHA256: {sha256}\n"


@pytest.fixture
def archive(fakes: Path, make_image: Callable[..., bytes]) -> Path:
    (fakes / "targets").write_text("Debian|http://m.invalid|bookworm|main|Packages|http://m.invalid/|\n")
    offer(fakes, "6.12.9-1")
    boot = fakes / f"tree-{REAL}/boot"
    boot.mkdir(parents=True)
    (boot / f"vmlinuz-{RELEASE}").write_bytes(make_image(0xC, release=RELEASE))
    (boot / f"config-{RELEASE}").write_text("CONFIG_ARM64_16K_PAGES=y\n")
    (boot / f"System.map-{RELEASE}").write_text("stub")
    modules = fakes / f"tree-{REAL}/usr/lib/modules/{RELEASE}/kernel"
    modules.mkdir(parents=True)
    (modules / "x.ko.xz").write_text("")
    (fakes / "show-busybox-static").write_text(stanza("busybox-static", "1:1.37"))
    (fakes / "tree-busybox-static").mkdir()
    return fakes


def offer(archive: Path, version: str) -> None:
    """What the archive has from now on."""
    (archive / f"show-{META}").write_text(stanza(META, version, f"{REAL} (= {version})"))
    (archive / f"show-{REAL}").write_text(stanza(REAL, version, "kmod, initramfs-tools"))


def test_kernel_is_fetched_whole(archive: Path, cache: Cache) -> None:
    """The metapackage leads to Image, configuration, modules and provenance; the stub System.map goes."""
    kernel = DebianKernels(cache, "trixie").get(META, "debian-16k")
    assert (kernel.name, kernel.page_size, kernel.release) == ("debian-16k", PageSize.K16, RELEASE)
    assert kernel.origin == f"Debian trixie: {REAL} 6.12.9-1"
    assert kernel.config is not None
    assert kernel.modules is not None
    assert (kernel.modules / "kernel/x.ko.xz").is_file()
    names = {path.name for path in kernel.image.parent.iterdir()}
    assert names == {"Image", "config", "lib", "provenance.json", ".granule-entry.json"}


def test_cached_kernel_needs_no_apt(archive: Path, cache: Cache) -> None:
    """The second get runs no program, offline or not."""
    kernels = DebianKernels(cache, "trixie")
    kernel = kernels.get(META, "debian-16k")
    (archive / "called").unlink()
    assert kernels.get(META, "debian-16k") == kernel
    assert kernels.get(META, "debian-16k", offline=True, refresh=True) == kernel
    assert not (archive / "called").exists()


def test_refresh_takes_the_newest(archive: Path, cache: Cache) -> None:
    """Refresh fetches a new version, which later gets prefer."""
    kernels = DebianKernels(cache, "trixie")
    old = kernels.get(META, "debian-16k")
    offer(archive, "6.12.9-2")
    assert kernels.get(META, "debian-16k") == old
    new = kernels.get(META, "debian-16k", refresh=True)
    assert new.origin.endswith("6.12.9-2")
    assert kernels.get(META, "debian-16k") == new


def test_offline_without_cache_is_unavailable(archive: Path, cache: Cache) -> None:
    """Offline, an absent kernel is KernelUnavailable, with the command that mends it, and apt is not run."""
    with pytest.raises(KernelUnavailable, match="granule kernels fetch debian-16k"):
        DebianKernels(cache, "trixie").get(META, "debian-16k", offline=True)
    with pytest.raises(InfraError, match="--offline"):
        fetch_package(cache, "busybox-static", offline=True)
    assert not (archive / "called").exists()


@pytest.mark.parametrize("lost", ["boot/vmlinuz", "boot/config", "usr/lib/modules"])
def test_odd_package_is_refused(archive: Path, cache: Cache, lost: str) -> None:
    """A package without kernel, configuration or modules publishes nothing."""
    root = archive / f"tree-{REAL}"
    (path,) = root.glob(f"{lost}*") if lost.startswith("boot") else root.glob(f"{lost}/*")
    path.rename(archive / "taken")
    with pytest.raises(InfraError, match="not laid out as a kernel package"):
        DebianKernels(cache, "trixie").get(META, "debian-16k")
    assert cache.keys("kernels") == ()


def test_modules_must_match_the_kernel(archive: Path, cache: Cache) -> None:
    """Modules of another release than the banner's are refused."""
    modules = archive / f"tree-{REAL}/usr/lib/modules"
    (modules / RELEASE).rename(modules / "6.1.0")
    with pytest.raises(InfraError, match=f"no modules for {RELEASE.replace('+', '.')}"):
        DebianKernels(cache, "trixie").get(META, "debian-16k")


def test_metapackage_must_lead_somewhere(archive: Path, cache: Cache) -> None:
    """A metapackage that depends on no kernel is KernelUnavailable."""
    (archive / f"show-{META}").write_text(stanza(META, "1", "base-files"))
    with pytest.raises(KernelUnavailable, match="names no kernel package"):
        DebianKernels(cache, "trixie").get(META, "debian-16k")


def test_other_packages_are_fetched(archive: Path, cache: Cache) -> None:
    """fetch_package gives the root of the unpacked files, from the cache the second time."""
    assert find_package(cache, "busybox-static") is None
    path = fetch_package(cache, "busybox-static")
    (archive / "called").unlink()
    assert fetch_package(cache, "busybox-static") == find_package(cache, "busybox-static") == path
    assert find_package(cache, "busybox") is None
    assert not (archive / "called").exists()
