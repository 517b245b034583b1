"""Kernel files: real formats made by hand, cut short, and files of other kinds."""

from __future__ import annotations

import gzip
import lzma
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ToolMissing, UsageError
from harness.linux import image
from harness.linux.image import (
    ImageHeader,
    Packing,
    boot_time_page_size,
    linux_banner,
    linux_release,
    read_image,
    unpack_image,
)
from harness.spec import PageSize

BANNER = b"Linux version 6.12.1-test (me@here) (gcc 12) # SMP\0"


def raw_image(flags: int, body: bytes = b"") -> bytes:
    """An Image with the header that booting.rst draws: code, six numbers, the magic, a PE offset."""
    header = struct.pack("<2I6Q4sI", 0, 0, 0x80000, 0x200000, flags, 0, 0, 0, b"ARM\x64", 0)
    assert len(header) == 64
    return header + body


def zboot(payload: bytes, compression: bytes) -> bytes:
    """A zboot file as zboot-header.S lays it out, its payload at 4096, padding after it."""
    header = (
        b"MZ\0\0zimg" + struct.pack("<2I8x", 4096, len(payload)) + compression.ljust(32, b"\0") + b"\0" * 8
    )
    return header.ljust(4096, b"\0") + payload + b"\0" * 512


def pe_image(raw_end: int, file_bytes: int) -> bytes:
    """An Image with an EFI stub: one section whose bytes end at `raw_end`."""
    data = bytearray(raw_image(0xA, b"\0" * (file_bytes - 64)))
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, 64)
    struct.pack_into("<4sHH12xHH", data, 64, b"PE\0\0", 0xAA64, 1, 0, 0)
    struct.pack_into("<8s4I16x", data, 88, b".text", raw_end - 512, 512, raw_end - 512, 512)
    return bytes(data)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kernel"


@pytest.mark.parametrize(
    ("flags", "size"),
    [(0x8, None), (0xA, PageSize.K4), (0xC, PageSize.K16), (0xE, PageSize.K64), (0xF, PageSize.K64)],
)
def test_page_size_is_flags_2_1(file: Path, flags: int, size: PageSize | None) -> None:
    """Flags 2:1 tell the page size (booting.rst), and other bits do not disturb it."""
    file.write_bytes(raw_image(flags))
    read = read_image(file)
    assert (read.packing, read.header.page_size) == (Packing.RAW, size)
    assert read.header.is_big_endian is bool(flags & 1)
    assert read.header.may_lie_anywhere


def test_header_numbers(file: Path) -> None:
    """text_offset and image_size are the little-endian words at 8 and 16."""
    header = ImageHeader.parse(raw_image(0))
    assert header is not None
    assert (header.text_offset, header.image_size_bytes) == (0x80000, 0x200000)


RAW = raw_image(0xC, BANNER + random.Random(1).randbytes(1 << 20) + b"\0" * (3 << 20))  # noqa: S311

PACKED = {
    "gzip": (gzip.compress(RAW, mtime=0), Packing.GZIP),
    "zboot-gzip": (zboot(gzip.compress(RAW, mtime=0), b"gzip"), Packing.ZBOOT),
    "zboot-lzma": (zboot(lzma.compress(RAW, lzma.FORMAT_ALONE), b"lzma"), Packing.ZBOOT),
    "zboot-xz": (zboot(lzma.compress(RAW, lzma.FORMAT_XZ), b"xzkern"), Packing.ZBOOT),
}


@pytest.mark.parametrize("kind", PACKED)
def test_unpacks_to_the_same_image(file: Path, tmp_path: Path, kind: str) -> None:
    """gzip and each zboot compression of the standard library give the Image back byte for byte."""
    data, packing = PACKED[kind]
    file.write_bytes(data)
    read = read_image(file)
    assert (read.packing, read.header.page_size) == (packing, PageSize.K16)
    assert unpack_image(file, tmp_path / "Image") == read.header
    assert (tmp_path / "Image").read_bytes() == RAW


@pytest.mark.parametrize(("program", "options"), [("zstd", ["-q"]), ("lz4", ["-l", "-q"])])
def test_unpacks_by_program(file: Path, tmp_path: Path, program: str, options: list[str]) -> None:
    """zboot with zstd or lz4 is unpacked with the program of that name."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {program}")
    packed = subprocess.run([program, *options, "-c"], input=RAW, capture_output=True, check=True).stdout
    file.write_bytes(zboot(packed, program.encode()))
    assert read_image(file).header.page_size is PageSize.K16
    unpack_image(file, tmp_path / "Image")
    assert (tmp_path / "Image").read_bytes() == RAW
    file.write_bytes(zboot(packed[: len(packed) // 2], program.encode()))
    with pytest.raises(UsageError, match="corrupt or truncated"):
        unpack_image(file, tmp_path / "Image")


def test_missing_program_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zstd the error says what to install."""
    monkeypatch.setattr("shutil.which", lambda _name: None)
    file.write_bytes(zboot(b"x" * 100, b"zstd"))
    with pytest.raises(ToolMissing, match="apt-get install zstd"):
        read_image(file)


def test_raw_image_is_copied(file: Path, tmp_path: Path) -> None:
    """Unpacking a raw Image copies it."""
    file.write_bytes(RAW)
    unpack_image(file, tmp_path / "Image")
    assert (tmp_path / "Image").read_bytes() == RAW


@pytest.mark.parametrize("left_bytes", [100_000, 900_000])
@pytest.mark.parametrize("kind", PACKED)
def test_cut_short_is_truncated(file: Path, tmp_path: Path, kind: str, left_bytes: int) -> None:
    """A packed kernel whose end is missing is called truncated."""
    file.write_bytes(PACKED[kind][0][:left_bytes])
    with pytest.raises(UsageError, match="truncated"):
        unpack_image(file, tmp_path / "Image")


