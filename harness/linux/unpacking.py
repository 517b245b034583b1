"""Streaming decompression of the formats a kernel may wrap its Image in, never trusting the data.

A stream yields blocks of at most 1 MiB and stops reading where its consumer stops, so a bomb costs no
more than the consumer's own bound.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from harness.errors import ToolMissing, UsageError

__all__ = ["Compression", "unpacked"]

_BLOCK_BYTES = 1 << 20
_LZMA_MEMORY_BYTES = 256 << 20


class Compression(Enum):
    """A compressed format; the value is the name that zboot-header.S stores."""

    GZIP = "gzip"
    LZMA = "lzma"
    XZ = "xzkern"
    ZSTD = "zstd"
    LZ4 = "lz4"

    @classmethod
    def of_zboot(cls, name: str) -> Compression | None:
        """By the name in an EFI zboot header (drivers/firmware/efi/libstub/Makefile.zboot)."""
        aliases = {"xz": cls.XZ, "zstd22": cls.ZSTD}
        return aliases.get(name) or next((known for known in cls if known.value == name), None)

    @property
    def program(self) -> str | None:
        """The program that unpacks it, where Python's standard library cannot."""
        return {Compression.ZSTD: "zstd", Compression.LZ4: "lz4"}.get(self)


@contextmanager
def unpacked(path: Path, offset: int, size_bytes: int, compression: Compression) -> Iterator[Iterator[bytes]]:
    """The unpacked bytes of `path[offset : offset + size_bytes]`, as a stream of blocks.

    Raises UsageError, from the stream, for truncated or corrupt data, and ToolMissing where the format needs
    a program that is not installed.
    """
    with path.open("rb") as file:
        file.seek(offset)
        if compression.program is not None:
            with _by_program(path, file, size_bytes, compression.program) as stream:
                yield stream
        elif compression is Compression.GZIP:
            yield _gunzip(path, _blocks(file, size_bytes))
        else:
            yield _unlzma(path, _blocks(file, size_bytes))


def _blocks(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    while size_bytes > 0:
        block = file.read(min(_BLOCK_BYTES, size_bytes))
        if not block:
            return
        size_bytes -= len(block)
        yield block


def _gunzip(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for packed in blocks:
            while packed and not engine.eof:
                yield engine.decompress(packed, _BLOCK_BYTES)
                packed = engine.unconsumed_tail
            if engine.eof:
                return
        yield engine.flush()  # what a full block held back
        if engine.eof:
            return
    except zlib.error as error:
        raise UsageError(f"{path} is corrupt: its gzip data does not unpack ({error})") from error
    raise UsageError(f"{path} is truncated: its gzip data ends early")


def _unlzma(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    engine = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_LZMA_MEMORY_BYTES)
    try:
        for packed in blocks:
            feed = packed
            while not engine.eof:
                yield engine.decompress(feed, _BLOCK_BYTES)
                feed = b""
                if engine.needs_input:
                    break
            if engine.eof:
                return
    except lzma.LZMAError as error:
        raise UsageError(f"{path} is corrupt: its xz or lzma data does not unpack ({error})") from error
    raise UsageError(f"{path} is truncated: its xz or lzma data ends early")


@contextmanager
def _by_program(path: Path, file: BinaryIO, size_bytes: int, program: str) -> Iterator[Iterator[bytes]]:
    """Unpack with `program -dc`, whose input is a copy of the payload: it would read on into the padding."""
    if shutil.which(program) is None:
        raise ToolMissing(program, package=program)
    with tempfile.TemporaryFile() as payload, tempfile.TemporaryFile() as errors:
        for block in _blocks(file, size_bytes):
            payload.write(block)
        payload.seek(0)
        process = subprocess.Popen(
            [program, "-dc"], stdin=payload, stdout=subprocess.PIPE, stderr=errors, bufsize=0
        )
        try:
            yield _output(path, process, errors, program)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _output(path: Path, process: subprocess.Popen[bytes], errors: BinaryIO, program: str) -> Iterator[bytes]:
    assert process.stdout is not None  # noqa: S101 - asked for with PIPE
    while block := process.stdout.read(_BLOCK_BYTES):
        yield block
    if process.wait() != 0:
        errors.seek(0)
        said = errors.read(300).decode("utf-8", "replace").strip()
        raise UsageError(f"{path} is corrupt or truncated: {program} could not unpack it ({said})")
