"""The micro guest as it is asked for: made in whose thread, told to whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build import guest as module
from harness.build import micro
from harness.build.guest import MicroGuest
from harness.build.programs import AGENT, PROBE
from harness.build.sshd import SSHD_PACKAGES
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress
from harness.spec import PageSize


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was fetched or compiled, in order; neither needs network or compiler."""
    made: list[str] = []
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    for name in ("usr/bin/busybox", AGENT, PROBE):
        (root / name).write_bytes(name.encode())

    def fetch(_cache: Cache, name: str, *, offline: bool, progress: Progress) -> Path:
        made.append(name)
        progress(1, 2, f"downloading {name}")
        return root

    def build(_toolchain: Toolchain, _cache: Cache) -> Path:
        made.append("programs")
        return root

    monkeypatch.setattr(Toolchain, "find", lambda: Toolchain(cc=("cc",), prefix="", version="none"))
    monkeypatch.setattr(module, "fetch_package", fetch)
    monkeypatch.setattr(module, "build_programs", build)
    monkeypatch.setattr(micro, "build_programs", lambda _toolchain, _cache: root)
    return made


def test_sshd_is_had_when_asked_for(
    cache: Cache, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packages are fetched once, and only for a guest that is to be logged in to."""
    monkeypatch.setattr(module, "build_sshd", lambda _cache, roots: roots[0] / f"{len(roots)}.tar")
    guest = MicroGuest(cache)
    assert made == []
    assert guest.sshd == guest.sshd == tmp_path / "root" / f"{len(SSHD_PACKAGES)}.tar"
    assert made == list(SSHD_PACKAGES)


def test_prepare_makes_everything_and_tells(
    cache: Cache, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `prepare` the initramfs is in the cache; each step and the download were told."""
    told: list[str] = []
    guest = MicroGuest(cache, progress=lambda _done, _total, what: told.append(what))
    kernel = Kernel(
        name="k", image=tmp_path / "Image", page_size=PageSize.K4, release="6.12", sha256="0", origin=""
    )
    guest.prepare(kernel)
    assert made == ["busybox-static", "programs"]
    assert told == [
        "preparing the guest's busybox",
        "downloading busybox-static",
        "compiling the guest's programs",
        "making the initramfs for k",
    ]
    monkeypatch.setattr(micro, "write_cpio", None)
    assert guest.initramfs(kernel).is_file()
