"""What an arm64 kernel file is, what its header says, and the raw Image inside it.

Sources: Linux Documentation/arch/arm64/booting.rst (the header), drivers/firmware/efi/libstub/zboot-header.S
(the EFI zboot wrapper). The file is whatever a user gave: every read is bounded, and a file of another kind
is named in the error. `read_image` and `unpack_image` are all that most callers need.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from harness.errors import UsageError
from harness.linux.foreign import describe_foreign
from harness.linux.unpacking import Compression, unpacked
from harness.spec import PageSize

__all__ = [
    "MAX_IMAGE_BYTES",
    "Image",
    "ImageHeader",
    "Packing",
    "boot_time_page_size",
    "linux_banner",
    "linux_release",
    "read_image",
    "unpack_image",
]

MAX_IMAGE_BYTES = 512 << 20
_HEADER_BYTES = 64
_MAGIC = b"ARM\x64"
_MAGIC_AT = 56
_COPY_BYTES = 1 << 20


class Packing(Enum):
    """How the Image lies in the file given."""

    RAW = "Image"
    GZIP = "Image.gz"
    ZBOOT = "EFI zboot"

    @property
    def is_packed(self) -> bool:
        """True where QEMU could not load the file as it is."""
        return self is not Packing.RAW


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """The 64-byte header of an arm64 Image (booting.rst, "Call the kernel image")."""

    text_offset: int
    """Bytes from a 2 MiB boundary to where the Image wants to lie."""
    image_size_bytes: int
    """Memory it takes from there, .bss included; 0 in kernels before v3.17."""
    flags: int

    @classmethod
    def parse(cls, data: bytes) -> ImageHeader | None:
        """From the first 64 bytes of a file; None where the magic number is absent."""
        if len(data) < _HEADER_BYTES or data[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
            return None
        text_offset, image_size, flags = struct.unpack_from("<3Q", data, 8)
        return cls(text_offset=text_offset, image_size_bytes=image_size, flags=flags)

    @property
    def page_size(self) -> PageSize | None:
        """flags 2:1; None is `unspecified`, as boot-time kernels say."""
        return (None, PageSize.K4, PageSize.K16, PageSize.K64)[self.flags >> 1 & 3]

    @property
    def is_big_endian(self) -> bool:
        """flags 0:0."""
        return bool(self.flags & 1)

    @property
    def may_lie_anywhere(self) -> bool:
        """flags 3:3: not bound to the lowest 2 MiB-aligned memory."""
        return bool(self.flags & 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An arm64 kernel file that QEMU can boot once it is unpacked."""

    path: Path
    packing: Packing
    header: ImageHeader


@dataclass(frozen=True, slots=True)
class _Payload:
    """Where the compressed Image lies in the file, and how it is compressed."""

    offset: int
    size_bytes: int
    compression: Compression


def read_image(path: Path) -> Image:
    """Recognise an Image, Image.gz or EFI zboot kernel.

    Raises UsageError naming what was found instead (vmlinux, a bzImage, a package, an empty file, …)
    and ToolMissing when the program that unpacks it is absent.
    """
    with _mapped(path) as data:
        packing, payload = _packing(path, data)
        if payload is None:
            head = bytes(data[:_HEADER_BYTES])
        else:
            with unpacked(path, payload.offset, payload.size_bytes, payload.compression) as stream:
                head = _take(stream, _HEADER_BYTES)
        header = ImageHeader.parse(head)
        if header is None:
            inside = describe_foreign(head) or "something without the arm64 magic number"
            raise UsageError(f"{path} is {packing.value}, but holds {inside}, not an arm64 Image")
        if packing is Packing.RAW:
            _refuse_truncated(path, data)
    return Image(path=path, packing=packing, header=header)


def unpack_image(path: Path, into: Path) -> ImageHeader:
    """Write the raw Image in `path` to the file `into`; a raw one is copied.

    Raises as `read_image` does, and UsageError when the file is truncated, corrupt, or holds more than
    512 MiB.
    """
    with _mapped(path) as data:
        packing, payload = _packing(path, data)
        with into.open("wb") as out:
            if payload is None:
                for start in range(0, len(data), _COPY_BYTES):
                    out.write(data[start : start + _COPY_BYTES])
            else:
                _unpack_payload(path, payload, out.fileno())
    with _mapped(into) as data:
        header = ImageHeader.parse(data[:_HEADER_BYTES])
        if header is None:
            inside = describe_foreign(data[:4096]) or "something without the arm64 magic number"
            raise UsageError(f"{path} is {packing.value}, but holds {inside}, not an arm64 Image")
        _refuse_truncated(path, data)
    return header


def linux_banner(path: Path) -> str | None:
    """The line that starts `Linux version 6.12.1 (`, from a raw Image; None when there is none.

    The kernel also holds format strings that begin alike ("Linux version %s"): a release starts with a digit.
    """
    with _mapped(path) as data:
        found = re.search(rb"Linux version (\d[!-~]{0,80}) \([ -~]{0,400}", data)
        return None if found is None else found.group().decode("ascii").rstrip()


