"""A kernel's symbols, read from its raw arm64 Image: no vmlinux and no System.map is needed.

Distributions ship System.map as a stub, and a hang has to be named from the one file that was booted. With
CONFIG_KALLSYMS the Image carries every symbol, compressed, in six tables (scripts/kallsyms.c, write_src();
read back by kernel/kallsyms.c). Nothing points at them, so they are found by their structure, token table
first.

Layouts handled, each an array aligned to 8 bytes, in the order of scripts/kallsyms.c:

    v6.4 and later   num_syms names markers token_table token_index offsets relative_base seqs_of_names
    without a base   num_syms names markers token_table token_index offsets seqs_of_names
    until v6.1       offsets relative_base num_syms names markers token_table token_index

The order changed with Linux commit 404bad70fcf7 ("scripts/kallsyms: change the output order", in v6.4).
Offsets are unsigned distances from relative_base (CONFIG_KALLSYMS_BASE_RELATIVE, as arm64 has it), or in
the newest kernels, which have no base, signed distances from the place they are stored at. Not handled: 6.2
and 6.3, where seqs_of_names lies between markers and token_table, and absolute addresses.

relative_base is a relocated pointer: the linker leaves 0 in the Image (`--no-apply-dynamic-relocs`) unless
it used RELR, and the value is then taken from the R_AARCH64_RELATIVE entry that would fill it in.

May import harness.errors and the standard library.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from harness.errors import UsageError

__all__ = ["Symbol", "SymbolTable", "read_kallsyms"]

DEFAULT_TEXT_VA: Final = 0xFFFF_8000_8000_0000
"""KIMAGE_VADDR of v6.12 with 48-bit or larger VAs (arch/arm64/include/asm/memory.h)."""

MAX_SYMBOLS: Final = 1 << 20
MAX_TOKEN_BYTES: Final = 512  # KSYM_NAME_LEN, include/linux/kallsyms.h
MAX_CANDIDATES: Final = 64
DIGITS: Final = b"".join(b"%d\0" % digit for digit in range(10))
"""Each digit occurs in some symbol, so each is a token of its own, at the index of its code, 0x30 on."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """Where an address lies: in `name`, `offset` bytes into its `size` bytes (0: not known)."""

    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.name}+{self.offset:#x}/{self.size:#x}"


class SymbolTable:
    """A kernel's symbols, sorted by address; a value that is never changed once made."""

    __slots__ = ("_addresses", "_index", "_names", "base")

    def __init__(self, symbols: Iterable[tuple[int, str]], *, base: int | None = None) -> None:
        """Sort (address, name) pairs, keeping the order given among equal addresses.

        `base` is the link address of `_text`; without it that symbol's, or else the lowest address.
        """
        ordered = sorted(symbols, key=lambda symbol: symbol[0])
        self._addresses = array("Q", [address for address, _ in ordered])
        self._names = [name for _, name in ordered]
        self._index: dict[str, int] = {}
        for index, name in enumerate(self._names):
            self._index.setdefault(name, index)
        if base is None:
            base = self.address_of("_text")
        if base is None:
            base = self._addresses[0] if self._addresses else 0
        self.base: int = base

    def __len__(self) -> int:
        return len(self._addresses)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return zip(self._addresses, self._names, strict=True)

    def address_of(self, name: str) -> int | None:
        """Link address of the first symbol of that name, or None."""
        index = self._index.get(name)
        return None if index is None else self._addresses[index]

    def lookup(self, address: int) -> Symbol | None:
        """The symbol that covers a link address, up to the next one; None outside the kernel.

        Of several names of one address the first in the table is taken, as kernel/kallsyms.c does. The last
        symbol (`_end`, in a kernel) has no size and covers its own address only.
        """
        if not 0 <= address < 1 << 64:
            return None
        after = bisect_right(self._addresses, address)
        if after == 0:
            return None
        start = self._addresses[after - 1]
        first = bisect_left(self._addresses, start)
        is_last = after == len(self._addresses)
        if address != start and (is_last or "_end" in self._names[first:after]):
            return None
        size = 0 if is_last else self._addresses[after] - start
        return Symbol(self._names[first], address - start, size)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The compression dictionary: 256 strings, and where its two tables lie in the Image."""

    texts: list[str]
    table_at: int
    index_end: int


@dataclass(frozen=True, slots=True)
class _Names:
    """The stream of compressed names: its count and its extent in the Image."""

    count: int
    count_at: int
    at: int
    end: int


def read_kallsyms(image: bytes) -> SymbolTable | None:
    """Read the symbols out of an uncompressed arm64 Image; `_text` is at its byte 0.

    Returns None when no kallsyms are found in it (CONFIG_KALLSYMS=n, an unknown layout, not a kernel).
    Raises UsageError when the tables are there and contradict each other: a damaged file.
    """
    tokens = _find_tokens(image)
    if tokens is None:
        return None
    names = _find_names(image, tokens)
    if names is None:
        return None
    text_va, offsets = _find_addresses(image, tokens, names)
    expanded = _expand(image, names, tokens.texts)
    return SymbolTable(
        ((text_va + offset, name) for offset, name in zip(offsets, expanded, strict=True)), base=text_va
    )


def _align8(offset: int) -> int:
    return (offset + 7) & ~7


def _words(image: bytes, at: int, count: int, code: str) -> array[int] | None:
    """`count` little-endian integers of array type `code` at a file offset, or None when it ends before."""
    values = array(code)
    end = at + count * values.itemsize
    if at < 0 or end > len(image):
        return None
    values.frombytes(image[at:end])
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _find_tokens(image: bytes) -> _Tokens | None:
    """Find token_table by its ten digits; token_index, which has to agree in all 256 places, proves it."""
    at = -1
    for _ in range(MAX_CANDIDATES):
        at = image.find(DIGITS, at + 1)
        if at < 0:
            return None
        tokens = _tokens_around(image, at)
        if tokens is not None:
            return tokens
    return None


def _tokens_around(image: bytes, digits_at: int) -> _Tokens | None:
    before = image[max(0, digits_at - 0x30 * 64) : digits_at].split(b"\0")
    # 48 tokens come before, each ended by a NUL, so the split leaves an empty last piece; the first token may
    # have anything in front of it, and the table's alignment says where it starts.
    if len(before) < 0x31:
        return None
    tail = sum(len(piece) + 1 for piece in before[-0x30:-1])
    first_end = digits_at - tail
    for table_at in range((first_end - 1) & ~7, max(0, first_end - 64) - 1, -8):
        pieces = image[table_at : table_at + 256 * MAX_TOKEN_BYTES].split(b"\0", 256)[:256]
        starts = array("H")
        offset = 0
        for piece in pieces:
            starts.append(offset & 0xFFFF)
            offset += len(piece) + 1
        index_at = _align8(table_at + offset)
        if len(pieces) == 256 and _words(image, index_at, 256, "H") == starts:
            texts = [piece.decode("ascii", "replace") for piece in pieces]
            return _Tokens(texts, table_at, index_at + 512)
    return None


def _find_names(image: bytes, tokens: _Tokens) -> _Names | None:
    """Find the names before the markers, which end where token_table starts and prove every 256th name."""
    markers_at, markers = _markers_before(image, tokens.table_at)
    if not markers:
        return None
    # The last group holds 1 to 256 names of at most 2 + 512 bytes each.
    nearest = markers_at - markers[-1]
    for at in range(nearest & ~7, max(8, nearest - 256 * (MAX_TOKEN_BYTES + 2)) - 1, -8):
        count, padding = struct.unpack_from("<II", image, at - 8)
        if padding or not 256 * (len(markers) - 1) < count <= 256 * len(markers):
            continue
        end = _walk_names(image, at, count, markers)
        if end is not None and _align8(end) == markers_at:
            return _Names(count, at - 8, at, end)
    return None


def _markers_before(image: bytes, end: int) -> tuple[int, list[int]]:
    """The offsets of every 256th name, read backwards: they fall to 0, which is the first."""
    at = end - 4
    if at >= 0 and image[at:end] == b"\0\0\0\0":
        at -= 4
    falling: list[int] = []
    while at >= 0 and len(falling) <= MAX_SYMBOLS // 256:
        (marker,) = struct.unpack_from("<I", image, at)
        # A group of 256 names takes at least 2 bytes each.
        if falling and not marker + 512 <= falling[-1]:
            break
        falling.append(marker)
        if marker == 0:
            return (at, falling[::-1]) if at % 8 == 0 else (0, [])
        at -= 4
    return 0, []


def _walk_names(image: bytes, start: int, count: int, markers: list[int]) -> int | None:
    """The end of `count` names, or None as soon as they disagree with a marker or leave the Image."""
    at = start
    size = len(image)
    for index in range(count):
        if not index & 0xFF and at - start != markers[index >> 8]:
            return None
        if at + 1 >= size:
            return None
        length = image[at]
        at += 1
        if length & 0x80:  # two bytes of ULEB128
            length = (length & 0x7F) | image[at] << 7
            at += 1
        if not length:
            return None
        at += length
    return at if at <= size else None


def _expand(image: bytes, names: _Names, texts: list[str]) -> list[str]:
    """The names in full; a symbol's first character is its type, as nm prints it, and is dropped."""
    expanded = []
    at = names.at
    for _ in range(names.count):
        length = image[at]
        at += 1
        if length & 0x80:
            length = (length & 0x7F) | image[at] << 7
            at += 1
        expanded.append("".join([texts[code] for code in image[at : at + length]])[1 : MAX_TOKEN_BYTES + 1])
        at += length
    return expanded


