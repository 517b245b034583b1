"""Unpacks a tar archive of somebody's into an empty directory, and nothing of it elsewhere.

Source: tarfile's own documentation on untrusted archives; its extraction filters are younger than the Python
of Debian 12, so what may come out is checked here.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from harness.errors import UsageError
from harness.kernels.longrun import Progress
from harness.linux.unpacking import Compression, unpacked

__all__ = ["MAX_TREE_BYTES", "MAX_TREE_FILES", "opened_tarball", "unpack_tar"]

MAX_TREE_BYTES = 8 << 30
"""Linux 6.12 takes 1.5 GiB."""
MAX_TREE_FILES = 1_000_000
"""Linux 6.12 has 87,000."""

_MAGICS = {b"\x1f\x8b": Compression.GZIP, b"\xfd7zXZ": Compression.XZ, b"\x28\xb5\x2f\xfd": Compression.ZSTD}
_BLOCK_BYTES = 1 << 20
_TOLD_EVERY = 2000
_USTAR = slice(257, 262)
_END = bytes(512)  # POSIX pax, "ustar Interchange Format": an archive ends with blocks of zeros


@contextmanager
def opened_tarball(path: Path) -> Iterator[Iterator[bytes]]:
    """The blocks of a .tar, .tar.gz, .tar.xz or .tar.zst, by its content and not its name.

    Raises UsageError for other files, and from the stream for truncated data; ToolMissing (zstd).
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UsageError(f"cannot read the tarball {path}: {error.strerror}") from error
    compression = next((known for magic, known in _MAGICS.items() if head.startswith(magic)), None)
    if compression is not None:
        with unpacked(path, 0, path.stat().st_size, compression) as stream:
            yield stream
    elif head[_USTAR] == b"ustar":
        with path.open("rb") as file:
            yield iter(lambda: file.read(_BLOCK_BYTES), b"")
    else:
        raise UsageError(f"{path} is not a tarball: wanted .tar, or that compressed with gzip, xz or zstd")


def unpack_tar(stream: Iterator[bytes], into: Path, *, where: str, progress: Progress) -> None:
    """Make the directory `into` and put the archive's files there, with their times.

    Raises UsageError, naming `where`, for an archive that is cut short or larger than any kernel, for a path
    or link that leaves it, and for anything but files, directories and links.
    """
    into.mkdir()
    reader = _Reader(stream, where)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, reader), mode="r|") as archive:
            _unpack(archive, into, where, progress)
    except (tarfile.TarError, EOFError) as error:
        raise UsageError(f"{where} is truncated or no tar archive: {error}") from error
    reader.check_end()
    _check_links(into, where)


class _Reader:
    """A stream of blocks as the file that tarfile reads, which remembers how it ended."""

    def __init__(self, stream: Iterator[bytes], where: str) -> None:
        self._stream = stream
        self._where = where
        self._buffer = bytearray()
        self._last = b""
        self._left_bytes = MAX_TREE_BYTES

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._buffer) < size and (block := next(self._stream, None)) is not None:
            self._left_bytes -= len(block)
            if self._left_bytes < 0:
                raise UsageError(
                    f"{self._where} unpacks to over {MAX_TREE_BYTES >> 30} GiB; no kernel tree does"
                )
            self._buffer += block
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._last = (self._last + data)[-len(_END) :]
        return data

    def check_end(self) -> None:
        """Raise UsageError unless the archive has its end mark: tarfile takes any end for the end."""
        while self.read(_BLOCK_BYTES):
            pass
        if self._last != _END:
            raise UsageError(f"{self._where} is truncated: its end is missing")


def _unpack(archive: tarfile.TarFile, into: Path, where: str, progress: Progress) -> None:
    links: set[Path] = set()
    now = time.time()
    for count, member in enumerate(archive):
        archive.members = []  # type: ignore[attr-defined]  # else it keeps all it has read
        if count > MAX_TREE_FILES:
            raise UsageError(f"{where} holds over {MAX_TREE_FILES} files; no kernel tree does")
        if count % _TOLD_EVERY == 0:
            progress(count, None, f"unpacking {where}")
        target = _place(into, member.name, where, links)
        if target == into:
            continue
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        links.discard(target)
        if member.issym():
            target.symlink_to(member.linkname)
            links.add(target)
        elif member.islnk():
            os.link(_linked_file(into, member.linkname, where, links), target, follow_symlinks=False)
        elif member.isreg():
            _write(archive, member, target, now)
        else:
            raise UsageError(f"{where} holds a device or FIFO, {member.name[:100]}; a source tree has none")


def _place(into: Path, name: str, where: str, links: set[Path]) -> Path:
    """Where a member goes; raises UsageError for one that would land elsewhere."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise UsageError(f"{where} holds a path that leaves it: {name[:100]}")
    target = into.joinpath(*parts)
    through = next((parent for parent in target.parents if parent in links), None)
    if through is not None:
        raise UsageError(f"{where} holds {name[:100]}, which lies behind its own link {through.name[:100]}")
    return target


def _linked_file(into: Path, name: str, where: str, links: set[Path]) -> Path:
    found = _place(into, name, where, links)
    if found in links or not found.is_file():
        raise UsageError(f"{where} links to {name[:100]}, which is no file it held before")
    return found


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, now: float) -> None:
    content = archive.extractfile(member)
    assert content is not None  # noqa: S101 - a regular file has content
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, _BLOCK_BYTES)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
    made = min(max(member.mtime, 0), now)  # make distrusts files from the future
    os.utime(target, (made, made))


def _check_links(into: Path, where: str) -> None:
    """Every link leads into the tree: the archive's one directory, or its top where it has several."""
    tops = list(into.iterdir())
    root = Path(os.path.realpath(tops[0] if len(tops) == 1 else into))
    for folder, directories, files in os.walk(into):
        for name in (*directories, *files):
            path = Path(folder) / name
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                raise UsageError(f"{where} holds a link out of the tree: {name[:100]} to {path.readlink()}")
