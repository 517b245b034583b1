"""Unpacking archives that somebody made, with good and bad intentions."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.longrun import quiet
from harness.kernels.trees import tarball
from harness.kernels.trees.tarball import opened_tarball, unpack_tar


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1_600_000_000
    return info


def archive(*members: tarfile.TarInfo) -> bytes:
    """A tar whose regular files all hold `data`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info in members:
            if info.isreg():
                info.size = 4
            tar.addfile(info, io.BytesIO(b"data") if info.isreg() else None)
    return buffer.getvalue()


def unpack(data: bytes, into: Path) -> Path:
    unpack_tar(iter([data]), into, where="x.tar", progress=quiet)
    return into


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


def test_files_links_modes_and_times(into: Path) -> None:
    """Regular files, directories, links of both kinds, execute permission and times come out."""
    data = archive(
        member("linux", tarfile.DIRTYPE, mode=0o700),
        member("linux/a/b.c"),
        member("linux/run", mode=0o4755),
        member("linux/link", tarfile.SYMTYPE, link="a/b.c"),
        member("linux/a/up", tarfile.SYMTYPE, link="../run"),
        member("linux/hard", tarfile.LNKTYPE, link="linux/a/b.c"),
    )
    top = unpack(data, into) / "linux"
    assert (top / "link").read_text() == (top / "a/up").read_text() == (top / "hard").read_text() == "data"
    assert (top / "run").stat().st_mode & 0o7777 == 0o755
    assert (top / "a/b.c").stat().st_mtime == 1_600_000_000


@pytest.mark.parametrize("program", ["", "gzip", "xz", "zstd"])
def test_compressions_are_told_by_content(tmp_path: Path, into: Path, program: str) -> None:
    """Whatever the file is called, .tar and what gzip, xz and zstd make of it are unpacked."""
    path = tmp_path / "source.bin"
    data = archive(member("linux/a.c"))
    packed = (
        subprocess.run([program, "-c"], input=data, capture_output=True, check=True).stdout
        if program
        else data
    )
    path.write_bytes(packed)
    with opened_tarball(path) as stream:
        unpack_tar(stream, into, where=path.name, progress=quiet)
    assert (into / "linux/a.c").read_text() == "data"


@pytest.mark.parametrize("data", [b"", b"hello", b"BZh91AY&SY", b"\x7fELF" + bytes(600)])
def test_other_files_are_no_tarballs(tmp_path: Path, data: bytes) -> None:
    """What is neither is refused with the formats that are."""
    path = tmp_path / "x.tar.xz"
    path.write_bytes(data)
    with (
        pytest.raises(UsageError, match=r"wanted \.tar, or that compressed with gzip, xz or zstd"),
        opened_tarball(path),
    ):
        pass


@pytest.mark.parametrize(
    "cut", [slice(0, 512 + 100), slice(0, 1024), slice(0, 512), slice(0, 1024 + 300), slice(0, 2048)]
)
def test_cut_archive_is_told_wherever_it_is_cut(into: Path, cut: slice) -> None:
    """In a file, in a header, and between two members, where tarfile would take it for the end."""
    data = archive(member("linux/a.c"), member("linux/b.c"))
    with pytest.raises(UsageError, match=r"x\.tar is truncated"):
        unpack(data[cut], into)


@pytest.mark.parametrize("program", ["gzip", "xz", "zstd"])
def test_cut_compressed_archive_is_told(tmp_path: Path, into: Path, program: str) -> None:
    """A download that ended early, however it is packed."""
    path = tmp_path / "x.tar"
    data = archive(*(member(f"linux/{number}.c") for number in range(50)))
    packed = subprocess.run([program, "-c"], input=data, capture_output=True, check=True).stdout
    path.write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(UsageError, match="truncated"), opened_tarball(path) as stream:
        unpack_tar(stream, into, where="x.tar", progress=quiet)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "linux/../../x", "linux/.."])
def test_path_out_of_the_archive_is_refused(into: Path, name: str) -> None:
    """Nothing is written outside of the directory."""
    with pytest.raises(UsageError, match="holds a path that leaves it"):
        unpack(archive(member("linux/a"), member(name)), into)
    assert [path.name for path in into.parent.iterdir()] == ["into"]


@pytest.mark.parametrize("target", ["/etc", "../../..", "../sibling", "a/../../../x"])
def test_link_out_of_the_tree_is_refused(into: Path, target: str) -> None:
    """A symbolic link stays in the archive's one directory."""
    with pytest.raises(UsageError, match="a link out of the tree"):
        unpack(archive(member("linux/a/x"), member("linux/link", tarfile.SYMTYPE, link=target)), into)


def test_link_by_way_of_a_link_is_refused(into: Path) -> None:
    """What `..` means after a link is asked of the file system."""
    data = archive(
        member("linux/d/e/f"),
        member("linux/d/e/l", tarfile.SYMTYPE, link="../../d"),
        member("linux/out", tarfile.SYMTYPE, link="d/e/l/../../x"),
    )
    with pytest.raises(UsageError, match="a link out of the tree"):
        unpack(data, into)


def test_nothing_is_written_through_a_link(into: Path, tmp_path: Path) -> None:
    """A member behind a link of the archive's own is refused before it is written."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = archive(member("linux/l", tarfile.SYMTYPE, link=str(elsewhere)), member("linux/l/x"))
    with pytest.raises(UsageError, match="behind its own link"):
        unpack(data, into)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("link", ["../../etc/passwd", "linux/later", "linux/l"])
def test_hard_link_to_anything_else_is_refused(into: Path, link: str) -> None:
    """A hard link is to a file that came before it in the archive."""
    data = archive(
        member("linux/a"),
        member("linux/l", tarfile.SYMTYPE, link="a"),
        member("linux/h", tarfile.LNKTYPE, link=link),
    )
    with pytest.raises(UsageError, match=r"leaves it|no file it held before"):
        unpack(data, into)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(into: Path, kind: bytes) -> None:
    """A source tree has neither devices nor FIFOs."""
    with pytest.raises(UsageError, match="a device or FIFO, linux/dev"):
        unpack(archive(member("linux/dev", kind)), into)


def test_size_and_number_are_bounded(into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is given up where it passes what a kernel could be."""

    def endless() -> Iterator[bytes]:
        info = member("linux/bomb")
        info.size = 1 << 40
        yield info.tobuf()
        while True:
            yield bytes(1 << 20)

    monkeypatch.setattr(tarball, "MAX_TREE_BYTES", 4 << 20)
    with pytest.raises(UsageError, match="no kernel tree does"):
        unpack_tar(endless(), into, where="x.tar", progress=quiet)
    monkeypatch.setattr(tarball, "MAX_TREE_FILES", 2)
    with pytest.raises(UsageError, match="holds over 2 files"):
        unpack(archive(*(member(f"linux/{number}") for number in range(4))), tmp_path / "other")
