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
    is_boot_time: bool = False
    """It takes its page size from `arm64.pagesize=`: by itself, or as a combined Image does."""
    members: tuple[Kernel, ...] = ()
    """The kernels inside a combined Image, one per page size; empty for every other."""

    def running(self, size: PageSize) -> Kernel:
        """The kernel that runs when that page size is chosen: a combined Image's member, or this one."""
        return next((member for member in self.members if member.page_size is size), self)

    @property
    def caveat(self) -> str:
        """What every report that used this kernel has to say plainly; empty where there is nothing."""
        if not self.members:
            return ""
        names = ", ".join(member.name for member in self.members)
        return (
            f"{self.name} is {len(self.members)} kernels in one file ({names}), "
            "not boot-time selection inside one kernel"
        )
