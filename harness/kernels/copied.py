"""A kernel file in the cache: what is looked at and booted, whatever happens to the user's meanwhile.

The file may be written to while we run (a build goes on, a link is turned), so it is copied under the hash of
what was copied.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.cache import Cache
from harness.errors import UsageError
from harness.linux.image import MAX_IMAGE_BYTES, read_image, unpack_image
from harness.linux.kconfig import embedded_config

__all__ = ["copied", "shown"]

_KIND = "images"
_BLOCK_BYTES = 1 << 20
# A build may replace the file once between our two looks; one that changes each time is being written.
_ATTEMPTS = 3


class _Changed(Exception):
    """The file is no longer the one that was hashed."""


def copied(cache: Cache, path: Path) -> Path:
    """The cache entry of a file: `Image` (unpacked if need be), `packing`, and `config` if it has one.

    The file is read once to look for its entry, and once more to copy it when there is none; an entry whose
    content is not what its key says is never published. Raises UsageError naming what is wrong with the file.
    """
    for _ in range(_ATTEMPTS):
        with suppress(_Changed):
            digest = _hashed(path)
            return cache.make(
                _KIND, f"copy-{digest}", _copying(path, digest), describe=f"copied from {shown(path.name)}"
            )
    raise UsageError(f"{shown(path)} changes while it is being read. Run again when it has been written.")


def _hashed(path: Path, into: Path | None = None) -> str:
    """SHA-256 of a file, in hex, copied to `into` on the way; raises UsageError when it is too long."""
    digest = hashlib.sha256()
    left_bytes = MAX_IMAGE_BYTES
    with _opened(path) as fd, open(os.devnull if into is None else into, "wb") as out:  # noqa: PTH123 - either
        while block := _read(fd, path):
            left_bytes -= len(block)
            if left_bytes < 0:
                raise UsageError(f"{shown(path)} is over 512 MiB long; no kernel Image is")
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of a regular file; O_NONBLOCK, because opening a FIFO would wait for its writer."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise UsageError(f"{shown(path)} does not exist; wanted an arm64 kernel Image") from None
    except OSError as error:
        raise UsageError(f"{shown(path)} cannot be read: {error.strerror}") from error
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(
                f"{shown(path)} is a directory; give the kernel file in it (arch/arm64/boot/Image of a build "
                "tree)"
            )
        if not stat.S_ISREG(mode):
            raise UsageError(f"{shown(path)} is not a regular file; wanted an arm64 kernel Image")
        yield fd
    finally:
        os.close(fd)


def _read(fd: int, path: Path) -> bytes:
    try:
        return os.read(fd, _BLOCK_BYTES)
    except OSError as error:
        raise UsageError(f"{shown(path)} cannot be read: {error.strerror}") from error


def _copying(path: Path, digest: str) -> Callable[[Path], None]:
    """Fills a cache entry from a file that must still have that hash; raises _Changed where it has not."""

    def build(directory: Path) -> None:
        given, raw = directory / "given", directory / "Image"
        if _hashed(path, given) != digest:
            raise _Changed
        with _named_as(path, given):
            packing = read_image(given).packing
            if packing.is_packed:
                unpack_image(given, raw)
                given.unlink()
            else:
                given.rename(raw)
            text = embedded_config(raw)
        if text is not None:
            (directory / "config").write_text(text, encoding="utf-8")
        (directory / "packing").write_text(packing.value, encoding="utf-8")

    return build


@contextmanager
def _named_as(path: Path, copy: Path) -> Iterator[None]:
    """Errors about the copy name the user's file."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error).replace(str(copy), shown(path))) from error


def shown(path: Path | str) -> str:
    """A path for people and reports: bytes of a name that are not UTF-8 as `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
