"""Which modules a guest gets, in which order, and that modprobe's index files come with them."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.initramfs import Entry
from harness.build.modules import Wanted, module_entries, modules_key
from harness.errors import InfraError, UsageError

RELEASE = "6.12.1-test+1"
MakeModule = Callable[[Path, dict[str, str]], bytes]

needs_depmod = pytest.mark.skipif(
    shutil.which("depmod", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None,
    reason="needs depmod: apt-get install kmod",
)


@pytest.fixture
def modules(tmp_path: Path, make_module: MakeModule) -> Path:
    """The modules directory of a made-up kernel: app needs lib and core, lib needs core, fs likes crc."""
    home = tmp_path / "modules"
    make_module(home / "kernel/drivers/app.ko", {"depends": "my_lib,core"})
    make_module(home / "kernel/lib/my-lib.ko", {"depends": "core"})
    make_module(home / "kernel/core.ko", {"depends": ""})
    make_module(home / "kernel/fs/fs.ko", {"depends": "", "softdep": "pre: crc"})
    make_module(home / "kernel/crc.ko", {"alias": "crypto-crc"})
    make_module(home / "kernel/lonely.ko", {"depends": "not_here"})
    make_module(home / "kernel/other.ko", {})
    (home / "modules.builtin").write_text("kernel/drivers/block/zram/zram.ko\n")
    (home / "modules.order").write_text("kernel/core.ko\n")
    return home


def wanted(boot: tuple[str, ...] = (), demand: tuple[str, ...] = ()) -> Wanted:
    """Names of modules."""
    return Wanted(boot=boot, demand=demand)


def by_name(entries: tuple[Entry, ...]) -> dict[str, bytes]:
    """Data of the entries below the modules directory, and of the list for init."""
    return {entry.name.removeprefix(f"lib/modules/{RELEASE}/"): entry.data for entry in entries}


@needs_depmod
def test_closure_and_order(modules: Path) -> None:
    """A module brings what it depends on; of those, init is told the ones for boot, dependencies first."""
    found = by_name(module_entries(modules, RELEASE, wanted(boot=("app",), demand=("fs",))))
    carried = {name for name in found if name.endswith(".ko")}
    assert carried == {
        *("kernel/core.ko", "kernel/lib/my-lib.ko", "kernel/drivers/app.ko"),
        *("kernel/fs/fs.ko", "kernel/crc.ko"),
    }
    lines = found["etc/modules.boot"].decode().split()
    assert lines == [
        f"/lib/modules/{RELEASE}/kernel/core.ko",
        f"/lib/modules/{RELEASE}/kernel/lib/my-lib.ko",
        f"/lib/modules/{RELEASE}/kernel/drivers/app.ko",
    ]


@needs_depmod
def test_modprobe_indexes(modules: Path) -> None:
    """The text indexes that busybox's modprobe reads are there, and the kernel's list of what is built in."""
    found = by_name(module_entries(modules, RELEASE, wanted(demand=("app", "fs"))))
    dependencies = dict(line.split(":", 1) for line in found["modules.dep"].decode().splitlines())
    assert dependencies.keys() == {name for name in found if name.endswith(".ko")}
    assert b"alias crypto-crc crc" in found["modules.alias"]
    assert b"zram.ko" in found["modules.builtin"]
    assert not [name for name in found if name.endswith(".bin")]


@needs_depmod
def test_compressed_modules_are_unpacked(modules: Path, make_module: MakeModule) -> None:
    """Modules come out as plain files, whatever the kernel's package compressed them with."""
    plain = make_module(modules / "kernel/plain.ko", {"depends": ""})
    (modules / "kernel/xz.ko.xz").write_bytes(lzma.compress(plain))
    (modules / "kernel/gz.ko.gz").write_bytes(gzip.compress(plain))
    found = by_name(module_entries(modules, RELEASE, wanted(demand=("xz", "gz"))))
    assert found["kernel/xz.ko"] == found["kernel/gz.ko"] == plain


@needs_depmod
def test_what_the_kernel_lacks_is_passed_over(modules: Path) -> None:
    """An unknown name, and a module whose dependency is not there, are left out without complaint."""
    found = by_name(module_entries(modules, RELEASE, wanted(boot=("nothing",), demand=("lonely",))))
    assert not [name for name in found if name.endswith(".ko")]
    assert found["etc/modules.boot"] == b""


@needs_depmod
def test_updates_hide_the_kernels_own(modules: Path, make_module: MakeModule) -> None:
    """As with depmod, a module in updates/ is the one that counts."""
    make_module(modules / "updates/core.ko", {"depends": "", "version": "newer"})
    found = by_name(module_entries(modules, RELEASE, wanted(demand=("core",))))
    assert [name for name in found if name.endswith(".ko")] == ["updates/core.ko"]


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01\x01" + b"\xff" * 100, b"hello" * 100])
def test_not_a_module(modules: Path, content: bytes) -> None:
    """A file that only has a module's name is refused with its path."""
    (modules / "kernel/core.ko").write_bytes(content)
    with pytest.raises(UsageError, match=r"core\.ko is not a"):
        module_entries(modules, RELEASE, wanted(demand=("core",)))


def test_truncated_compression(modules: Path) -> None:
    """A compressed module that ends early is refused."""
    (modules / "kernel/core.ko").rename(modules / "core")
    (modules / "kernel/core.ko.xz").write_bytes(lzma.compress(b"x" * 10_000)[:-20])
    with pytest.raises(UsageError, match="truncated"):
        module_entries(modules, RELEASE, wanted(demand=("core",)))


@pytest.mark.parametrize("release", ["", "../../etc", "a b", "x/y"])
def test_release_is_a_name(modules: Path, release: str) -> None:
    """A release that could leave the modules directory is refused."""
    with pytest.raises(UsageError, match="release"):
        module_entries(modules, release, wanted())


def test_key(modules: Path) -> None:
    """The key changes with the list, the release and any module, and not otherwise."""
    key = modules_key(modules, RELEASE, wanted(demand=("core",)))
    assert key == modules_key(modules, RELEASE, wanted(demand=("core",)))
    assert key != modules_key(modules, RELEASE, wanted(boot=("core",)))
    assert key != modules_key(modules, "6.13", wanted(demand=("core",)))
    os.utime(modules / "kernel/other.ko", (1, 1))
    assert key != modules_key(modules, RELEASE, wanted(demand=("core",)))


def test_list() -> None:
    """Lists have comments, and names are spelt with underscores; anything else is an error with the line."""
    assert Wanted.parse("# c\nboot a-b # why\n\ndemand c\n") == wanted(boot=("a_b",), demand=("c",))
    for line in ("load x", "boot", "boot a b"):
        with pytest.raises(InfraError, match=line):
            Wanted.parse(line)
