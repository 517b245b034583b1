"""`granule kernels fetch` leaves nothing for a later run to fetch, compile or make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.build import disks, micro
from harness.build import guest as guest_module
from harness.build.disks import prepare_disks
from harness.build.guest import MicroGuest
from harness.build.programs import AGENT, PROBE
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.cli.kernels import kernels
from harness.errors import InfraError
from harness.kernels import debian
from harness.kernels.apt import Package
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.spec import PageSize


class Archive:
    """Stands for PrivateApt, with a package of every name, and busybox in it."""

    def __init__(self, cache: Cache, *_suite: str, **_options: Any) -> None:
        self.cache = cache

    def show(self, name: str, **_options: Any) -> Package:
        """A package of that name."""
        return Package(name=name, version="1", architecture="arm64", sha256="0" * 64)

    def into_cache(
        self, kind: str, find: Callable[[bool], Package], *_how: Callable[..., Any], **_options: Any
    ) -> Path:
        """An entry with a file for busybox."""
        package = find(False)

        def build(directory: Path) -> None:
            (directory / "usr/bin").mkdir(parents=True)
            (directory / "usr/bin/busybox").write_bytes(b"busybox")

        return self.cache.make(kind, package.key, build)

    def unpacked(self, _package: Package, _into: Path) -> None:
        """Not called."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with an archive, a compiler, a mke2fs and a boot-time kernel, all made up; the cache's root."""
    root = tmp_path / "cache"
    monkeypatch.setenv("GRANULE_CACHE", str(root))

    def kernel(_store: KernelStore, name: str, **_options: Any) -> Kernel:
        size = {"trimmed-64k": PageSize.K64}.get(name)
        return Kernel(
            name=name, image=tmp_path / "Image", page_size=size, release="6.12", sha256="0" * 64, origin="x"
        )

    def build(_toolchain: Toolchain, cache: Cache) -> Path:
        def write(directory: Path) -> None:
            for name in (AGENT, PROBE):
                (directory / name).write_bytes(name.encode())

        return cache.make("programs", "programs", write)

    def sshd(cache: Cache, roots: list[Path]) -> Path:
        names = "+".join(root.name for root in roots)
        return cache.make("programs", names[:100], lambda directory: (directory / "tar").touch()) / "tar"

    monkeypatch.setattr(guest_module, "build_sshd", sshd)
    monkeypatch.setattr(KernelStore, "get", kernel)
    monkeypatch.setattr(debian, "PrivateApt", Archive)
    monkeypatch.setattr(Toolchain, "find", lambda: Toolchain(cc=("cc",), prefix="", version="none"))
    monkeypatch.setattr(micro, "build_programs", build)
    monkeypatch.setattr(guest_module, "build_programs", build)
    monkeypatch.setattr(disks, "_make_ext4", lambda image, _block_bytes: image.write_bytes(b"disk"))
    return root


def test_what_was_fetched_is_enough_offline(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards the guest and the disks of its page size come from the cache, without network or tools."""
    done = CliRunner().invoke(kernels, ["fetch", "trimmed-64k"], catch_exceptions=False)
    assert done.exit_code == 0
    monkeypatch.setattr(debian, "PrivateApt", None)
    monkeypatch.setattr(disks, "_make_ext4", None)
    monkeypatch.setattr(micro, "write_cpio", None)
    with Cache(host) as cache:
        kernel = KernelStore(cache, offline=True).get("trimmed-64k")
        guest = MicroGuest(cache, offline=True)
        assert guest.initramfs(kernel).is_file()
        assert guest.sshd.is_file()
        prepare_disks(cache, PageSize.K64)
        with pytest.raises(TypeError):
            prepare_disks(cache, PageSize.K16)


def test_boot_time_kernel_gets_every_size(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that may run at any page size has the disks of all of them."""
    monkeypatch.setattr(KernelStore, "expand", lambda _store, name: (name,))
    assert CliRunner().invoke(kernels, ["fetch", "boot-time"], catch_exceptions=False).exit_code == 0
    monkeypatch.setattr(disks, "_make_ext4", None)
    with Cache(host) as cache:
        for size in PageSize:
            prepare_disks(cache, size)


def test_offline_takes_only_what_is_there(host: Path) -> None:
    """With --offline the guest's busybox is not fetched either."""
    with pytest.raises(InfraError, match="busybox-static"):
        CliRunner().invoke(kernels, ["fetch", "trimmed-64k", "--offline"], catch_exceptions=False)
