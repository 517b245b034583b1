"""Combined Images are written as docs/combined.md says; what reads them back here is the tests' own."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import ToolMissing, UsageError
from harness.kernels import combined
from harness.kernels.combined import MemberPacking, assemble, extract, read_members
from harness.linux.image import read_image
from harness.spec import PageSize

SELECTOR = bytes(range(256)) * 32
K4, K16, K64 = 0xA, 0xC, 0xE
MIB = 1 << 20

MakeImage = Callable[..., bytes]


@dataclass
class Read:
    """A combined Image as the document describes it."""

    image_bytes: int
    work_offset: int
    file_bytes: int
    members: dict[str, dict[str, int]]
    data: bytes


def read_back(data: bytes) -> Read:
    """By docs/combined.md."""
    assert data[56:60] == b"ARM\x64"
    magic, version, crc32, count, selector_bytes, file_bytes, work_offset, image_bytes = struct.unpack_from(
        "<8sIIIIQQQ", data, 64
    )
    assert (magic, version, selector_bytes) == (b"granule\x01", 1, len(SELECTOR))
    assert zlib.crc32(data[64 + 16 : 64 + 48 + 3 * 128]) == crc32
    members = {}
    names = ("shift", "packing", "crc32", "", "offset", "packed", "bytes", "image", "text_offset", "")
    for number in range(count):
        *values, name = struct.unpack_from("<IIIIQQQQQQ64s", data, 64 + 48 + 128 * number)
        members[name.rstrip(b"\0").decode()] = dict(zip(names, values, strict=True))
    return Read(image_bytes, work_offset, file_bytes, members, data)


def with_header(
    image: bytes, *, text_offset: int = 0, image_size: int = MIB, flags: int | None = None
) -> bytes:
    """The Image with other numbers in its header (booting.rst)."""
    flags = struct.unpack_from("<Q", image, 24)[0] if flags is None else flags
    return image[:8] + struct.pack("<3Q", text_offset, image_size, flags) + image[32:]


@pytest.fixture
def write(tmp_path: Path, make_image: MakeImage) -> Callable[..., list[tuple[str, Path]]]:
    """Writes an Image for each of some flags; a list of names and paths."""

    def images(*flags: int, **header: int) -> list[tuple[str, Path]]:
        made = []
        for number, flag in enumerate(flags):
            path = tmp_path / f"kernel-{number}"
            path.write_bytes(with_header(make_image(flag, release=f"6.12.{number}"), **header))
            made.append((path.name, path))
        return made

    return images


@pytest.fixture
def selector() -> bytes:
    """Stands for the selector: a header and some code."""
    header = struct.pack("<2I6Q4sI", 0, 0, 0, 0, 8, 0, 0, 0, b"ARM\x64", 0)
    return header + SELECTOR[64:]


Write = Callable[..., list[tuple[str, Path]]]


def combine(selector: bytes, images: list[tuple[str, Path]], *, lz4: bool = False) -> bytes:
    """The bytes of a combined Image."""
    out = io.BytesIO()
    assemble(selector, images, out, lz4=lz4)
    return out.getvalue()


def test_stored(selector: bytes, write: Write) -> None:
    """Each kernel lies where the table says, page by page, and memory is claimed for the largest of all."""
    images = write(K4, K16, K64, image_size=5 * MIB)
    read = read_back(combine(selector, images))
    assert list(read.members) == ["kernel-0", "kernel-1", "kernel-2"]
    end = len(selector)
    for (name, path), shift in zip(images, (12, 14, 16), strict=True):
        member, content = read.members[name], path.read_bytes()
        assert (member["shift"], member["packing"], member["image"]) == (shift, 0, 5 * MIB)
        assert member["offset"] % 4096 == 0
        assert member["offset"] >= end
        end = member["offset"] + member["packed"]
        assert read.data[member["offset"] : end] == content
        assert (member["bytes"], member["crc32"]) == (len(content), zlib.crc32(content))
    assert read.file_bytes == len(read.data) == end + -end % 4096
    assert (read.work_offset, read.image_bytes) == (5 * MIB, 5 * MIB + len(selector))
    assert struct.unpack_from("<3Q", read.data, 8) == (0, read.image_bytes, 8)


def test_memory_of_a_long_file(selector: bytes, write: Write) -> None:
    """Where the file is longer than any kernel takes, the selector moves to behind the file."""
    read = read_back(combine(selector, write(K4, K64, image_size=20480)))
    assert read.work_offset == read.file_bytes > 20480
    shifted = read_back(combine(selector, write(K4, K64, image_size=MIB, text_offset=0x80000)))
    assert shifted.work_offset == MIB + 0x80000


def test_lz4(selector: bytes, write: Write, tmp_path: Path) -> None:
    """Packed kernels unpack with the lz4 program, and the longest of them has room behind the selector."""
    images = write(K4, K64)
    read = read_back(combine(selector, images, lz4=True))
    for name, path in images:
        member = read.members[name]
        packed = read.data[member["offset"] :][: member["packed"]]
        (tmp_path / "packed").write_bytes(packed)
        done = subprocess.run(["lz4", "-dc", tmp_path / "packed"], capture_output=True, check=True)
        assert done.stdout == path.read_bytes()
        assert (member["packing"], member["crc32"]) == (1, zlib.crc32(done.stdout))
    room = read.image_bytes - read.work_offset - len(selector)
    assert room >= max(member["packed"] for member in read.members.values())


def test_lz4_is_named_when_missing(selector: bytes, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lz4 program its package is named."""
    monkeypatch.setattr("harness.linux.lz4.shutil.which", lambda _name: None)
    with pytest.raises(ToolMissing, match="apt-get install lz4"):
        combine(selector, write(K4, K64), lz4=True)


