"""Kernel files made by hand, and fakes of apt and make, for the tests in this directory."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cache import Cache

MakeImage = Callable[..., bytes]


@pytest.fixture
def make_image() -> MakeImage:
    """Bytes of an Image (booting.rst): flags 2:1 give the page size; a banner; a configuration if wanted."""

    def make(flags: int = 0xA, *, release: str = "6.12.1-test", config: str = "") -> bytes:
        header = struct.pack("<2I6Q4sI", 0, 0, 0, 1 << 20, flags, 0, 0, 0, b"ARM\x64", 0)
        banner = f"Linux version {release} (me@here) (gcc 12) # SMP\0".encode() if release else b""
        packed = b"IKCFG_ST" + gzip.compress(config.encode(), mtime=0) + b"IKCFG_ED" if config else b""
        return header + banner + packed + b"\0" * 4096

    return make


@pytest.fixture
def make_module() -> Callable[[dict[str, str]], bytes]:
    """Bytes of an ELF file with only a `.modinfo` section (ELF-64 Object File Format, figures 2 and 8)."""

    def make(modinfo: dict[str, str]) -> bytes:
        info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in modinfo.items())
        names = b"\0.modinfo\0.shstrtab\0"
        end = 64 + len(info) + len(names)
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        header = struct.pack("<16sHHIQQQIHHHHHH", ident, 1, 183, 1, 0, 0, end, 0, 64, 0, 0, 64, 3, 2)
        section = struct.Struct("<IIQQQQIIQQ")
        table = section.pack(*[0] * 10)
        table += section.pack(1, 1, 0, 0, 64, len(info), 0, 0, 1, 0)
        table += section.pack(10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0)
        return header + info + names + table

    return make


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts fake-apt.sh and fake-make.sh first on PATH; the directory returned is theirs to read and write."""
    here = Path(__file__).parent
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        (programs / name).symlink_to(here / "fake-apt.sh")
    (programs / "make").symlink_to(here / "fake-make.sh")
    state = tmp_path / "fakes"
    state.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FAKES", str(state))
    return state
