"""A kernel in the cache and the file beside it, provenance.json, that says what it is and whence it came."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.cache import Cache
from harness.errors import InfraError
from harness.kernels.kernel import Kernel
from harness.linux.image import Image, boot_time_page_size, linux_banner, linux_release, read_image
from harness.spec import PageSize

__all__ = [
    "KIND",
    "Record",
    "describe_image",
    "find_made",
    "find_published",
    "find_sha256",
    "sha256_of",
]

KIND = "kernels"
"""The cache's kind of entry for kernels."""

_FILE = "provenance.json"
_MODULES = Path("lib/modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What provenance.json holds."""

    origin: str
    """One line, for people."""
    release: str
    image_sha256: str
    page_size_bytes: int | None
    """From the Image header; None for `unspecified`."""
    recipe: str
    """What it was made from, without version or toolchain: equal recipes may stand in for each other."""
    made: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    details: dict[str, str] = field(default_factory=dict)
    """Package, version, sha256 of the .deb, compiler, fragments: whatever applies."""

    def write(self, directory: Path) -> None:
        """Put the record beside the kernel's files."""
        (directory / _FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Record | None:
        """The record in a cache entry, or None where it is absent or of another version of granule."""
        try:
            return cls(**json.loads((directory / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def kernel(self, directory: Path, name: str) -> Kernel:
        """The kernel in that cache entry."""
        modules = directory / _MODULES / self.release
        return Kernel(
            name=name,
            image=directory / "Image",
            page_size=None if self.page_size_bytes is None else PageSize.of_bytes(self.page_size_bytes),
            release=self.release,
            sha256=self.image_sha256,
            origin=self.origin,
            config=_if_there(directory / "config"),
            modules=modules if modules.is_dir() else None,
            vmlinux=_if_there(directory / "vmlinux"),
            is_boot_time=self.page_size_bytes is None and boot_time_page_size(directory / "Image"),
        )


def describe_image(path: Path) -> tuple[Image, str, str]:
    """The header, release and sha256 of a raw Image; raises InfraError where it holds no banner."""
    image = read_image(path)
    banner = linux_banner(path)
    if banner is None:
        raise InfraError(f"{path} has no 'Linux version' banner: it cannot say which kernel it is")
    return image, linux_release(banner), sha256_of(path)


def find_made(cache: Cache, recipe: str) -> tuple[Path, Record] | None:
    """The kernel most recently made by that recipe."""
    for key in cache.keys(KIND):
        record = Record.read(cache.entry(KIND, key))
        if record is not None and record.recipe == recipe:
            path = cache.find(KIND, key)
            if path is not None:
                return path, record
    return None


def find_sha256(cache: Cache, sha256: str, name: str) -> Kernel | None:
    """The cached kernel whose Image has that hash, under that name."""
    for key in cache.keys(KIND):
        record = Record.read(cache.entry(KIND, key))
        if record is not None and record.image_sha256 == sha256:
            path = cache.find(KIND, key)
            if path is not None:
                return record.kernel(path, name)
    return None


def find_published(cache: Cache, path: Path) -> Kernel | None:
    """The kernel whose Image in the cache that path is, with its modules, symbols and provenance.

    None for any other file, and for one that was made without a name.
    """
    try:
        image = path.resolve()
    except (OSError, RuntimeError):
        return None
    if image.name != "Image" or image.parent.parent != (cache.root / KIND).resolve():
        return None
    directory = cache.find(KIND, image.parent.name)
    record = None if directory is None else Record.read(directory)
    if directory is None or record is None or not record.details.get("name"):
        return None
    return record.kernel(directory, record.details["name"])


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None
