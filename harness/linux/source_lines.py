"""From a place that a kernel prints, such as `do_msync+0x1c/0x300`, to a file and a line, by its vmlinux.

With debugging information (DWARF, "Line Number Information") it is `mm/msync.c:61`; without, the file alone,
from the symbol table: an object's local symbols follow that of its file, and on arm64 each has such for its
code (gABI, STT_FILE; AAELF64, "Mapping symbols").
"""

from __future__ import annotations

import bisect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.errors import UsageError
from harness.linux.symbols import Symboliser

__all__ = ["SourceLines"]

_PLACE: Final = re.compile(r"([A-Za-z_][\w.$]*)\+0x([0-9a-f]{1,8})/0x[0-9a-f]{1,8}")


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
            symbols = Symboliser.of_vmlinux(self.vmlinux)
            start = symbols.table.address_of(found[1])
            if start is None:
                return ""
            line = symbols.line_of(start + int(found[2], 16)) if symbols.line_of is not None else ""
            if line:
                return line
            with self.vmlinux.open("rb") as file:
                return _file_of(ELFFile(file), start)
        except UsageError:
            return ""
        # pyelftools lets what it meets in a damaged file escape as whatever error it ran into.
        except (OSError, ELFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            return ""


def _file_of(elf: Any, start: int) -> str:
    """The file of an address by the symbol table."""
    files: list[tuple[int, str]] = []
    current = ""
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        if symbol["st_info"]["type"] == "STT_FILE":
            current = symbol.name
        elif symbol["st_info"]["bind"] == "STB_LOCAL" and current:
            files.append((symbol["st_value"], current))
    files.sort()
    at = bisect.bisect_right(files, (start, chr(sys.maxunicode))) - 1
    return files[at][1] if at >= 0 else ""
