"""What the micro guest's initramfs holds, from the first archive to the last."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.build import micro
from harness.build.initramfs import file, write_cpio
from harness.build.initrd_check import check_initramfs
from harness.build.micro import build_micro_initramfs
from harness.build.modules import Wanted
from harness.build.programs import AGENT, PROBE
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.kernel import Kernel
from harness.paths import data_dir
from harness.spec import PageSize

Members = list[tuple[str, int, bytes]]
MakeModule = Callable[[Path, dict[str, str]], bytes]


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel without modules."""
    return Kernel(
        name="made-up",
        image=tmp_path / "Image",
        page_size=PageSize.K16,
        release="6.12.1",
        sha256="0",
        origin="",
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """A cache, with programs that need no compiler."""
    built = tmp_path / "built"
    built.mkdir()
    for name in (AGENT, PROBE):
        (built / name).write_bytes(name.encode())
    toolchain = Toolchain(cc=("cc",), prefix="", version="none")
    monkeypatch.setattr(Toolchain, "find", lambda: toolchain)
    monkeypatch.setattr(micro, "build_programs", lambda _toolchain, _cache: built)
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    """Stands for busybox."""
    (tmp_path / "busybox").write_bytes(b"busybox")
    return tmp_path / "busybox"


def test_base(kernel: Kernel, cache: Cache, busybox: Path, read_members: Callable[[bytes], Members]) -> None:
    """The guest's own files are there, executable where they must be, in an archive that Linux would read."""
    built = build_micro_initramfs(kernel, cache, busybox)
    check_initramfs(built)
    found = {name: (mode, data) for name, mode, data in read_members(built.read_bytes())}
    assert found["init"] == (stat.S_IFREG | 0o755, (data_dir("guests") / "micro" / "init").read_bytes())
    assert found["bin/busybox"] == (stat.S_IFREG | 0o755, b"busybox")
    assert found["bin/sh"] == (stat.S_IFLNK | 0o777, b"busybox")
    assert found["sbin/granule-agent"][0] == stat.S_IFREG | 0o755
    assert found["bin/probe"][0] == stat.S_IFREG | 0o755
    assert stat.S_ISCHR(found["dev/console"][0])
    assert {"proc", "sys", "tmp", "etc/fstab"} <= found.keys()


def test_cached(kernel: Kernel, cache: Cache, busybox: Path) -> None:
    """The same ingredients give the same file without building again; another busybox gives another."""
    first = build_micro_initramfs(kernel, cache, busybox)
    assert build_micro_initramfs(kernel, cache, busybox) == first
    busybox.write_bytes(b"another")
    assert build_micro_initramfs(kernel, cache, busybox) != first


@pytest.mark.skipif(
    shutil.which("depmod", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None,
    reason="needs depmod: apt-get install kmod",
)
def test_modules(
    kernel: Kernel,
    cache: Cache,
    busybox: Path,
    tmp_path: Path,
    make_module: MakeModule,
    read_members: Callable[[bytes], Members],
) -> None:
    """A kernel's modules follow the base, with the list of those that init loads."""
    make_module(tmp_path / "m/kernel/virtio_mmio.ko", {"depends": ""})
    built = build_micro_initramfs(dataclasses.replace(kernel, modules=tmp_path / "m"), cache, busybox)
    found = {name: data for name, _, data in read_members(built.read_bytes())}
    assert found["etc/modules.boot"] == b"/lib/modules/6.12.1/kernel/virtio_mmio.ko\n"
    assert "lib/modules/6.12.1/modules.dep" in found


def test_modules_not_a_directory(kernel: Kernel, cache: Cache, busybox: Path) -> None:
    """Modules that are not where they should be are an error and not a guest without modules."""
    with pytest.raises(UsageError, match="no directory"):
        build_micro_initramfs(dataclasses.replace(kernel, modules=busybox), cache, busybox)


def test_a_users_initrd_keeps_our_init(
    kernel: Kernel, cache: Cache, busybox: Path, tmp_path: Path, read_members: Callable[[bytes], Members]
) -> None:
    """The user's archive comes after ours and wins, except for /init, which would lose the guest."""
    write_cpio(tmp_path / "initrd", [file("init", b"theirs"), file("bin/probe", b"theirs")])
    built = build_micro_initramfs(dataclasses.replace(kernel, initrd=tmp_path / "initrd"), cache, busybox)
    check_initramfs(built)
    last = {name: data for name, _, data in read_members(built.read_bytes())}
    assert last["bin/probe"] == b"theirs"
    assert last["init"] == (data_dir("guests") / "micro" / "init").read_bytes()


def test_a_truncated_initrd_is_refused(kernel: Kernel, cache: Cache, busybox: Path, tmp_path: Path) -> None:
    """The user's archive is looked through before a guest gets it."""
    write_cpio(tmp_path / "initrd", [file("x", b"y" * 1000)])
    (tmp_path / "initrd").write_bytes((tmp_path / "initrd").read_bytes()[:700])
    with pytest.raises(UsageError, match="truncated"):
        build_micro_initramfs(dataclasses.replace(kernel, initrd=tmp_path / "initrd"), cache, busybox)


def test_an_initrd_of_odd_length(
    kernel: Kernel, cache: Cache, busybox: Path, tmp_path: Path, read_members: Callable[[bytes], Members]
) -> None:
    """What follows an archive of odd length begins at a multiple of 4, where the kernel looks for it."""
    write_cpio(tmp_path / "initrd", [file("x", b"y")])
    (tmp_path / "initrd").write_bytes((tmp_path / "initrd").read_bytes() + b"\0")
    built = build_micro_initramfs(dataclasses.replace(kernel, initrd=tmp_path / "initrd"), cache, busybox)
    assert read_members(built.read_bytes())[-1][0] == "init"


def test_extra(
    kernel: Kernel, cache: Cache, busybox: Path, tmp_path: Path, read_members: Callable[[bytes], Members]
) -> None:
    """Files and directories of the user are put where they were asked for."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/run").write_bytes(b"go")
    built = build_micro_initramfs(kernel, cache, busybox, ((tmp_path / "mine", "/opt/mine"), (busybox, "/x")))
    found = {name: data for name, _, data in read_members(built.read_bytes())}
    assert found["opt/mine/run"] == b"go"
    assert found["x"] == b"busybox"


def test_extra_that_is_not_there(kernel: Kernel, cache: Cache, busybox: Path, tmp_path: Path) -> None:
    """A file that cannot be read is the user's mistake, named."""
    with pytest.raises(UsageError, match="nothing"):
        build_micro_initramfs(kernel, cache, busybox, ((tmp_path / "nothing", "/x"),))


def test_list_of_modules() -> None:
    """The list that is shipped can be read, and has what QEMU's virt machine needs."""
    wanted = Wanted.parse((data_dir("guests") / "micro" / "modules").read_text())
    assert {"virtio_mmio", "virtio_console", "virtio_blk"} <= set(wanted.boot)
    assert {"ext4", "virtio_net", "zram"} <= set(wanted.demand)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck: apt-get install shellcheck")
def test_init_is_clean_shell() -> None:
    """shellcheck has nothing to say about the guest's init."""
    subprocess.run(["shellcheck", "-s", "dash", data_dir("guests") / "micro" / "init"], check=True)
