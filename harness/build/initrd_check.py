"""Looks through an initramfs that a user gives, because a guest with a broken one panics without saying why.

Follows the kernel's own reader: init/initramfs.c (the "newc" format, concatenated archives, zeros between
them) and lib/decompress.c (the magic numbers).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.build.initramfs import TRAILER
from harness.errors import UsageError
from harness.linux.unpacking import Compression, unpacked

__all__ = ["check_initramfs"]

HEADER_BYTES = 110
NAME_LIMIT_BYTES = 4096  # PATH_MAX
ARCHIVE_LIMIT_BYTES = 4 << 30
BLOCK_BYTES = 1 << 20

# lib/decompress.c: the first two bytes decide. None: the kernel unpacks it and we cannot.
COMPRESSED: dict[bytes, tuple[str, Compression | None]] = {
    b"\x1f\x8b": ("gzip", Compression.GZIP),
    b"\x1f\x9e": ("gzip", None),
    b"BZ": ("bzip2", None),
    b"\x5d\x00": ("lzma", Compression.LZMA),
    b"\xfd7": ("xz", Compression.XZ),
    b"\x89L": ("lzo", None),
    b"\x02\x21": ("lz4", Compression.LZ4),
    b"\x28\xb5": ("zstd", Compression.ZSTD),
}


def check_initramfs(path: Path) -> None:
    """Raise UsageError unless `path` is an initramfs that Linux can read to its end.

    A compressed part ends the check: what may follow it is not looked at.
    Raises ToolMissing where a format needs a program that is not installed.
    """
    try:
        with path.open("rb") as file:
            stream = _Stream(path, iter(lambda: file.read(BLOCK_BYTES), b""))
            compressed = _read_archives(stream)
        if compressed is None:
            return
        offset, magic = compressed
        name, compression = _identify(path, offset, magic)
        if compression is not None:
            with unpacked(path, offset, path.stat().st_size - offset, compression) as blocks:
                inner = _Stream(path, blocks, within=f" inside its {name} data")
                if inner.peek(1):
                    _read_archives(inner, only_cpio=True)
                else:
                    inner.complain("holds no archive")
    except OSError as error:
        raise UsageError(f"cannot read the initramfs {path}: {error.strerror or error}") from error


def _identify(path: Path, offset: int, magic: bytes) -> tuple[str, Compression | None]:
    known = COMPRESSED.get(magic[:2])
    if known is not None:
        return known
    where = "begins" if offset == 0 else f"goes on at byte {offset}"
    hint = " (an old cpio format: make it with `cpio -H newc`)" if magic[:6] == b"070707" else ""
    raise UsageError(
        f"{path} is not an initramfs: it {where} with {magic[:6]!r}{hint}. Wanted: a cpio archive in newc "
        "format, as it is or compressed with gzip, xz, lzma, zstd, lz4, lzo or bzip2."
    )


class _Stream:
    """Bytes that are consumed in order; short ones are a truncated archive."""

    def __init__(self, path: Path, blocks: Iterator[bytes], *, within: str = "") -> None:
        self.position = 0
        self._path = path
        self._blocks = blocks
        self._within = within
        self._held = b""

    def complain(self, what: str) -> None:
        """Raise UsageError saying what is wrong and where."""
        raise UsageError(f"the initramfs {self._path} {what} at byte {self.position}{self._within}")

    def peek(self, length: int) -> bytes:
        """The next bytes, fewer only at the end."""
        while len(self._held) < length and (block := next(self._blocks, None)) is not None:
            self._held += block
        return self._held[:length]

    def take(self, length: int) -> bytes:
        """The next bytes, all of them."""
        taken = self.peek(length)
        if len(taken) < length:
            self.complain("is truncated: it ends in the middle of an archive,")
        self._held = self._held[length:]
        self.position += length
        return taken

    def skip(self, length: int) -> None:
        """Pass over that many bytes."""
        while length > 0:
            length -= len(self.take(min(length, BLOCK_BYTES)))

    def skip_zeros(self) -> None:
        """Pass over the padding between archives."""
        while block := self.peek(BLOCK_BYTES):
            rest = block.lstrip(b"\0")
            self.take(len(block) - len(rest))
            if rest:
                return


def _read_archives(stream: _Stream, *, only_cpio: bool = False) -> tuple[int, bytes] | None:
    """Read concatenated archives; where something else begins, its offset and first bytes."""
    found = False
    while True:
        magic = stream.peek(6)
        if not magic:
            if not found:
                stream.complain("is empty: it ends")
            return None
        if magic not in (b"070701", b"070702"):
            if only_cpio:
                stream.complain(f"has {magic!r} where a cpio archive in newc format was wanted,")
            return stream.position, magic
        _read_archive(stream)
        found = True
        stream.skip_zeros()


def _read_archive(stream: _Stream) -> None:
    """One archive through its trailer."""
    while True:
        header = stream.take(HEADER_BYTES)
        try:
            fields = [int(header[start : start + 8], 16) for start in range(6, HEADER_BYTES, 8)]
        except ValueError:
            fields = []
        if header[:6] not in (b"070701", b"070702") or not fields:
            stream.complain("has nonsense where the header of a file was wanted, before the end")
        size, name_size = fields[6], fields[11]
        if not 0 < name_size <= NAME_LIMIT_BYTES or stream.position + size > ARCHIVE_LIMIT_BYTES:
            stream.complain("holds a file with an impossible length,")
        name = stream.take(name_size)[:-1]
        stream.skip(-(HEADER_BYTES + name_size) % 4)
        if name == TRAILER.encode():
            return
        stream.skip(size + -size % 4)