def _find_addresses(image: bytes, tokens: _Tokens, names: _Names) -> tuple[int, Iterable[int]]:
    """(link address of `_text`, distance of every symbol from it), from whichever layout fits."""
    table_bytes = _align8(4 * names.count)
    for offsets_at, base_at in (
        (tokens.index_end, tokens.index_end + table_bytes),
        (names.count_at - 8 - table_bytes, names.count_at - 8),
    ):
        offsets = _words(image, offsets_at, names.count, "I")
        if offsets is not None and _rises(offsets) and offsets[-1] < 1 << 31:
            return _relative_base(image, base_at), offsets
    places = _words(image, tokens.index_end, names.count, "i")
    if places is not None:
        distances = [tokens.index_end + 4 * index + value for index, value in enumerate(places)]
        if _rises(distances) and distances[0] >= 0:
            return _text_va_of_relocations(image), distances
    raise UsageError(
        f"the Image holds the names of {names.count} symbols but no table of their addresses where one was "
        "wanted, so it is damaged, cut short, or laid out in a way not known here. Give the matching vmlinux "
        "with --vmlinux for symbols, or take the Image from its package again."
    )


def _rises(values: array[int] | list[int]) -> bool:
    return all(map(int.__le__, values, values[1:]))


def _relative_base(image: bytes, at: int) -> int:
    """kallsyms_relative_base, which is `_text` on arm64: in place, or from its R_AARCH64_RELATIVE entry."""
    stored = _words(image, at, 1, "Q")
    if stored is not None and stored[0] >> 48 == 0xFFFF and stored[0] % 4096 == 0:
        return stored[0]
    # Elf64_Rela {r_offset, r_info = 0x403, r_addend}; `_text` is 64K-aligned, so r_offset ends as `at` does.
    low = re.escape(struct.pack("<H", at & 0xFFFF))
    for match in re.finditer(low + rb".{4}\xff\xff\x03\x04\0{6}.{6}\xff\xff", image, re.DOTALL):
        where, addend = struct.unpack("<Q8xQ", match.group())
        if where - at == addend and addend % 4096 == 0:
            return int(addend)
    return _text_va_of_relocations(image)


def _text_va_of_relocations(image: bytes) -> int:
    """`_text` when no pointer to it is known: KIMAGE_VADDR of v6.12 is a multiple of 2 GiB (asm/memory.h).

    The place that any R_AARCH64_RELATIVE entry relocates lies within 2 GiB above it.
    """
    match = re.search(rb".{6}\xff\xff\x03\x04\0{6}.{6}\xff\xff", image, re.DOTALL)
    if match is None:
        return DEFAULT_TEXT_VA
    (where,) = struct.unpack_from("<Q", match.group())
    return int(where) & ~0x7FFF_FFFF
