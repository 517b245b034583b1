"""A kernel's symbols out of its own memory: a snapshot names its places with no file of the kernel at hand.

The kernel keeps its kallsyms for as long as it runs, where KASLR put them and with the base relocated: read
as those of an Image are, they give the addresses that count. gdb takes them from an ELF file of nothing but
symbols. May import `harness.linux` and what else is in this package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.errors import ChannelError, UsageError
from harness.linux.kallsyms import SymbolTable, read_kallsyms
from harness.linux.symbols import Symboliser
from harness.linux.vmcoreinfo import VmcoreInfo
from harness.saving import replacing, saving_to
from harness.snapshot.frames import debug_frame
from harness.snapshot.inferred import vmcoreinfo_of
from harness.snapshot.snapshot import Snapshot
from harness.vmsa.field import ones

__all__ = ["code_in", "has_frames", "symbols_in", "vmlinux_offset", "write_symbol_file"]

_SEGMENT_ALIGN: Final = 1 << 16
"""arch/arm64/include/asm/memory.h, SEGMENT_ALIGN: `_text` and `_stext` are multiples of it."""
_HEAD_SEGMENTS: Final = 32
"""`_stext` is that many segments after `_text` at most: what is between is the header and, in some kernels,
the code that runs before the MMU is on (arch/arm64/kernel/vmlinux.lds.S)."""
_MAGIC_AT, _MAGIC, _SIZE_AT = 56, b"ARM\x64", 16
MAX_IMAGE_BYTES: Final = 256 << 20

_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_TEXT, _DATA, _ABSOLUTE = 1, 2, 0xFFF1
_GLOBAL_OBJECT, _GLOBAL_FUNCTION = 0x11, 0x12


@dataclass(frozen=True, slots=True)
class _Section:
    name: int
    kind: int
    flags: int
    va: int
    at: int
    size_bytes: int
    link: int = 0
    info: int = 0
    entry_bytes: int = 0


def symbols_in(snapshot: Snapshot) -> SymbolTable | None:
    """The symbols of the kernel in a snapshot at the addresses they have there; modules' are not among them.

    None where VMCOREINFO, the image's header or its kallsyms are not in memory, or are damaged.
    """
    info = vmcoreinfo_of(snapshot.memory, snapshot.first_tables)
    found = _image(snapshot, info) if info is not None else None
    if found is None:
        return None
    text_va, image = found
    try:
        table = read_kallsyms(image)
    except (UsageError, ValueError, LookupError, OverflowError, struct.error):
        # What a guest has in its memory is for it to say, and no error of ours.
        return None
    if table is None:
        return None
    # A kernel without a stored base, and one whose base is not relocated, count from elsewhere.
    moved = text_va - table.base
    return table if not moved else SymbolTable((va + moved & ones(64), name) for va, name in table)


def _image(snapshot: Snapshot, info: VmcoreInfo) -> tuple[int, bytes] | None:
    """Address of `_text`, and the kernel's image from there on."""
    if info.stext_va is None:
        return None
    for number in range(_HEAD_SEGMENTS):
        text_va = info.stext_va - number * _SEGMENT_ALIGN & ones(64)
        pa = text_va - info.kimage_voffset & ones(64)
        try:
            header = snapshot.read(pa, 64)
            if header[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC:
                (size_bytes,) = struct.unpack_from("<Q", header, _SIZE_AT)
                return text_va, snapshot.read(pa, min(size_bytes, MAX_IMAGE_BYTES))
        except ChannelError:
            return None
    return None


def code_in(snapshot: Snapshot, table: SymbolTable) -> bytes:
    """The kernel's code, from `_text` to `_etext`, for its call frames; empty where it is not in memory."""
    info, end_va = vmcoreinfo_of(snapshot.memory, snapshot.first_tables), table.address_of("_etext")
    start_va = table.address_of("_text")
    if info is None or start_va is None or end_va is None or not 0 < end_va - start_va <= MAX_IMAGE_BYTES:
        return b""
    try:
        return snapshot.read(start_va - info.kimage_voffset & ones(64), end_va - start_va)
    except ChannelError:
        return b""


def vmlinux_offset(snapshot: Snapshot, vmlinux: Path) -> int | None:
    """What is to be added to a vmlinux's addresses, in bytes modulo 2^64; None where memory does not tell.

    By where VMCOREINFO says swapper_pg_dir is. Raises UsageError for what is no vmlinux.
    """
    info = vmcoreinfo_of(snapshot.memory, snapshot.first_tables)
    if info is None:
        return None
    link_va = Symboliser.of_vmlinux(vmlinux).table.address_of("swapper_pg_dir")
    return info.kaslr_offset if link_va is None else info.swapper_va - link_va & ones(64)


def has_frames(vmlinux: Path) -> bool:
    """True for a vmlinux with call frames of its own, which has debug information; False for no ELF file."""
    try:
        with vmlinux.open("rb") as file:
            return ELFFile(file).get_section_by_name(".debug_frame") is not None
    except (OSError, ELFError, ValueError, LookupError, TypeError, AttributeError):
        return False


def write_symbol_file(table: SymbolTable, path: Path, code: bytes = b"") -> None:
    """Write an ELF file with a symbol table and no content, at final addresses, for gdb's `symbol-file`.

    `code` is what lies from `_text` on: with it the file has call frames, by which gdb unwinds. Raises as
    `save` does.
    """
    symbols, strings = _symbol_table(table)
    start = table.address_of("_text") or table.base
    end = max(table.address_of("_end") or ones(64), start)
    code_end = min(max(table.address_of("_etext") or end, start), end)
    names = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0.debug_frame\0"
    frames = debug_frame(code, start, _functions(table, start, start + len(code)))
    at = _EHDR.size
    strings_at = at + len(symbols)
    frames_at = strings_at + len(strings)
    names_at = frames_at + len(frames)
    headers_at = names_at + len(names) + -(names_at + len(names)) % 8
    sections = (
        _Section(0, 0, 0, 0, 0, 0),
        # SHT_NOBITS, ALLOC and EXECINSTR: gdb knows code from data, and takes the bytes from the core.
        _Section(1, 8, 6, start, 0, code_end - start),
        _Section(7, 8, 3, code_end, 0, end - code_end),
        _Section(13, 2, 0, 0, at, len(symbols), link=4, info=1, entry_bytes=_SYMBOL.itemsize),
        _Section(21, 3, 0, 0, strings_at, len(strings)),
        _Section(29, 3, 0, 0, names_at, len(names)),
        _Section(39, 1, 0, 0, frames_at, len(frames)),
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    with saving_to(path), replacing(path) as file:
        file.write(_EHDR.pack(ident, 2, 183, 1, 0, 0, headers_at, 0, _EHDR.size, 56, 0, _SHDR.size,
                              len(sections), 5))  # fmt: skip
        file.write(symbols + strings + frames + names + bytes(headers_at - names_at - len(names)))
        for one in sections:
            file.write(_SHDR.pack(one.name, one.kind, one.flags, one.va, one.at, one.size_bytes, one.link,
                                  one.info, 8 if one.kind == 2 else 1, one.entry_bytes))  # fmt: skip


def _functions(table: SymbolTable, start_va: int, end_va: int) -> Iterator[tuple[int, int]]:
    """From each address within that has a symbol to the next."""
    places = sorted({va for va, _ in table if start_va <= va < end_va})
    return pairwise((*places, end_va))


def _symbol_table(table: SymbolTable) -> tuple[bytes, bytes]:
    """.symtab and .strtab: a symbol reaches to the next address that has one."""
    strings = bytearray(b"\0")
    rows = np.zeros(1 + len(table), _SYMBOL)
    for row, (_, name) in zip(rows[1:], table, strict=True):
        row["name"] = len(strings)
        strings += name.encode("ascii", "replace").replace(b"\0", b"?") + b"\0"
    value = np.array([va for va, _ in table], np.uint64)
    following = np.searchsorted(value, value, side="right")
    known = following < len(value)
    rows["value"][1:] = value
    rows["size"][1:][known] = value[following[known]] - value[known]
    start, end = (np.uint64(table.address_of(name) or 0) for name in ("_text", "_end"))
    is_code = (value >= start) & (value < np.uint64(table.address_of("_etext") or 0))
    inside = (value >= start) & (value <= end)
    rows["section"][1:] = np.where(is_code, _TEXT, np.where(inside, _DATA, _ABSOLUTE))
    rows["info"][1:] = np.where(is_code, _GLOBAL_FUNCTION, _GLOBAL_OBJECT)
    return rows.tobytes(), bytes(strings)