@pytest.mark.parametrize("lz4", [False, True], ids=["stored", "lz4"])
def test_what_was_combined_comes_out(selector: bytes, write: Write, tmp_path: Path, lz4: bool) -> None:
    """The members that are read are those that were written, and each is extracted whole."""
    images = write(K16, K4)
    path = tmp_path / "combined"
    with path.open("wb") as out:
        written = assemble(selector, images, out, lz4=lz4)
    members = read_members(path)
    assert members == written
    assert [member.page_size for member in members] == [PageSize.K16, PageSize.K4]
    assert members[0].packing is (MemberPacking.LZ4 if lz4 else MemberPacking.STORED)
    for member, (_, image) in zip(members, images, strict=True):
        extract(path, member, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == image.read_bytes()
    header = read_image(path).header
    assert (header.page_size, header.may_lie_anywhere, header.is_big_endian) == (None, True, False)


def test_other_files_have_no_members(tmp_path: Path, make_image: MakeImage) -> None:
    """An ordinary Image, and a file shorter than a table, are no combined Images."""
    for content in (make_image(), b"", b"x" * 100):
        (tmp_path / "file").write_bytes(content)
        assert read_members(tmp_path / "file") == ()


REFUSED: tuple[tuple[list[int], dict[str, int], str], ...] = (
    ([K4], {}, "holds two or three kernels"),
    ([K4, K64, K4], {}, "kernel-0 and kernel-2 are both 4K kernels"),
    ([K4, 0x8], {}, "kernel-1 says no page size"),
    ([K4, K64 | 1], {}, "kernel-1 is a big-endian kernel"),
    ([K4, K64], {"image_size": 0}, "kernel-0 says no image_size"),
    ([K4, K64], {"image_size": 4096}, "kernel-0 says image_size 0x1000 in its header"),
    ([K4, K64], {"image_size": 1 << 40}, "no kernel takes over 512 MiB"),
    ([K4, K64], {"text_offset": 1 << 21}, "kernel-0 says text_offset 0x200000"),
    ([K4, K64], {"text_offset": 8}, "kernel-0 says text_offset 0x8"),
)


@pytest.mark.parametrize(("flags", "header", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_refused(selector: bytes, write: Write, flags: list[int], header: dict[str, int], said: str) -> None:
    """What cannot be combined is named with its reason, before anything is written."""
    out = io.BytesIO()
    with pytest.raises(UsageError, match=said):
        assemble(selector, write(*flags, **header), out)
    assert out.getvalue() == b""


def test_not_an_image(selector: bytes, write: Write, tmp_path: Path) -> None:
    """A file that is no Image is named."""
    (tmp_path / "other").write_bytes(b"x" * 100)
    with pytest.raises(UsageError, match="other is not an arm64 Image"):
        combine(selector, [*write(K4), ("other", tmp_path / "other")])


def test_too_large(selector: bytes, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the limit of an Image is refused while it is written."""
    monkeypatch.setattr(combined, "MAX_IMAGE_BYTES", MIB)
    images = write(K4, K64)
    for _, path in images:
        with path.open("ab") as file:
            file.truncate(700 << 10)
    with pytest.raises(UsageError, match="more than 512 MiB"):
        combine(selector, images)


def signed(data: bytearray) -> bytes:
    """With the table's checksum made right."""
    struct.pack_into("<I", data, 64 + 12, zlib.crc32(data[64 + 16 : 64 + 48 + 3 * 128]))
    return bytes(data)


MEMBER_AT = 64 + 48
DAMAGED = (
    (64 + 8, "<I", 9, "version 9 of the format"),
    (64 + 16, "<I", 7, "7 kernels"),
    (64 + 16, "<I", 0, "0 kernels"),
    (MEMBER_AT, "<I", 13, "13 is not a valid PageSize"),
    (MEMBER_AT, "<I", 16, "two kernels of one page size"),
    (MEMBER_AT + 4, "<I", 5, "5 is not a valid MemberPacking"),
    (MEMBER_AT + 16, "<Q", 1 << 60, "lies outside of the file"),
    (MEMBER_AT + 16, "<Q", 0, "lies outside of the file"),
    (MEMBER_AT + 24, "<Q", 1 << 60, "lies outside of the file"),
    (MEMBER_AT + 32, "<Q", 1 << 60, "impossible length"),
)


@pytest.mark.parametrize(("at", "form", "value", "said"), DAMAGED)
def test_damaged_tables(
    selector: bytes, write: Write, tmp_path: Path, at: int, form: str, value: int, said: str
) -> None:
    """A file whose table cannot be is refused with what is wrong, checksum or not."""
    data = bytearray(combine(selector, write(K4, K64)))
    struct.pack_into(form, data, at, value)
    path = tmp_path / "combined"
    path.write_bytes(signed(bytearray(data)))
    with pytest.raises(UsageError, match=said):
        read_members(path)
    path.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        read_members(path)


@pytest.mark.parametrize("lz4", [False, True], ids=["stored", "lz4"])
def test_corrupt_members(selector: bytes, write: Write, tmp_path: Path, lz4: bool) -> None:
    """A kernel that is not what was combined, or longer than said, is not extracted as if it were."""
    path = tmp_path / "combined"
    data = bytearray(combine(selector, write(K4, K64), lz4=lz4))
    path.write_bytes(data)
    first, second = read_members(path)
    data[first.offset + first.packed_bytes // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match="corrupt"):
        extract(path, first, tmp_path / "out")
    extract(path, second, tmp_path / "out")
    struct.pack_into("<Q", data, MEMBER_AT + 128 + 32, second.size_bytes - 8)
    path.write_bytes(signed(data))
    with pytest.raises(UsageError, match="corrupt"):
        extract(path, read_members(path)[1], tmp_path / "out")


def test_names_are_made_harmless(selector: bytes, write: Write, tmp_path: Path) -> None:
    """A name in the file becomes part of cell ids and paths: what does not belong there is replaced."""
    (_, a), (_, b) = write(K4, K64)
    path = tmp_path / "combined"
    path.write_bytes(combine(selector, [("../../etc/\x1b[31m", a), ("x" * 200, b)]))
    names = [member.name for member in read_members(path)]
    assert names == ["etc---31m", "x" * 63]
