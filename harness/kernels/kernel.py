"""The one value that the rest of the harness knows of a kernel, wherever it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.spec import PageSize

__all__ = ["Kernel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A bootable arm64 kernel with what is known about it."""

    name: str
    """Catalogue name (`debian-16k`) or file stem; part of cell ids."""
    image: Path
    """The uncompressed Image (zboot and gzip are unpacked into the cache)."""
    page_size: PageSize | None
    """Page size in the Image header's flags; None where it says `unspecified` (a boot-time kernel)."""
    release: str
    """As `uname -r` will print it."""
    sha256: str
    """Of the Image, in hex."""
    origin: str
    """One line of provenance: package and version, or source tree and fragments, or the file given."""
    config: Path | None = None
    modules: Path | None = None
    """Directory that holds `kernel/` and `modules.builtin`: the package's lib/modules/RELEASE."""
    initrd: Path | None = None
    """Appended after the guest's own initramfs, when the user gave one."""
    vmlinux: Path | None = None
    cmdline: str = ""
    """Added to the guest's command line."""
