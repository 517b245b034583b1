"""From a place that a kernel prints, such as `do_msync+0x1c/0x300`, to a file and a line, by its vmlinux.

With debugging information (DWARF, "Line Number Information") it is `mm/msync.c:61`; without, the file alone,
from the symbol table: an object's local symbols follow that of its file, and on arm64 each has such for its
code (gABI, STT_FILE; AAELF64, "Mapping symbols").
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

__all__ = ["SourceLines"]

_PLACE: Final = re.compile(r"([A-Za-z_][\w.$]*)\+0x([0-9a-f]{1,8})/0x[0-9a-f]{1,8}")
_DWARF5: Final = 5


@dataclass(frozen=True, slots=True)
class SourceLines:
    """The lines of a vmlinux; each question opens it anew, and only who has an oops asks."""

    vmlinux: Path

    def find(self, place: str) -> str:
        """`FILE:LINE` or `FILE` of `FUNCTION+0xOFFSET/0xSIZE`; empty where the vmlinux does not tell.

        A damaged vmlinux tells nothing: this is help, and no verdict.
        """
        found = _PLACE.fullmatch(place.strip())
        if found is None:  # of a module, or an address alone
            return ""
        try:
            with self.vmlinux.open("rb") as file:
                return _find(ELFFile(file), found[1], int(found[2], 16))
        # pyelftools lets what it meets in a damaged file escape as whatever error it ran into.
        except (OSError, ELFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            return ""


def _find(elf: Any, function: str, offset: int) -> str:
    files: list[tuple[int, str]] = []
    start, current = None, ""
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        kind = symbol["st_info"]["type"]
        if kind == "STT_FILE":
            current = symbol.name
        elif symbol["st_info"]["bind"] == "STB_LOCAL" and current:
            files.append((symbol["st_value"], current))
        if symbol.name == function and kind == "STT_FUNC" and start is None:
            start = symbol["st_value"]
    if start is None:
        return ""
    line = _line(elf, start + offset)
    if line:
        return line
    files.sort()
    at = bisect.bisect_right(files, (start, "\U0010ffff")) - 1
    return files[at][1] if at >= 0 else ""


def _line(elf: Any, address: int) -> str:
    if not elf.has_dwarf_info():
        return ""
    dwarf = elf.get_dwarf_info()
    ranges = dwarf.get_aranges()
    offset = None if ranges is None else ranges.cu_offset_at_addr(address)
    if offset is None:
        return ""
    program = dwarf.line_program_for_CU(dwarf.get_CU_at(offset))
    before = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if before is not None and before.address <= address < state.address and not before.end_sequence:
            return _named(program, before)
        before = state
    return ""


def _named(program: Any, state: Any) -> str:
    """The file's path as far as it is known, without what leads to the tree's top."""
    first = 0 if program["version"] >= _DWARF5 else 1
    entry = program["file_entry"][state.file - first]
    directory = ""
    directories = program["include_directory"]
    number = entry.dir_index - first
    if 0 <= number < len(directories):
        directory = directories[number].decode("utf-8", "replace")
    name = entry.name.decode("utf-8", "replace")
    path = name if name.startswith("/") or not directory else f"{directory}/{name}"
    top = re.search(
        r"/(?:tree|linux[^/]*)/(?=(?:arch|mm|kernel|drivers|fs|net|lib|block|init|include)/)", path
    )
    return f"{path[top.end() :] if top else path.removeprefix('./')}:{state.line}"
