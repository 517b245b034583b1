"""The archive writer, judged by cpio(1) where it is there and by a reader of the tests' own."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.initramfs import Entry, device, directory, file, symlink, tree, write_cpio

Members = list[tuple[str, int, bytes]]

ENTRIES = (
    file("init", b"#!/bin/sh\n", 0o755),
    symlink("bin/sh", "busybox"),
    file("bin/busybox", bytes(range(256)) * 3, 0o755),
    directory("proc"),
    device("dev/console", 5, 1),
)


def test_order_does_not_matter(tmp_path: Path) -> None:
    """The same entries give the same bytes, in whatever order they come."""
    write_cpio(tmp_path / "a", ENTRIES)
    write_cpio(tmp_path / "b", reversed(ENTRIES))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_members(tmp_path: Path, read_members: Callable[[bytes], Members]) -> None:
    """Every entry is there with type, permissions and data, and after its parent directory."""
    write_cpio(tmp_path / "a", ENTRIES)
    assert read_members((tmp_path / "a").read_bytes()) == [
        ("bin", stat.S_IFDIR | 0o755, b""),
        ("bin/busybox", stat.S_IFREG | 0o755, bytes(range(256)) * 3),
        ("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
        ("dev", stat.S_IFDIR | 0o755, b""),
        ("dev/console", stat.S_IFCHR | 0o600, b""),
        ("init", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        ("proc", stat.S_IFDIR | 0o755, b""),
    ]


@pytest.mark.skipif(shutil.which("cpio") is None, reason="needs cpio: apt-get install cpio")
def test_cpio_agrees(tmp_path: Path) -> None:
    """cpio(1) lists the archive as it was meant: types, owner, date, device numbers, link target."""
    write_cpio(tmp_path / "a", ENTRIES)
    listed = subprocess.run(
        ["cpio", "-itv", "--numeric-uid-gid", "--quiet", "-F", tmp_path / "a"],
        capture_output=True,
        text=True,
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=True,
    ).stdout.splitlines()
    fields = [line.split(None, 8) for line in listed]
    assert all(field[2:4] == ["0", "0"] for field in fields)
    by_name = {line.split("1970 ")[1]: line for line in listed}
    assert by_name["init"].startswith("-rwxr-xr-x")
    assert by_name["bin/sh -> busybox"].startswith("l")
    assert by_name["dev/console"].startswith("crw-------")
    assert "5,   1" in by_name["dev/console"]


def test_archives_can_be_concatenated(tmp_path: Path, read_members: Callable[[bytes], Members]) -> None:
    """An archive's length is a multiple of 512, so that another can follow where the kernel looks for it."""
    write_cpio(tmp_path / "a", [file("x", b"123")])
    data = (tmp_path / "a").read_bytes()
    assert len(data) % 512 == 0
    assert [name for name, _, _ in read_members(data + data)] == ["x", "x"]


@pytest.mark.parametrize("name", ["", "/etc", "a//b", "../x", "a/..", "./a", "a\0b"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    """A name that an archive should not hold is refused."""
    with pytest.raises(ValueError, match="not a name"):
        write_cpio(tmp_path / "a", [Entry(name=name, mode=stat.S_IFREG)])


def test_same_name_twice(tmp_path: Path) -> None:
    """Two entries of one name are a mistake of the caller."""
    with pytest.raises(ValueError, match="twice"):
        write_cpio(tmp_path / "a", [file("x", b""), directory("x")])


def test_tree(tmp_path: Path) -> None:
    """A directory becomes entries with permissions and links kept, and nothing else of this machine."""
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "run").write_bytes(b"x")
    (tmp_path / "d" / "sub" / "run").chmod(0o750)
    (tmp_path / "d" / "link").symlink_to("sub/run")
    (tmp_path / "d").chmod(0o755)
    (tmp_path / "d" / "sub").chmod(0o700)
    assert tree(tmp_path / "d", "opt/d") == (
        directory("opt/d"),
        symlink("opt/d/link", "sub/run"),
        directory("opt/d/sub", 0o700),
        file("opt/d/sub/run", b"x", 0o750),
    )
