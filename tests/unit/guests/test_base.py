"""Tests of harness.guests.base: what is found, refused and read before any guest is started."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.errors import InfraError
from harness.guests import base as base_module
from harness.guests.base import BaseImage, DebianBase, parse_installed, parse_names, refuse_full_disk
from harness.guests.elf import ElfScan
from harness.kernels.kernel import Kernel
from harness.paths import data_dir
from harness.qemu.probe import Qemu

QEMU = Qemu(program="/none", version=(7, 2, 0), has_sandbox=True)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


def _debian(cache: Cache, *, offline: bool = False) -> DebianBase:
    return DebianBase(cache, MicroGuest(cache, offline=True), offline=offline)


def _no_kernel() -> Kernel:
    raise AssertionError("nothing is to be built")


def _made(cache: Cache, key: str) -> BaseImage:
    """An image in the cache, of almost nothing."""

    def build(directory: Path) -> None:
        (directory / "root.img").write_bytes(b"root")
        (directory / "packages").write_text("thing 1 arm64\n")
        ElfScan(scanned=1).write(directory / "elf.json")

    path = cache.make("guests", key, build)
    return BaseImage(path=path / "root.img", key=key, packages="thing 1 arm64\n", elf=ElfScan(scanned=1))


def test_the_list_of_packages() -> None:
    """Every line of ours is a name, and what the guest is for is among them."""
    names = parse_names((data_dir("guests") / "debian" / "packages").read_text())
    assert {"systemd-sysv", "openssh-server", "lvm2", "xfsprogs", "e2fsprogs", "fio", "iperf3", "stress-ng"} <= {*names}
    assert len(names) == len(set(names))


@pytest.mark.parametrize("line", ["two names", "-oDebug::x=1", "?essential", "UPPER"])
def test_a_line_that_is_no_name(line: str) -> None:
    """Anything that apt would read as more than a name is refused."""
    with pytest.raises(InfraError, match="not one"):
        parse_names(f"fine # and why\n{line}\n")


def test_what_was_installed() -> None:
    """The recipe's own lines are found among what packages print; none at all is an error."""
    said = "Setting up a (1) ...\ngranule-package a 1 arm64\nnoise granule-package b 2 all\n"
    assert parse_installed(said) == "a 1 arm64\n"
    with pytest.raises(InfraError, match="named no package"):
        parse_installed("Setting up a (1) ...\n")


def test_the_cached_image_of_this_recipe(cache: Cache) -> None:
    """An image is found without network or guest, and one of another recipe is not."""
    debian = _debian(cache)
    _made(cache, "debian-000000000000-1111")
    assert debian.find() is None
    wanted = _made(cache, f"debian-{debian._recipe()}-1111")
    assert debian.get(_no_kernel, QEMU) == wanted


def test_offline(cache: Cache) -> None:
    """Without network and image the error says what to do."""
    with pytest.raises(InfraError, match="--offline forbids"):
        _debian(cache, offline=True).get(_no_kernel, QEMU)


def test_no_space(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no space that is said before apt, a guest or a half-written file."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=100 << 20))
    monkeypatch.setattr(base_module, "PrivateApt", None)
    with pytest.raises(InfraError, match=r"no space for the Debian guest .* 100 MiB are free"):
        _debian(cache).get(_no_kernel, QEMU)
    assert cache.list() == ()


def test_enough_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room is not refused."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=100 << 30))
    refuse_full_disk(tmp_path)
