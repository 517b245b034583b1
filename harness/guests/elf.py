"""Which programs and libraries of a package a kernel with large pages cannot map.

A segment that is aligned to less than a page cannot be mapped by it (fs/binfmt_elf.c in Linux; in glibc
elf/dl-load.c refuses a library so).
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.errors import InfraError
from harness.spec import PageSize

__all__ = ["ElfScan", "scan_archive"]

MAGIC = b"\x7fELF"
LARGEST_BYTES = max(size.bytes for size in PageSize)
FILE_LIMIT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfScan:
    """The programs and libraries for arm64 of some packages."""

    scanned: int = 0
    unaligned: tuple[tuple[str, int], ...] = ()
    """Paths of those with a segment that is aligned to less than 64 KiB, and the alignment in bytes."""

    def __add__(self, other: ElfScan) -> ElfScan:
        return ElfScan(scanned=self.scanned + other.scanned, unaligned=self.unaligned + other.unaligned)

    def write(self, path: Path) -> None:
        """Store it; `read` is the way back."""
        path.write_text(json.dumps({"scanned": self.scanned, "unaligned": self.unaligned}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> ElfScan:
        """From a file that `write` wrote; raises InfraError when it is none."""
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            unaligned = tuple((str(name), int(align)) for name, align in about["unaligned"])
            return cls(scanned=int(about["scanned"]), unaligned=unaligned)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InfraError(f"{path} is not the scan that was written there: {error}") from error


def scan_archive(archive: tarfile.TarFile) -> ElfScan:
    """Look at every file of a package's archive; raises InfraError for an ELF file that is damaged."""
    found = [one for member in archive if (one := _alignment(archive, member)) is not None]
    unaligned = tuple((name, align) for name, align in found if align % LARGEST_BYTES)
    return ElfScan(scanned=len(found), unaligned=unaligned)


def _alignment(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, int] | None:
    """The path and least alignment of a file that is mapped by segments; None for any other."""
    if not member.isreg() or not len(MAGIC) < member.size <= FILE_LIMIT_BYTES:
        return None
    file = archive.extractfile(member)
    if file is None or file.read(len(MAGIC)) != MAGIC:
        return None
    name = "/" + member.name.removeprefix("./")
    try:
        elf = ELFFile(io.BytesIO(MAGIC + file.read()))
        if elf["e_machine"] != "EM_AARCH64":
            return None
        aligns = [segment["p_align"] for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    except (ELFError, ValueError, KeyError) as error:
        raise InfraError(f"{name} of Debian's packages is not the ELF file that it says: {error}") from error
    return (name, min(aligns)) if aligns else None
