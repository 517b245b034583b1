"""Functions and data of a relocatable object, in a form that two builds can be compared by.

A relocation is told by what it refers to and not by where that lies: a function that moved, because
another one grew, is the same function. Source: ELF for the Arm 64-bit Architecture (AAELF64), 5.7; gABI,
"Symbol Table".
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from harness.errors import UsageError

__all__ = ["ObjectCode", "Piece", "read_object"]

_MAX_BYTES: Final = 256 << 20
_SHF_ALLOC, _SHF_EXECINSTR, _SHF_MERGE_STRINGS = 0x2, 0x4, 0x30
_ABOUT_CODE: Final = frozenset({".eh_frame", ".note.gnu.property"})
# The compiler numbers its local copies anew when anything before them changes.
_NUMBERED: Final = re.compile(r"\.\d+$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A function, or a datum: its bytes, and what they refer to, by offset."""

    size_bytes: int
    content: bytes
    refers: tuple[tuple[int, int, str], ...]
    """Offset in it, kind of relocation, and what is meant: `memcpy+0`, or a string's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectCode:
    """What an object holds."""

    functions: Mapping[str, Piece]
    data: Mapping[str, Piece]
    """By symbol; what has none by its section."""


@dataclass(slots=True)
class _Section:
    name: str
    flags: int
    content: bytes
    starts: list[int] = field(default_factory=list)
    symbols: list[tuple[int, int, str, bool]] = field(default_factory=list)
    """Start, size, name, whether it is a function; by start."""
    relocations: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Offset, kind, symbol, addend."""


def read_object(path: Path) -> ObjectCode:
    """Read an arm64 .o; raises UsageError where it is none, or is damaged."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is over {_MAX_BYTES >> 20} MiB long; no object of a kernel is")
        with path.open("rb") as file:
            elf = ELFFile(file)
            if elf["e_machine"] != "EM_AARCH64" or elf["e_type"] != "ET_REL":
                raise UsageError(f"{path} is not a relocatable object for arm64")
            return _read(elf)
    except OSError as error:
        raise UsageError(f"cannot read the object {path}: {error.strerror}") from error
    # pyelftools lets what it meets in a damaged file escape as whatever error it ran into.
    except (ELFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise UsageError(f"{path} is damaged, or no ELF file: {error}") from error


def _read(elf: Any) -> ObjectCode:
    sections: dict[int, _Section] = {}
    for number, section in enumerate(elf.iter_sections()):
        if section["sh_flags"] & _SHF_ALLOC and section.name not in _ABOUT_CODE:
            content = b"" if section["sh_type"] == "SHT_NOBITS" else section.data()
            sections[number] = _Section(section.name, section["sh_flags"], content)
    table = elf.get_section_by_name(".symtab")
    symbols = [] if table is None else list(table.iter_symbols())
    for symbol in symbols:
        found = sections.get(symbol["st_shndx"]) if isinstance(symbol["st_shndx"], int) else None
        kind = symbol["st_info"]["type"]
        if found is not None and kind in ("STT_FUNC", "STT_OBJECT") and symbol["st_size"]:
            name = _NUMBERED.sub("", symbol.name)
            found.symbols.append((symbol["st_value"], symbol["st_size"], name, kind == "STT_FUNC"))
    for found in sections.values():
        found.symbols.sort()
        found.starts = [start for start, _size, _name, _code in found.symbols]
    for section in elf.iter_sections():
        target = sections.get(section["sh_info"]) if isinstance(section, RelocationSection) else None
        if target is not None:
            target.relocations += sorted(
                (each["r_offset"], each["r_info_type"], each["r_info_sym"], each["r_addend"])
                for each in section.iter_relocations()
            )
    names = _Names(symbols, sections)
    functions: dict[str, Piece] = {}
    data: dict[str, Piece] = {}
    for found in sections.values():
        covered = 0
        for start, size, name, code in found.symbols:
            (functions if code else data)[name] = _piece(found, start, size, names)
            covered += size
        if not found.symbols and found.flags & _SHF_MERGE_STRINGS != _SHF_MERGE_STRINGS:
            # Strings are compared where they are referred to.
            kept = functions if found.flags & _SHF_EXECINSTR else data
            kept[found.name] = _piece(found, 0, len(found.content), names)
    return ObjectCode(functions=functions, data=data)


def _piece(section: _Section, start: int, size: int, names: _Names) -> Piece:
    first = bisect.bisect_left(section.relocations, (start,))
    last = bisect.bisect_left(section.relocations, (start + size,))
    return Piece(
        size_bytes=size,
        content=section.content[start : start + size],
        refers=tuple(
            (offset - start, kind, names.of(symbol, addend))
            for offset, kind, symbol, addend in section.relocations[first:last]
        ),
    )


@dataclass(frozen=True, slots=True)
class _Names:
    symbols: list[Any]
    sections: dict[int, _Section]

    def of(self, number: int, addend: int) -> str:
        """What a relocation means."""
        symbol = self.symbols[number]
        if symbol["st_info"]["type"] != "STT_SECTION":
            return f"{_NUMBERED.sub('', symbol.name)}+{addend}"
        section = self.sections.get(symbol["st_shndx"])
        if section is None:
            return f"?+{addend}"
        if section.flags & _SHF_MERGE_STRINGS == _SHF_MERGE_STRINGS:
            return repr(section.content[addend:].split(b"\0", 1)[0][:4096])
        at = bisect.bisect_right(section.starts, addend) - 1
        if at >= 0:
            start, size, name, _code = section.symbols[at]
            if addend < start + size:
                return f"{name}+{addend - start}"
        return f"{section.name}+{addend}"
