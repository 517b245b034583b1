"""How large the parts of a kernel are: by the sections of its vmlinux, or by its linker's symbols.

The two count differently and are not to be compared with each other. Sections are summed up as `size` of
binutils does (Berkeley format). Symbols mark stretches of memory, padding included (Linux v6.12
arch/arm64/kernel/vmlinux.lds.S).

May import harness.errors, harness.linux.kallsyms, pyelftools.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from harness.errors import UsageError
from harness.linux.kallsyms import SymbolTable

__all__ = ["Extents", "SectionSizes", "extents", "mismatch", "section_sizes"]

MAX_SECTIONS: Final = 100_000
MAX_NOTES_BYTES: Final = 1 << 20
# A note named GNU of type NT_GNU_BUILD_ID, of one byte's length (gabi 4.1, "Note Section"; elf.h).
_BUILD_ID: Final = re.compile(rb"\x04\0\0\0(.)\0\0\0\x03\0\0\0GNU\0", re.DOTALL)
_MARKS: Final = ("_text", "_etext", "__init_begin", "_sdata", "_edata", "__bss_start", "__bss_stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionSizes:
    """The sums that `size` prints, in bytes, over sections with SHF_ALLOC (binutils/size.c, berkeley_sum)."""

    text_bytes: int
    """Executable, or not writable. Linux's .rodata is writable to the linker, as it holds __ro_after_init,
    and so counts as data."""
    data_bytes: int
    """Of the others those with contents, initialisation's included."""
    bss_bytes: int
    """Of the others those without contents: SHT_NOBITS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extents:
    """Distances between the linker's symbols, in bytes; the first four make up the Image."""

    text_bytes: int
    """_text to _etext."""
    rodata_bytes: int
    """_etext to __init_begin: read-only data, and page tables that are there from the start."""
    init_bytes: int
    """__init_begin to _sdata: code and data of the boot, per-CPU data, relocations."""
    data_bytes: int
    """_sdata to _edata."""
    bss_bytes: int
    """__bss_start to __bss_stop."""


def section_sizes(vmlinux: Path) -> SectionSizes:
    """The sums of a vmlinux; raises UsageError for a file that is none, or is truncated."""
    text = data = bss = 0
    with _opened(vmlinux) as elf:
        for section in _allocated(elf):
            flags, size_bytes = section["sh_flags"], section["sh_size"]
            if flags & SH_FLAGS.SHF_EXECINSTR or not flags & SH_FLAGS.SHF_WRITE:
                text += size_bytes
            elif section["sh_type"] != "SHT_NOBITS":
                data += size_bytes
            else:
                bss += size_bytes
    return SectionSizes(text_bytes=text, data_bytes=data, bss_bytes=bss)


def extents(table: SymbolTable) -> Extents | None:
    """By a kernel's symbols; None where one is missing (CONFIG_KALLSYMS_ALL=n) or they are not in order."""
    found = [table.address_of(name) for name in _MARKS]
    places = [place for place in found if place is not None]
    if len(places) < len(_MARKS) or places != sorted(places):
        return None
    text, etext, init, data, edata, bss, bss_stop = places
    return Extents(
        text_bytes=etext - text,
        rodata_bytes=init - etext,
        init_bytes=data - init,
        data_bytes=edata - data,
        bss_bytes=bss_stop - bss,
    )


def mismatch(vmlinux: Path, image: bytes) -> str:
    """Why a vmlinux is not the one that a raw Image was made from; empty where it is.

    By the build ID, which the Image holds in its .notes, or without one by the code, byte for byte.
    """
    with _opened(vmlinux) as elf:
        sections = list(_allocated(elf))
        note = next((found for section in sections if (found := _build_id(section))), b"")
        if note:
            if note in image:
                return ""
            # Which is the Image's own cannot be told: it holds those of the vDSOs, too.
            return f"the vmlinux has build ID {note[16:].hex()}, and the Image has it not"
        text = next((one for one in sections if one.name == ".text"), None)
        if text is None:
            return "the vmlinux has neither a build ID nor a .text section"
        at = text["sh_addr"] - min(one["sh_addr"] for one in sections)
        same = image[at : at + text["sh_size"]] == text.data()
        return "" if same else "neither has a build ID, and their code differs"


@contextmanager
def _opened(vmlinux: Path) -> Iterator[ELFFile]:
    try:
        with vmlinux.open("rb") as stream:
            elf = ELFFile(stream)
            arch = elf.get_machine_arch()
            if arch != "AArch64":
                raise UsageError(f"{vmlinux} is an ELF file for {arch}, not an arm64 vmlinux")
            yield elf
    except OSError as error:
        raise UsageError(f"cannot read the vmlinux {vmlinux}: {error.strerror}") from error
    except (ELFError, ValueError, KeyError, OverflowError, AttributeError, IndexError, TypeError) as error:
        raise UsageError(
            f"{vmlinux} is not a vmlinux, or a truncated one ({error or 'not an ELF file'}): wanted the ELF "
            "file that the Image was made from"
        ) from error


def _allocated(elf: ELFFile) -> Iterator[Section]:
    """The sections that take memory in a running kernel; raises ValueError where one is not in the file."""
    count, size_bytes = elf.num_sections(), elf.stream_len
    if not 0 < count <= MAX_SECTIONS:
        raise ValueError(f"{count} sections")
    for section in elf.iter_sections():
        end = section["sh_offset"] + section["sh_size"]
        if end > size_bytes and section["sh_type"] not in ("SHT_NOBITS", "SHT_NULL"):
            raise ValueError(f"section {section.name} ends at byte {end}, the file at {size_bytes}")
        if section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
            yield section


def _build_id(section: Section) -> bytes:
    """The note of the build ID, whole; empty for a section without it."""
    if section["sh_type"] != "SHT_NOTE" or section["sh_size"] > MAX_NOTES_BYTES:
        return b""
    data = section.data()
    found = _BUILD_ID.search(data)
    return data[found.start() : found.end() + found[1][0]] if found else b""
