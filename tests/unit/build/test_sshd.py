"""Tests of harness.build.sshd with packages made up of ELF headers."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build.sshd import build_sshd
from harness.cache import Cache
from harness.errors import InfraError

LIBRARIES = "usr/lib/aarch64-linux-gnu"
AARCH64, X86_64 = 183, 62


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


def _elf(needed: tuple[str, ...], align: int = 0x10000, machine: int = AARCH64) -> bytes:
    """An ELF file with one segment to load, and a dynamic section that names libraries."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    at = [1 + sum(len(name) + 1 for name in needed[:index]) for index in range(len(needed))]
    dynamic = b"".join(struct.pack("<QQ", 1, offset) for offset in at) + struct.pack("<QQ", 0, 0)
    start = 64 + 56
    body = strings + dynamic
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        3,
        machine,
        1,
        0,
        64,
        start + len(body),
        0,
        64,
        56,
        1,
        64,
        3,
        1,
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, start, start, align)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, start, len(strings), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 6, 0, 0, start + len(strings), len(dynamic), 1, 0, 8, 16)
    return header + segment + body + sections


def _write(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three packages: the programs, a library that needs another, and a C library."""
    programs, crypt, libc = (tmp_path / name for name in ("dropbear-bin_1", "libtomcrypt1_1", "libc6_1"))
    _write(programs, "usr/sbin/dropbear", _elf(("libtomcrypt.so.1", "libc.so.6")))
    _write(programs, "usr/bin/dropbearkey", _elf(("libc.so.6",)))
    _write(crypt, f"{LIBRARIES}/libtomcrypt.so.1.0", _elf(("libmath.so.1", "libc.so.6")))
    (crypt / LIBRARIES / "libtomcrypt.so.1").symlink_to("libtomcrypt.so.1.0")
    _write(crypt, f"{LIBRARIES}/libmath.so.1", _elf(()))
    _write(crypt, f"{LIBRARIES}/libother.so.1", _elf(()))
    _write(libc, f"{LIBRARIES}/libc.so.6", _elf(("ld-linux-aarch64.so.1",)))
    _write(libc, f"{LIBRARIES}/ld-linux-aarch64.so.1", _elf(()))
    return programs, crypt, libc


def test_an_archive_with_all_that_is_needed(cache: Cache, roots: tuple[Path, ...]) -> None:
    """Both programs, every library that any of them needs, links followed, and nothing else."""
    with tarfile.open(build_sshd(cache, roots)) as archive:
        members = {member.name: member for member in archive.getmembers()}
        assert set(members) == {
            "dropbear",
            "dropbearkey",
            "lib/libtomcrypt.so.1",
            "lib/libmath.so.1",
            "lib/libc.so.6",
            "lib/ld-linux-aarch64.so.1",
        }
        assert {(member.mode, member.uid, member.mtime) for member in members.values()} == {(0o755, 0, 0)}
        taken = archive.extractfile("lib/libtomcrypt.so.1")
        assert taken is not None
        assert taken.read() == (roots[1] / LIBRARIES / "libtomcrypt.so.1.0").read_bytes()


def test_it_is_made_once(cache: Cache, roots: tuple[Path, ...]) -> None:
    """The same packages have the same archive, without being read again; other ones another."""
    first = build_sshd(cache, roots)
    (roots[0] / "usr/sbin/dropbear").unlink()
    assert build_sshd(cache, roots) == first
    newer = roots[0].rename(roots[0].with_name("dropbear-bin_2"))
    with pytest.raises(InfraError, match="usr/sbin/dropbear"):
        build_sshd(cache, (newer, *roots[1:]))


def test_a_missing_library_is_named(cache: Cache, roots: tuple[Path, ...]) -> None:
    """A library that no package has is an error with its name, and nothing is kept."""
    (roots[1] / LIBRARIES / "libmath.so.1").unlink()
    with pytest.raises(InfraError, match=r"libmath\.so\.1"):
        build_sshd(cache, roots)
    assert cache.list() == ()


@pytest.mark.parametrize(
    "content",
    [_elf((), align=0x1000), _elf((), machine=X86_64), b"#!/bin/sh\n", b""],
    ids=["4k", "x86", "sh", ""],
)
def test_what_no_64k_kernel_could_run(cache: Cache, roots: tuple[Path, ...], content: bytes) -> None:
    """A library aligned for 4K pages, for another machine, or none at all is refused here."""
    (roots[1] / LIBRARIES / "libmath.so.1").write_bytes(content)
    with pytest.raises(InfraError, match=r"libmath\.so\.1"):
        build_sshd(cache, roots)


def test_a_link_out_of_a_package(cache: Cache, roots: tuple[Path, ...], tmp_path: Path) -> None:
    """A package that links to a file of this host's does not get it into the guest."""
    outside = _write(tmp_path, "outside/libmath.so.1", _elf(()))
    library = roots[1] / LIBRARIES / "libmath.so.1"
    library.unlink()
    library.symlink_to(outside)
    with pytest.raises(InfraError, match=r"libmath\.so\.1"):
        build_sshd(cache, roots)