def linux_release(banner: str) -> str:
    """What `uname -r` prints: the first word after `Linux version `."""
    return banner.removeprefix("Linux version ").split(" ", 1)[0]


def boot_time_page_size(path: Path) -> bool:
    """True for a raw Image that chooses its page size at boot, by `arm64.pagesize=`.

    Source: the boot-time page size series of 2024-10-14 (ARM64_BOOT_TIME_PAGE_SIZE): its header says
    `unspecified`, and it knows the parameter.
    """
    with _mapped(path) as data:
        header = ImageHeader.parse(data[:_HEADER_BYTES])
        return header is not None and header.page_size is None and data.find(b"arm64.pagesize") >= 0


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file's bytes; UsageError for what has none or too many."""
    if path.is_dir():
        raise UsageError(
            f"{path} is a directory; give the kernel file in it (arch/arm64/boot/Image of a build tree)"
        )
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file; wanted an arm64 kernel Image")
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes == 0:
                raise UsageError(f"{path} is empty; wanted an arm64 kernel Image")
            if size_bytes > MAX_IMAGE_BYTES:
                raise UsageError(f"{path} is {size_bytes >> 20} MiB long; no kernel Image is over 512 MiB")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; wanted an arm64 kernel Image") from None
    except PermissionError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _packing(path: Path, data: mmap.mmap) -> tuple[Packing, _Payload | None]:
    head = bytes(data[:4096])
    if head[:2] == b"\x1f\x8b":
        return Packing.GZIP, _Payload(0, len(data), Compression.GZIP)
    if head[:2] == b"MZ" and head[4:8] == b"zimg":
        return Packing.ZBOOT, _zboot_payload(path, head, len(data))
    if len(head) < _HEADER_BYTES:
        raise UsageError(
            f"{path} is {len(head)} bytes long, shorter than the 64-byte header of an arm64 Image"
        )
    if head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC:
        return Packing.RAW, None
    found = describe_foreign(head)
    if found is None:
        raise UsageError(
            f"{path} is not an arm64 kernel: no magic number 'ARM\\x64' at byte 56, and no other kind of "
            "file that granule knows. Give an Image, Image.gz or EFI zboot (vmlinuz.efi) file."
        )
    raise UsageError(f"{path} is {found}. Give an arm64 Image, Image.gz or EFI zboot (vmlinuz.efi) file.")


def _zboot_payload(path: Path, head: bytes, file_bytes: int) -> _Payload:
    """zboot-header.S: payload offset and size at 8 and 12, compression name at 24, NUL-padded to 32 bytes."""
    if len(head) < _HEADER_BYTES:
        raise UsageError(f"{path} is an EFI zboot kernel cut off inside its header")
    offset, size_bytes = struct.unpack_from("<2I", head, 8)
    name = head[24:56].split(b"\0", 1)[0].decode("ascii", "backslashreplace")
    if offset + size_bytes > file_bytes or size_bytes == 0:
        raise UsageError(
            f"{path} is a truncated EFI zboot kernel: its payload ends at byte {offset + size_bytes}, "
            f"the file at {file_bytes}"
        )
    compression = Compression.of_zboot(name)
    if compression is None:
        raise UsageError(
            f"{path} is an EFI zboot kernel compressed with '{name}', which granule cannot unpack"
        )
    return _Payload(offset, size_bytes, compression)


def _unpack_payload(path: Path, payload: _Payload, out_fd: int) -> None:
    written = 0
    with unpacked(path, payload.offset, payload.size_bytes, payload.compression) as stream:
        for block in stream:
            written += len(block)
            if written > MAX_IMAGE_BYTES:
                raise UsageError(f"{path} unpacks to more than 512 MiB, which no kernel Image is")
            view = memoryview(block)
            while view:
                view = view[os.write(out_fd, view) :]
    if written == 0:
        raise UsageError(f"{path} unpacks to nothing")


def _take(stream: Iterator[bytes], size_bytes: int) -> bytes:
    taken = b""
    for block in stream:
        taken += block
        if len(taken) >= size_bytes:
            break
    return taken[:size_bytes]


def _refuse_truncated(path: Path, data: mmap.mmap) -> None:
    """Compare the file's length with the sections its PE header lists; Images without EFI stub have none."""
    end = _pe_end(data)
    if end > len(data):
        raise UsageError(
            f"{path} is a truncated Image: its sections end at byte {end}, the file at {len(data)}"
        )


def _pe_end(data: mmap.mmap) -> int:
    """Where the last section's bytes end in the file (PE/COFF specification, section table); 0 if unknown."""
    if data[:2] != b"MZ" or len(data) < _HEADER_BYTES:
        return 0
    (pe,) = struct.unpack_from("<I", data, 0x3C)
    if pe + 24 > len(data) or data[pe : pe + 4] != b"PE\0\0":
        return 0
    sections, optional_bytes = struct.unpack_from("<H12xH", data, pe + 6)
    end = 0
    for number in range(min(sections, 32)):
        at = pe + 24 + optional_bytes + 40 * number
        if at + 40 > len(data):
            return int(at) + 40
        raw_bytes, raw_at = struct.unpack_from("<2I", data, at + 16)
        end = max(end, int(raw_at) + int(raw_bytes))
    return end
