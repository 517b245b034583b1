"""Kernels that the user gives: files, trees, and what lies beside them."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.file import Beside, kernel_from_file, kernel_from_tree
from harness.spec import PageSize

MakeImage = Callable[..., bytes]


def elf(machine: int) -> bytes:
    """A 64-byte ELF header (ELF-64 Object File Format, figure 2) for that machine."""
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    return ident + struct.pack("<2HI3QI6H", 2, machine, 1, 0, 0, 0, 0, 64, 56, 0, 64, 0, 0)


@pytest.fixture
def given(tmp_path: Path, make_image: MakeImage) -> Path:
    path = tmp_path / "my kernel.gz"
    path.write_bytes(gzip.compress(make_image(0xC, config="CONFIG_ARM64_16K_PAGES=y\n")))
    return path


def test_packed_kernel_is_unpacked_once(cache: Cache, given: Path, make_image: MakeImage) -> None:
    """The Image goes to the cache; name, page size, release, sha256 and configuration come from the file."""
    raw = make_image(0xC, config="CONFIG_ARM64_16K_PAGES=y\n")
    kernel = kernel_from_file(cache, given)
    assert kernel.name == "my-kernel"
    assert kernel.image.is_relative_to(cache.root)
    assert kernel.image.read_bytes() == raw
    assert (kernel.page_size, kernel.release) == (PageSize.K16, "6.12.1-test")
    assert kernel.sha256 == hashlib.sha256(raw).hexdigest()
    assert kernel.config is not None
    assert kernel.config.read_text() == "CONFIG_ARM64_16K_PAGES=y\n"
    assert kernel_from_file(cache, given) == kernel


def test_raw_kernel_is_copied(cache: Cache, tmp_path: Path, make_image: MakeImage) -> None:
    """A raw Image is run from the cache, whatever is written to the file afterwards."""
    path = tmp_path / "Image"
    path.write_bytes(make_image(0x8, release=""))
    kernel = kernel_from_file(cache, path)
    path.write_bytes(b"another")
    assert kernel.image.is_relative_to(cache.root)
    assert kernel.image.read_bytes() == make_image(0x8, release="")
    assert (kernel.page_size, kernel.release, kernel.config) == (None, "unknown", None)
    assert (kernel.name, kernel.origin) == ("Image", f"the file {path} (Image)")


def test_all_that_lies_beside(cache: Cache, given: Path, tmp_path: Path) -> None:
    """Configuration, modules, initrd, vmlinux and command line given outrank what the file has."""
    (tmp_path / "config").write_text("CONFIG_X=y\n")
    modules = tmp_path / "staging/lib/modules/6.12.1-test"
    (modules / "kernel").mkdir(parents=True)
    (tmp_path / "initrd").write_bytes(gzip.compress(b"070701"))
    (tmp_path / "vmlinux").write_bytes(elf(183))
    beside = Beside(
        config=tmp_path / "config",
        modules=tmp_path / "staging",
        initrd=tmp_path / "initrd",
        vmlinux=tmp_path / "vmlinux",
        cmdline="quiet",
    )
    kernel = kernel_from_file(cache, given, beside)
    assert (kernel.config, kernel.initrd, kernel.vmlinux) == (beside.config, beside.initrd, beside.vmlinux)
    assert (kernel.modules, kernel.cmdline) == (modules, "quiet")


@pytest.mark.parametrize("below", ["lib/modules/6.12.1-test", "lib/modules", "."])
def test_modules_are_found_from_any_height(cache: Cache, given: Path, tmp_path: Path, below: str) -> None:
    """lib/modules/RELEASE itself, lib/modules, or what INSTALL_MOD_PATH named: all will do."""
    modules = tmp_path / "root/lib/modules/6.12.1-test"
    modules.mkdir(parents=True)
    (modules / "modules.builtin").touch()
    kernel = kernel_from_file(cache, given, Beside(modules=tmp_path / "root" / below))
    assert kernel.modules == modules


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz", ".ko.gz"])
def test_modules_of_another_kernel_are_refused(
    cache: Cache, given: Path, tmp_path: Path, make_module: Callable[[dict[str, str]], bytes], suffix: str
) -> None:
    """The vermagic of a module tells whose the directory is, whatever its name; both releases are named."""
    packers: dict[str, Callable[[bytes], bytes]] = {".ko.xz": lzma.compress, ".ko.gz": gzip.compress}
    pack = packers.get(suffix, bytes)
    module = tmp_path / f"6.12.1-test/kernel/fs/x{suffix}"
    module.parent.mkdir(parents=True)
    module.write_bytes(pack(make_module({"license": "GPL", "vermagic": "6.1.0-9 SMP mod_unload aarch64"})))
    with pytest.raises(UsageError, match=r"for 6\.1\.0-9, but the kernel is 6\.12\.1-test"):
        kernel_from_file(cache, given, Beside(modules=tmp_path / "6.12.1-test"))


def test_modules_under_another_name(
    cache: Cache, given: Path, tmp_path: Path, make_module: Callable[[dict[str, str]], bytes]
) -> None:
    """Modules built for this kernel will do in a directory of any name."""
    module = tmp_path / "mine/kernel/x.ko"
    module.parent.mkdir(parents=True)
    module.write_bytes(make_module({"vermagic": "6.12.1-test SMP aarch64"}))
    assert kernel_from_file(cache, given, Beside(modules=tmp_path / "mine")).modules == tmp_path / "mine"


def test_directory_of_another_release(cache: Cache, given: Path, tmp_path: Path) -> None:
    """Without a module to ask, the directory's name tells whose it is."""
    (tmp_path / "6.1.0-9/kernel").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"for 6\.1\.0-9, but the kernel is 6\.12\.1-test"):
        kernel_from_file(cache, given, Beside(modules=tmp_path / "6.1.0-9"))


