"""What makes a micro guest reachable by SSH: dropbear from Debian, with the libraries it is linked with.

An archive and not a part of the initramfs: it is put into a running guest when somebody wants to log in, so
that no other guest carries it. Library search stays within its one directory.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from harness.cache import Cache
from harness.errors import InfraError
from harness.spec import PageSize

__all__ = ["SSHD_PACKAGES", "build_sshd"]

SSHD_PACKAGES = ("dropbear-bin", "libc6", "libcrypt1", "libtomcrypt1", "libtommath1", "libgmp10", "zlib1g")
"""Debian's packages (suite trixie) that have dropbear and all that it needs."""

FORMAT = 1  # part of every key: raise it when this file lays the archive out differently
ARCHIVE = "sshd.tar"
PROGRAMS = ("usr/sbin/dropbear", "usr/bin/dropbearkey")
LIBRARY_DIRECTORIES = ("usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib", "lib")


def build_sshd(cache: Cache, roots: Sequence[Path]) -> Path:
    """The archive in the cache: two programs at its top, and what they are linked with in `lib`.

    `roots` are unpacked packages, in directories that are named by their contents, as the cache's are. Raises
    InfraError when a program or library is missing, or cannot be mapped by a kernel with 64K pages.
    """
    key = hashlib.sha256(repr((FORMAT, PROGRAMS, [root.name for root in roots])).encode()).hexdigest()[:32]

    def build(directory: Path) -> None:
        members = _members(roots)
        with tarfile.open(directory / ARCHIVE, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, path in sorted(members.items()):
                content = path.read_bytes()
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))

    return cache.make("programs", key, build, describe="sshd for guests (dropbear)") / ARCHIVE


def _members(roots: Sequence[Path]) -> dict[str, Path]:
    """Every file of the archive by its name there: the programs, and the closure of what they need."""
    members = {Path(name).name: _find(roots, (name,)) for name in PROGRAMS}
    wanted = list(members.values())
    while wanted:
        for library in _needed(wanted.pop()):
            if f"lib/{library}" not in members:
                found = _find(roots, tuple(f"{directory}/{library}" for directory in LIBRARY_DIRECTORIES))
                members[f"lib/{library}"] = found
                wanted.append(found)
    return members


def _find(roots: Sequence[Path], names: tuple[str, ...]) -> Path:
    for root in roots:
        for name in names:
            path = (root / name).resolve()
            # A link of a package's that leads out of it would be a file of this host's.
            if path.is_file() and path.is_relative_to(root.resolve()):
                return path
    raise InfraError(
        f"none of Debian's packages for SSH into guests has {names[0]}: they are {', '.join(SSHD_PACKAGES)}. "
        "They may have changed since this granule was made."
    )


def _needed(path: Path) -> tuple[str, ...]:
    """The libraries that an arm64 program or library is linked with, its loader among them."""
    largest = max(size.bytes for size in PageSize)
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            aligns = {segment["p_align"] for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"}
            if elf["e_machine"] != "EM_AARCH64" or not aligns or any(align % largest for align in aligns):
                raise InfraError(f"{path} is not made for arm64 kernels with 64K pages: {sorted(aligns)}")
            dynamic = [section for section in elf.iter_sections() if isinstance(section, DynamicSection)]
            tags = [tag for section in dynamic for tag in section.iter_tags("DT_NEEDED")]
            # pyelftools gives a tag the attribute that its kind has.
            return tuple(str(tag.needed) for tag in tags)  # type: ignore[attr-defined]
    except (ELFError, OSError, UnicodeDecodeError) as error:
        raise InfraError(f"{path} of Debian's packages for SSH cannot be used: {error}") from error
