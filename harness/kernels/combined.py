"""The file format of combined Images: several kernels behind a selector. docs/combined.md describes it.

What is read may be anybody's file: every number is checked before it is used. guests/selector/selector.h has
the same structures for the guest.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from harness.errors import UsageError
from harness.linux.image import MAX_IMAGE_BYTES, ImageHeader
from harness.linux.lz4 import pack_lz4
from harness.linux.unpacking import Compression, unpacked
from harness.spec import PageSize

__all__ = ["MAX_MEMBERS", "Member", "MemberPacking", "assemble", "extract", "read_members"]

MAX_MEMBERS = 3
_MAGIC = b"granule\1"
_VERSION = 1
_TABLE_AT = 64
_TABLE = struct.Struct("<8s4I3Q")
_CRC_FROM = 16  # struct table: what follows its crc32
_MEMBER = struct.Struct("<4I6Q64s")
_IMAGE_SIZE_AT = 16
_HEAD_BYTES = _TABLE_AT + _TABLE.size + MAX_MEMBERS * _MEMBER.size
_ALIGN = 4096
_IMAGE_ALIGN = 2 << 20  # booting.rst: text_offset counts from such a boundary
_BLOCK_BYTES = 1 << 20


class MemberPacking(Enum):
    """How a member lies in the file; the value is `enum packing` of selector.h."""

    STORED = 0
    LZ4 = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A kernel in a combined Image, as its table has it."""

    name: str
    page_size: PageSize
    packing: MemberPacking
    crc32: int
    """Of the unpacked Image."""
    offset: int
    packed_bytes: int
    size_bytes: int
    """Unpacked."""
    image_bytes: int
    """Memory it takes, .bss included."""
    text_offset: int

    def pack(self) -> bytes:
        """As `struct member` of selector.h."""
        name = self.name.encode(errors="replace")[: 64 - 1]
        return _MEMBER.pack(
            *(self.page_size.value, self.packing.value, self.crc32, 0, self.offset, self.packed_bytes),
            *(self.size_bytes, self.image_bytes, self.text_offset, 0, name),
        )

    @classmethod
    def parse(cls, data: bytes, file_bytes: int) -> Member:
        """From the table of a file of that length; raises ValueError for what cannot be."""
        shift, packing, crc32, _, offset, size, unpacked_bytes, image_bytes, text_offset, _, name = (
            _MEMBER.unpack(data)
        )
        if not _HEAD_BYTES <= offset <= file_bytes or not 0 < size <= file_bytes - offset:
            raise ValueError("a kernel that lies outside of the file")
        if not 64 <= unpacked_bytes <= image_bytes <= MAX_IMAGE_BYTES:
            raise ValueError("a kernel of an impossible length")
        text = name.split(b"\0", 1)[0].decode("ascii", "replace")
        return cls(
            name="".join(c if c.isalnum() or c in "._-" else "-" for c in text).strip("-.") or "kernel",
            page_size=PageSize(shift),
            packing=MemberPacking(packing),
            crc32=crc32,
            offset=offset,
            packed_bytes=size,
            size_bytes=unpacked_bytes,
            image_bytes=image_bytes,
            text_offset=text_offset,
        )


def assemble(
    selector: bytes, images: Sequence[tuple[str, Path]], out: BinaryIO, *, lz4: bool = False
) -> tuple[Member, ...]:
    """Write a combined Image to an empty file.

    Arguments: `selector`, as build_selector makes it; `images`, name and raw Image of each kernel. Raises
    UsageError for what cannot be combined or is too large, and ToolMissing where LZ4 wants a program.
    """
    checked = [(name, image, *_checked(name, image)) for name, image in images]
    _refuse_bad_set([(name, page_size) for name, _, _, page_size in checked])
    members: list[Member] = []
    out.write(selector)
    for name, image, header, page_size in checked:
        offset = out.tell()
        size_bytes, crc32 = _write(image, out, lz4=lz4)
        packed_bytes = out.tell() - offset
        out.write(bytes(-out.tell() % _ALIGN))
        _refuse_too_large(out.tell())
        members.append(
            Member(
                name=name,
                page_size=page_size,
                packing=MemberPacking.LZ4 if lz4 else MemberPacking.STORED,
                crc32=crc32,
                offset=offset,
                packed_bytes=packed_bytes,
                size_bytes=size_bytes,
                image_bytes=header.image_size_bytes,
                text_offset=header.text_offset,
            )
        )
    _write_table(out, len(selector), members)
    return tuple(members)


def read_members(path: Path) -> tuple[Member, ...]:
    """The kernels in a combined Image; none for any other file. Raises UsageError for a damaged table."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file_bytes = os.fstat(file.fileno()).st_size
    if len(head) < _HEAD_BYTES or head[_TABLE_AT : _TABLE_AT + len(_MAGIC)] != _MAGIC:
        return ()
    _, version, crc32, count, *_rest = _TABLE.unpack_from(head, _TABLE_AT)
    try:
        if version != _VERSION:
            raise ValueError(f"version {version} of the format, and this granule knows {_VERSION}")
        if zlib.crc32(head[_TABLE_AT + _CRC_FROM :]) != crc32:
            raise ValueError("a checksum that is wrong")
        if not 0 < count <= MAX_MEMBERS:
            raise ValueError(f"{count} kernels")
        starts = (_TABLE_AT + _TABLE.size + number * _MEMBER.size for number in range(count))
        members = tuple(Member.parse(head[at : at + _MEMBER.size], file_bytes) for at in starts)
        if len({member.page_size for member in members}) != count:
            raise ValueError("two kernels of one page size")
    except ValueError as error:
        raise UsageError(f"{path} is a combined Image, and its member table is damaged: {error}") from None
    return members


def extract(path: Path, member: Member, into: Path) -> None:
    """Write a member's raw Image to a new file; raises UsageError where it is not what the table says."""
    crc32 = written = 0
    with into.open("wb") as out, _contents(path, member) as blocks:
        for block in blocks:
            written += len(block)
            if written > member.size_bytes:
                break
            crc32 = zlib.crc32(block, crc32)
            out.write(block)
    if (written, crc32) != (member.size_bytes, member.crc32):
        raise UsageError(
            f"{path} is a combined Image, and its {member.page_size.label} kernel is corrupt: it is not what "
            "the member table has the length and CRC-32 of. Combine it again."
        )