def test_modules_of_a_kernel_without_banner(
    cache: Cache, tmp_path: Path, make_image: MakeImage, make_module: Callable[[dict[str, str]], bytes]
) -> None:
    """Where the kernel does not tell its release there is nothing to disagree with."""
    (tmp_path / "Image").write_bytes(make_image(release=""))
    (tmp_path / "m/kernel").mkdir(parents=True)
    (tmp_path / "m/kernel/x.ko").write_bytes(make_module({"vermagic": "6.1.0-9"}))
    kernel = kernel_from_file(cache, tmp_path / "Image", Beside(modules=tmp_path / "m"))
    assert kernel.modules == tmp_path / "m"


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        (b"hello", "config", "not Kconfig"),
        (b"hello", "vmlinux", "not a vmlinux"),
        (b"", "vmlinux", "not a vmlinux"),
        (elf(62), "vmlinux", "not an arm64 vmlinux"),
        (b"", "initrd", "is empty"),
        (b"hello", "initrd", "neither a cpio archive"),
        (gzip.compress(b"070701" * 1000)[:-10], "initrd", "truncated"),
        (b"hello", "modules", "no modules for 6.12.1-test"),
        (None, "config", "cannot read"),
        (None, "vmlinux", "not a vmlinux"),
        (None, "initrd", "cannot read the initrd"),
        (None, "modules", "no modules"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nonsense_beside_is_named(
    cache: Cache, given: Path, tmp_path: Path, content: bytes | None, field: str, said: str
) -> None:
    """Each file beside the kernel is looked at before anything boots."""
    path = tmp_path / "nonsense"
    if content is not None:
        path.write_bytes(content)
    beside = {
        "config": Beside(config=path),
        "vmlinux": Beside(vmlinux=path),
        "initrd": Beside(initrd=path),
        "modules": Beside(modules=path),
    }[field]
    with pytest.raises(UsageError, match=said) as caught:
        kernel_from_file(cache, given, beside)
    assert str(path) in str(caught.value)


def test_command_line_is_one_line(cache: Cache, given: Path) -> None:
    """A line break in the command line is refused."""
    with pytest.raises(UsageError, match="line break"):
        kernel_from_file(cache, given, Beside(cmdline="a\nb"))


def test_other_files_publish_nothing(cache: Cache, tmp_path: Path) -> None:
    """A file that is no kernel leaves nothing in the cache."""
    (tmp_path / "x").write_bytes(b"hello world\n" * 20)
    with pytest.raises(UsageError, match="text file"):
        kernel_from_file(cache, tmp_path / "x")
    assert cache.list() == ()


def test_build_tree(cache: Cache, tmp_path: Path, make_image: MakeImage) -> None:
    """A tree that was built gives its Image, .config and vmlinux, and its own name."""
    tree = tmp_path / "linux-next"
    (tree / "arch/arm64/boot").mkdir(parents=True)
    (tree / "arch/arm64/boot/Image").write_bytes(make_image(0xE))
    (tree / ".config").write_text("CONFIG_ARM64_64K_PAGES=y\n")
    (tree / "vmlinux").write_bytes(elf(183))
    kernel = kernel_from_tree(cache, tree)
    assert (kernel.name, kernel.page_size) == ("linux-next", PageSize.K64)
    assert (kernel.config, kernel.vmlinux) == (tree / ".config", tree / "vmlinux")
    assert str(tree) in kernel.origin


def test_tree_that_was_not_built(cache: Cache, tmp_path: Path) -> None:
    """A directory without Image gets told how to make one."""
    with pytest.raises(UsageError, match="make ARCH=arm64 Image"):
        kernel_from_tree(cache, tmp_path)