def test_corrupt_gzip_is_named(file: Path, tmp_path: Path) -> None:
    """A flipped byte in the data is found by its checksum or its coding."""
    data = bytearray(gzip.compress(RAW))
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(UsageError, match="corrupt"):
        unpack_image(file, tmp_path / "Image")


def test_pe_sections_tell_a_truncated_image(file: Path) -> None:
    """An Image with an EFI stub lists its sections: a file that ends before them is truncated."""
    file.write_bytes(pe_image(raw_end=4096, file_bytes=4096))
    assert read_image(file).header.page_size is PageSize.K4
    file.write_bytes(pe_image(raw_end=8192, file_bytes=4096))
    with pytest.raises(UsageError, match="truncated Image"):
        read_image(file)


def test_bomb_is_bounded(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking stops at the bound."""
    file.write_bytes(gzip.compress(RAW))
    monkeypatch.setattr(image, "MAX_IMAGE_BYTES", 2 << 20)
    with pytest.raises(UsageError, match="more than 512 MiB"):
        unpack_image(file, tmp_path / "Image")
    assert (tmp_path / "Image").stat().st_size <= 2 << 20


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (
            b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<2H", 2, 183) + b"\0" * 60,
            "arch/arm64/boot/Image",
        ),
        (b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<2H", 2, 62) + b"\0" * 60, "x86-64"),
        (b"\x7fELF\1\2\1".ljust(16, b"\0") + struct.pack(">2H", 2, 40) + b"\0" * 60, "32-bit arm"),
        (b"MZ".ljust(0x202, b"\0") + b"HdrS" + b"\0" * 100, "x86 bzImage"),
        (b"\0" * 0x24 + struct.pack("<I", 0x016F2818) + b"\0" * 100, "32-bit arm zImage"),
        (struct.pack(">I", 0x27051956) + b"\0" * 100, "uImage"),
        (struct.pack(">I", 0xD00DFEED) + b"\0" * 100, "device tree"),
        (b"!<arch>\ndebian-binary" + b"\0" * 100, "Debian package"),
        (b"\xed\xab\xee\xdb" + b"\0" * 100, "RPM"),
        (b"070701" + b"0" * 100, "cpio"),
        (b"QFI\xfb" + b"\0" * 100, "qcow2"),
        (b"\0" * 56 + b"RSC\x05" + b"\0" * 100, "RISC-V"),
        (b"MZ" + b"\0" * 100, "PE"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 100, "zstd"),
        (b"#!/bin/sh\n" + b" " * 100, "script"),
        (b"hello world\n" * 20, "text file"),
        (raw_image(0)[:60], "60 bytes long"),
        (b"\x99" * 200, "no magic number"),
        (b"\x1f\x8b" + b"\x99" * 200, "corrupt"),
        (gzip.compress(b"hello world\n" * 20, mtime=0), "holds a text file"),
        (gzip.compress(b"", mtime=0), "holds something|unpacks to nothing"),
        (zboot(gzip.compress(b"\x99" * 100, mtime=0), b"gzip"), "holds something"),
        (zboot(b"x", b"bzip9"), "'bzip9'"),
        (b"MZ\0\0zimg" + struct.pack("<2I", 0xFFFFFFFF, 0xFFFFFFFF) + b"\0" * 60, "truncated EFI zboot"),
        (b"MZ\0\0zimg", "cut off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_named(file: Path, tmp_path: Path, data: bytes, said: str) -> None:
    """Whatever is not an arm64 kernel gets a UsageError that names the file and what it is."""
    file.write_bytes(data)
    for read in (read_image, lambda path: unpack_image(path, tmp_path / "Image")):
        with pytest.raises(UsageError, match=said) as caught:
            read(file)
        assert str(file) in str(caught.value)


def test_directory_and_absence_are_named(tmp_path: Path) -> None:
    """A directory, a missing file and a pipe are refused without being read."""
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("", "is a directory"), ("nothing", "does not exist"), ("pipe", "not a regular file")):
        with pytest.raises(UsageError, match=said):
            read_image(tmp_path / name)


@given(
    data=st.binary(max_size=300),
    prefix=st.sampled_from([b"", b"\x1f\x8b\x08", b"MZ\0\0zimg", b"\x7fELF", b"MZ"]),
)
def test_nonsense_is_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, prefix: bytes
) -> None:
    """No bytes lead to another exception."""
    path = tmp_path_factory.getbasetemp() / "nonsense"
    path.write_bytes(prefix + data)
    with pytest.raises(UsageError):
        read_image(path)


def test_banner_is_the_real_one(file: Path) -> None:
    """Format strings that begin like the banner are passed over."""
    file.write_bytes(raw_image(0, b"Linux version %s (%s)\0Linux version \0" + BANNER))
    banner = linux_banner(file)
    assert banner == "Linux version 6.12.1-test (me@here) (gcc 12) # SMP"
    assert linux_release(banner) == "6.12.1-test"


def test_banner_may_be_absent(file: Path) -> None:
    """An Image without banner gives None."""
    file.write_bytes(raw_image(0, b"Linux version %s (%s)\0"))
    assert linux_banner(file) is None


@pytest.mark.parametrize(
    ("flags", "body", "answer"),
    [(0x8, b"arm64.pagesize=\0", True), (0x8, b"", False), (0xA, b"arm64.pagesize=\0", False)],
)
def test_boot_time_kernels_are_known(file: Path, flags: int, body: bytes, answer: bool) -> None:
    """A boot-time kernel is one whose header leaves the size open and that knows the parameter."""
    file.write_bytes(raw_image(flags, body))
    assert boot_time_page_size(file) is answer
