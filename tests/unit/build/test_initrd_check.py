"""check_initramfs: takes what Linux takes, refuses what would end in a panic."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.build.initramfs import file, write_cpio
from harness.build.initrd_check import check_initramfs
from harness.errors import UsageError


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """A small archive."""
    write_cpio(tmp_path / "whole", [file("init", b"#!/bin/sh\n" * 100, 0o755), file("a/b", b"x" * 5001)])
    return (tmp_path / "whole").read_bytes()


def checked(tmp_path: Path, data: bytes) -> None:
    """Check these bytes as a file."""
    (tmp_path / "initrd").write_bytes(data)
    check_initramfs(tmp_path / "initrd")


def test_plain_and_compressed_are_taken(tmp_path: Path, archive: bytes) -> None:
    """An archive as it is, several in a row, and one compressed with gzip, xz or lzma."""
    checked(tmp_path, archive)
    checked(tmp_path, archive + archive + bytes(4096))
    checked(tmp_path, gzip.compress(archive))
    checked(tmp_path, lzma.compress(archive, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32))
    checked(tmp_path, lzma.compress(archive, lzma.FORMAT_ALONE))
    checked(tmp_path, archive + gzip.compress(archive) + bytes(512))


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd: apt-get install zstd")
def test_zstd(tmp_path: Path, archive: bytes) -> None:
    """Debian's way: an uncompressed archive of microcode, then one compressed with zstd."""
    packed = subprocess.run(["zstd", "-qc"], input=archive, capture_output=True, check=True).stdout
    checked(tmp_path, archive + packed)
    with pytest.raises(UsageError, match="truncated"):
        checked(tmp_path, archive + packed[:-20])


@pytest.mark.parametrize("kept", [1, 60, 111, 200, 1500, 5000])
def test_truncated(tmp_path: Path, archive: bytes, kept: int) -> None:
    """An archive cut off anywhere before its trailer is refused, compressed or not."""
    with pytest.raises(UsageError):
        checked(tmp_path, archive[:kept])
    with pytest.raises(UsageError, match="truncated"):
        checked(tmp_path, gzip.compress(archive[:kept] if kept > 110 else archive[:112]))
    with pytest.raises(UsageError, match="truncated"):
        checked(tmp_path, gzip.compress(archive)[:-9])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (bytes(4096), "begins with"),
        (b"MZ\0\0" + bytes(100), "b'MZ"),
        (b"070707" + bytes(100), "old cpio format"),
        (b"070701" + b"x" * 200, "nonsense"),
        (gzip.compress(b"hello", mtime=0), "cpio archive in newc format was wanted"),
        (gzip.compress(b"", mtime=0), "holds no archive"),
        (b"070701" + b"F" * 104 + bytes(100), "impossible length"),
    ],
)
def test_nonsense(tmp_path: Path, data: bytes, named: str) -> None:
    """What is no initramfs is refused with what was found."""
    with pytest.raises(UsageError, match=named):
        checked(tmp_path, data)


def test_garbage_after_an_archive(tmp_path: Path, archive: bytes) -> None:
    """What follows an archive must be one too; the message says where it begins."""
    with pytest.raises(UsageError, match=f"goes on at byte {len(archive)} with b'garbag'"):
        checked(tmp_path, archive + b"garbage!")


def test_missing_file(tmp_path: Path) -> None:
    """A path that is not there, or is a directory, is the user's mistake."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            check_initramfs(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_never_escapes(tmp_path: Path, archive: bytes, data: st.DataObject) -> None:
    """Bytes changed anywhere give an answer or a UsageError, and no other exception."""
    damaged = bytearray(data.draw(st.sampled_from([archive, gzip.compress(archive), lzma.compress(archive)])))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UsageError):
        checked(tmp_path, bytes(damaged))
