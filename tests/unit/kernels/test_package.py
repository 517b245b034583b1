"""Kernels in packages: what is taken from them, and what is refused."""

from __future__ import annotations

import gzip
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.initramfs import Entry, file, write_cpio
from harness.cache import Cache
from harness.errors import ToolMissing, UsageError
from harness.kernels.package import PackageFormat, kernel_from_package, package_format
from harness.spec import PageSize

RELEASE = "6.12.1-test"
Pack = Callable[[dict[str, bytes]], Path]
LEAD = b"\xed\xab\xee\xdb\x03\x00" + bytes(90)
HEADER = b"\x8e\xad\xe8\x01" + bytes(12)  # without entries


def deb(directory: Path, files: dict[str, bytes]) -> Path:
    """A package made by dpkg-deb."""
    root = directory / "root"
    about = "Package: k\nVersion: 1\nArchitecture: arm64\nMaintainer: A <a@b>\nDescription: k\n"
    control = {"DEBIAN/control": about.encode()}
    for name, content in (control | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    path = directory / "kernel.deb"
    subprocess.run(
        ["dpkg-deb", "-b", "--root-owner-group", str(root), str(path)], check=True, capture_output=True
    )
    return path


def rpm(directory: Path, files: dict[str, bytes]) -> Path:
    """A package of a lead, two empty headers and a payload, by hand."""
    entries: list[Entry] = [file(name, content) for name, content in files.items()]
    write_cpio(directory / "payload", entries)
    path = directory / "kernel.rpm"
    path.write_bytes(LEAD + HEADER + HEADER + gzip.compress((directory / "payload").read_bytes()))
    return path


@pytest.fixture(params=["deb", "rpm"])
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Pack:
    """Makes a package of either kind."""
    kind = str(request.param)
    needs = {"deb": "dpkg-deb", "rpm": "bsdtar"}[kind]
    if shutil.which(needs) is None:
        pytest.skip(
            f"{needs} is not installed: apt-get install {'dpkg' if kind == 'deb' else 'libarchive-tools'}"
        )
    return lambda files: (deb if kind == "deb" else rpm)(tmp_path, files)


def open_package(cache: Cache, path: Path) -> object:
    """Read it as what it is."""
    kind = package_format(path)
    assert kind is not None
    return kernel_from_package(cache, path, kind)


def test_kernel_config_and_modules(
    pack: Pack, cache: Cache, make_image: Callable[..., bytes], make_module: Callable[[dict[str, str]], bytes]
) -> None:
    """All three are taken from where distributions put them, and nothing else is."""
    path = pack(
        {
            f"boot/vmlinuz-{RELEASE}": make_image(0xC),
            f"boot/config-{RELEASE}": b"CONFIG_ARM64_16K_PAGES=y\n",
            f"usr/lib/modules/{RELEASE}/kernel/a.ko": make_module({"vermagic": f"{RELEASE} SMP"}),
            f"usr/lib/modules/{RELEASE}/modules.order": b"kernel/a.ko\n",
            "usr/share/doc/k/copyright": b"text",
        }
    )
    kind = package_format(path)
    assert kind is not None
    kernel = kernel_from_package(cache, path, kind)
    assert (kernel.page_size, kernel.release, kernel.name) == (PageSize.K16, RELEASE, "kernel")
    assert kernel.config is not None
    assert kernel.config.read_text() == "CONFIG_ARM64_16K_PAGES=y\n"
    assert kernel.modules is not None
    assert (kernel.modules / "kernel/a.ko").is_file()
    assert not list(cache.root.rglob("copyright"))


def test_layout_of_fedora(pack: Pack, cache: Cache, make_image: Callable[..., bytes]) -> None:
    """A kernel and its configuration beside where its modules would be, in another package."""
    path = pack(
        {f"lib/modules/{RELEASE}/vmlinuz": make_image(0xA), f"lib/modules/{RELEASE}/config": b"CONFIG_X=y\n"}
    )
    kind = package_format(path)
    assert kind is not None
    kernel = kernel_from_package(cache, path, kind)
    assert (kernel.page_size, kernel.modules) == (PageSize.K4, None)


def test_no_kernel(pack: Pack, cache: Cache) -> None:
    """A package of something else is told so."""
    with pytest.raises(UsageError, match="holds 0 kernels"):
        open_package(cache, pack({"usr/bin/x": b"x"}))


def test_damaged(pack: Pack, cache: Cache, make_image: Callable[..., bytes]) -> None:
    """A package that was cut short is refused, and nothing of it is kept."""
    path = pack({f"boot/vmlinuz-{RELEASE}": make_image(0xC) + bytes(range(256)) * 400})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 300])
    with pytest.raises(UsageError):
        open_package(cache, path)
    assert not cache.keys("unpacked")


def test_path_that_climbs(tmp_path: Path, cache: Cache, make_image: Callable[..., bytes]) -> None:
    """A member that would leave the entry is not written."""
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed: apt-get install libarchive-tools")
    path = rpm(
        tmp_path, {f"boot/vmlinuz-{RELEASE}": make_image(0xC), "lib/modules/xx/kernel/yy/escaped": b"x"}
    )
    packed = path.read_bytes()
    start = len(LEAD) + 2 * len(HEADER)
    payload = gzip.decompress(packed[start:]).replace(
        b"lib/modules/xx/kernel/yy/", b"lib/modules/../kernel/../"
    )
    path.write_bytes(packed[:start] + gzip.compress(payload))
    kernel_from_package(cache, path, PackageFormat.RPM)
    assert not list(tmp_path.rglob("escaped"))


def test_format_is_told_by_content(tmp_path: Path) -> None:
    """A name says nothing; a file that cannot be read is no package."""
    (tmp_path / "x.deb").write_bytes(b"MZ")
    (tmp_path / "y").write_bytes(LEAD)
    assert package_format(tmp_path / "x.deb") is None
    assert package_format(tmp_path / "y") is PackageFormat.RPM
    assert package_format(tmp_path / "absent") is None
    assert package_format(tmp_path) is None
    assert struct.unpack(">I", PackageFormat.RPM.value) == (0xEDABEEDB,)


def test_missing_tool(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bsdtar the package that has it is named."""
    monkeypatch.setenv("PATH", "/nonexistent")
    (tmp_path / "y").write_bytes(LEAD)
    with pytest.raises(ToolMissing, match="apt-get install libarchive-tools"):
        kernel_from_package(cache, tmp_path / "y", PackageFormat.RPM)
