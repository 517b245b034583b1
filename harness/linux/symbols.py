"""Names for a pc: what a vCPU was doing when it was stopped, however the symbols are to be had.

Sources of symbols, any of which makes a `Symboliser`: the kallsyms of the Image (always there), a vmlinux
(adds file:line where it has DWARF), /proc/kallsyms of a running guest. A pc is in one of three spaces: a
link address, the same displaced by KASLR, or, before the MMU is on and in the identity map, a physical
address.

May import harness.errors, harness.linux.kallsyms, pyelftools.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from elftools.common.exceptions import DWARFError, ELFError
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.errors import UsageError
from harness.linux.kallsyms import MAX_SYMBOLS, Symbol, SymbolTable, read_kallsyms
from harness.reading import read_bounded

__all__ = ["Symboliser", "kaslr_offset"]

MAX_IMAGE_BYTES: Final = 1 << 30
MAX_LINE_PROGRAM_BYTES: Final = 32 << 20
MAX_PROC_KALLSYMS_BYTES: Final = 128 << 20

_IN_TREE: Final = re.compile(
    r"(?:^|(?<=/))(?:arch|block|crypto|drivers|fs|include|init|io_uring|ipc|kernel|lib|mm|net|security|sound|virt)/.+"
)
"""The directories at a kernel tree's top that are compiled (its Kbuild)."""
_OFFSET_LINE: Final = re.compile(r"Kernel Offset: (?:0x([0-9a-f]{1,16}) from 0x[0-9a-f]{1,16}|(disabled))")


def kaslr_offset(console: str) -> int | None:
    """How far KASLR moved the kernel, in bytes, from the `Kernel Offset:` line of a panic; None without.

    Source: arch/arm64/kernel/setup.c, dump_kernel_offset(). The last such line counts.
    """
    found = _OFFSET_LINE.findall(console)
    if not found:
        return None
    digits, _ = found[-1]
    return int(digits, 16) if digits else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Symboliser:
    """Turns a pc into a name.

    `offset` is KASLR's displacement in bytes; `load_pa` the physical address of the Image's first byte, which
    is that of `_text`, or None when it is not known and physical addresses cannot be named.
    """

    table: SymbolTable
    offset: int = 0
    load_pa: int | None = None
    line_of: Callable[[int], str] | None = None
    """Source `file:line` of a link address, empty when there is none."""

    @classmethod
    def of_image(cls, image: Path) -> Symboliser:
        """From the kallsyms in an uncompressed Image; raises UsageError when it has none or is unreadable."""
        table = read_kallsyms(read_bounded(image, MAX_IMAGE_BYTES, too_long="not a kernel Image"))
        if table is None:
            raise UsageError(
                f"no kallsyms were found in {image}: wanted an uncompressed arm64 Image built with "
                "CONFIG_KALLSYMS=y, of Linux 6.4 or later, or 6.1 or earlier. Or give --vmlinux."
            )
        return cls(table=table)

    @classmethod
    def of_vmlinux(cls, vmlinux: Path) -> Symboliser:
        """From the symbol table of a vmlinux, and its DWARF; raises UsageError for what is no such file."""
        try:
            with vmlinux.open("rb") as stream:
                elf = ELFFile(stream)
                if elf.get_machine_arch() != "AArch64":
                    raise UsageError(
                        f"{vmlinux} is an ELF file for {elf.get_machine_arch()}: wanted an AArch64 vmlinux"
                    )
                table = SymbolTable(_elf_symbols(elf, vmlinux))
        except OSError as error:
            raise UsageError(f"cannot read {vmlinux}: {error.strerror}") from error
        except (ELFError, ValueError, KeyError, OverflowError) as error:
            raise UsageError(
                f"{vmlinux} is not a vmlinux that can be read ({error}): wanted an ELF file"
            ) from error
        if not len(table):
            raise UsageError(f"{vmlinux} has no symbols: it was stripped. Give one that was not.")
        return cls(table=table, line_of=_DwarfLines(vmlinux))

    @classmethod
    def of_proc_kallsyms(cls, text: str) -> Symboliser:
        """From /proc/kallsyms of a guest, read as root; addresses are final, so no offset is to be added.

        Raises UsageError when it holds no address but 0: kptr_restrict hid them.
        """
        if len(text) > MAX_PROC_KALLSYMS_BYTES:
            raise UsageError(
                f"/proc/kallsyms of {len(text)} bytes is not believable; at most 128 MiB are read"
            )
        table = SymbolTable(_proc_symbols(text))
        if not len(table):
            raise UsageError(
                "/proc/kallsyms holds no address: read it as root with kernel.kptr_restrict at 0 or 1"
            )
        return cls(table=table)

    def at_offset(self, offset: int) -> Symboliser:
        """The same for a kernel that KASLR moved by `offset` bytes."""
        return replace(self, offset=offset)

    def loaded_at(self, load_pa: int) -> Symboliser:
        """The same for an Image whose first byte lies at physical address `load_pa`."""
        return replace(self, load_pa=load_pa)

    def lookup(self, pc: int) -> Symbol | None:
        """The symbol a pc lies in, be it virtual or, with `load_pa` known, physical."""
        return next((found for link in self._link_addresses(pc) if (found := self.table.lookup(link))), None)

    def describe(self, pc: int) -> str:
        """A pc in words: `vfs_read+0x1c/0x300` and what is special, or the number and why it has no name."""
        for link in self._link_addresses(pc):
            symbol = self.table.lookup(link)
            if symbol is None:
                continue
            line = self.line_of(link) if self.line_of else ""
            space = " (physical address: MMU off or identity map)" if pc >> 48 == 0 else ""
            return f"{symbol}{f' at {line}' if line else ''}{space}"
        return f"{pc:#018x} ({'a user or physical address' if pc >> 48 == 0 else 'no symbol of the kernel'})"

    def _link_addresses(self, pc: int) -> Iterator[int]:
        if pc >> 48:
            yield pc - self.offset
            # Before KASLR has moved it the kernel may run at its link address.
            if self.offset:
                yield pc
        elif self.load_pa is not None and pc >= self.load_pa:
            yield pc - self.load_pa + self.table.base