@contextmanager
def _contents(path: Path, member: Member) -> Iterator[Iterator[bytes]]:
    if member.packing is MemberPacking.LZ4:
        with unpacked(path, member.offset, member.packed_bytes, Compression.LZ4) as stream:
            yield stream
        return
    with path.open("rb") as file:
        file.seek(member.offset)
        yield _blocks(file, member.packed_bytes)


def _blocks(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    while size_bytes > 0 and (block := file.read(min(_BLOCK_BYTES, size_bytes))):
        size_bytes -= len(block)
        yield block


def _checked(name: str, image: Path) -> tuple[ImageHeader, PageSize]:
    """The header and page size of an Image that can be a member; raises UsageError for another."""
    with image.open("rb") as file:
        header = ImageHeader.parse(file.read(64))
        size_bytes = os.fstat(file.fileno()).st_size
    if header is None:
        raise UsageError(f"{name} is not an arm64 Image and cannot be combined")
    if header.page_size is None:
        raise UsageError(
            f"{name} says no page size in its Image header (a boot-time kernel, or a combined Image "
            "already); only kernels of one page size can be combined"
        )
    if header.is_big_endian:
        raise UsageError(f"{name} is a big-endian kernel; only little-endian ones can be combined")
    if header.image_size_bytes == 0:
        raise UsageError(f"{name} says no image_size in its header, as kernels did before v3.17")
    if not size_bytes <= header.image_size_bytes <= MAX_IMAGE_BYTES:
        raise UsageError(
            f"{name} says image_size {header.image_size_bytes:#x} in its header, which cannot be: the file "
            f"has {size_bytes:#x} bytes, and no kernel takes over 512 MiB"
        )
    if header.text_offset % _ALIGN or header.text_offset >= _IMAGE_ALIGN:
        raise UsageError(f"{name} says text_offset {header.text_offset:#x} in its header, which cannot be")
    return header, header.page_size


def _write(image: Path, out: BinaryIO, *, lz4: bool) -> tuple[int, int]:
    """Write an Image, packed or not, and return the length and the CRC-32 of what it unpacks to."""
    size_bytes = crc32 = 0
    with image.open("rb") as file:
        for block in _blocks(file, MAX_IMAGE_BYTES):
            size_bytes, crc32 = size_bytes + len(block), zlib.crc32(block, crc32)
            if not lz4:
                out.write(block)
                _refuse_too_large(out.tell())
    if lz4:
        out.write(pack_lz4(image))
    return size_bytes, crc32


def _refuse_too_large(size_bytes: int) -> None:
    if size_bytes > MAX_IMAGE_BYTES:
        raise UsageError(
            "these kernels make a combined Image of more than 512 MiB, which granule does not boot. Combine "
            "fewer or smaller ones, or pack them (--lz4)."
        )


def _refuse_bad_set(kernels: Sequence[tuple[str, PageSize]]) -> None:
    by_size: dict[PageSize, str] = {}
    for name, page_size in kernels:
        if page_size in by_size:
            raise UsageError(
                f"{by_size[page_size]} and {name} are both {page_size.label} kernels; a combined Image has "
                "one for each page size"
            )
        by_size[page_size] = name
    if len(kernels) < 2:
        raise UsageError("a combined Image holds two or three kernels, of different page sizes; name another")


def _write_table(out: BinaryIO, selector_bytes: int, members: Sequence[Member]) -> None:
    """Fill in the table, and image_size of the header: what memory from the file's start on is used."""
    file_bytes = out.tell()
    needed = (file_bytes, *(member.text_offset + member.image_bytes for member in members))
    work_offset = _rounded(max(needed))
    aside = [member.packed_bytes for member in members if member.packing is MemberPacking.LZ4]
    image_bytes = work_offset + selector_bytes + _rounded(max(aside, default=0))
    table = b"".join(member.pack() for member in members).ljust(MAX_MEMBERS * _MEMBER.size, b"\0")

    def head(crc32: int) -> bytes:
        numbers = (_VERSION, crc32, len(members), selector_bytes, file_bytes, work_offset, image_bytes)
        return _TABLE.pack(_MAGIC, *numbers) + table

    out.seek(_TABLE_AT)
    out.write(head(zlib.crc32(head(0)[_CRC_FROM:])))
    out.seek(_IMAGE_SIZE_AT)
    out.write(struct.pack("<Q", image_bytes))
    out.seek(0, os.SEEK_END)


def _rounded(size_bytes: int) -> int:
    return size_bytes + -size_bytes % _ALIGN