def _elf_symbols(elf: ELFFile, vmlinux: Path) -> Iterator[tuple[int, str]]:
    section = elf.get_section_by_name(".symtab")
    if not isinstance(section, SymbolTableSection):
        return
    if section.num_symbols() > 4 * MAX_SYMBOLS:
        raise UsageError(f"{vmlinux} has {section.num_symbols()} symbols, more than any kernel")
    for symbol in section.iter_symbols():
        # $x and $d mark code and data for disassemblers (AAELF64); sections and files are not places.
        wanted = symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE")
        if wanted and symbol["st_value"] >> 48 == 0xFFFF and symbol.name and not symbol.name.startswith("$"):
            yield symbol["st_value"], symbol.name


def _proc_symbols(text: str) -> Iterator[tuple[int, str]]:
    for line in text.splitlines()[:MAX_SYMBOLS]:
        fields = line.split()
        if len(fields) < 3 or not re.fullmatch("[0-9a-f]{1,16}", fields[0]):
            continue
        address = int(fields[0], 16)
        if address:
            yield address, " ".join(fields[2:])  # a module's name follows in brackets


class _DwarfLines:
    """file:line of an address, reading only the one compilation unit that covers it."""

    def __init__(self, vmlinux: Path) -> None:
        self._vmlinux = vmlinux

    def __call__(self, address: int) -> str:
        """The line, or nothing: a missing or damaged line table must not cost the name."""
        try:
            with self._vmlinux.open("rb") as stream:
                elf = ELFFile(stream)
                return _line_in(elf.get_dwarf_info(), address) if elf.has_dwarf_info() else ""
        except (OSError, ELFError, DWARFError, ValueError, KeyError, IndexError, AttributeError, TypeError):
            return ""


def _line_in(dwarf: DWARFInfo, address: int) -> str:
    ranges = dwarf.get_aranges()
    unit_at = ranges.cu_offset_at_addr(address) if ranges is not None else None
    if unit_at is None:
        return ""
    program = dwarf.line_program_for_CU(dwarf.get_CU_at(unit_at))
    if program is None or program.header["unit_length"] > MAX_LINE_PROGRAM_BYTES:
        return ""
    rows = sorted(
        (entry.state.address, entry.state.end_sequence, entry.state.file, entry.state.line)
        for entry in program.get_entries()
        if entry.state is not None
    )
    after = bisect_right(rows, address, key=lambda row: row[0])
    if after == 0 or rows[after - 1][1]:
        return ""
    _, _, file, line = rows[after - 1]
    # DWARF 5 counts files and directories from 0, earlier versions from 1 (DWARF 5, 6.2.4).
    first = 0 if program.header["version"] >= 5 else 1
    entries: Any = program.header["file_entry"]
    directories: Any = program.header["include_directory"]
    entry = entries[file - first]
    number = entry.dir_index - first
    directory = directories[number].decode("utf-8", "replace") if 0 <= number < len(directories) else ""
    return f"{_path_in_tree(directory, entry.name.decode('utf-8', 'replace'))}:{line}"


def _path_in_tree(directory: str, name: str) -> str:
    """A file's path from the top of the kernel tree, or its name alone where that cannot be seen."""
    found = _IN_TREE.search(name if name.startswith("/") else f"{directory}/{name}")
    return found[0].removeprefix("/") if found else name
