"""Call frames of a kernel without debug information, worked out from its code, for gdb to unwind by.

arm64 kernels always keep frame records (arch/arm64/Kconfig: FRAME_POINTER is y): x29 points at the caller's
x29 and x30. What differs is where in a function the
record is made; gdb's own look at prologues gives up on a stack protector, or on a function that ftrace may
patch. The outcome is a .debug_frame (DWARF 4, 6.4). May import NumPy and the standard library.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["debug_frame"]

_X29, _X30, _SP = 29, 30, 31
_KERNEL_VA: Final = 0xFFFF << 48
"""Set in every address of kernel code; ORed in, it takes a pointer authentication code away."""

_CIE: Final = struct.pack("<IB2sBBBBBB", 0xFFFF_FFFF, 4, b"\0\x08", 0, 4, 0x78, _X30, 0x0C, _SP) + b"\0"
"""Version 4, no augmentation, addresses of 8 bytes, code in 4s, data in -8s, x30 returns; CFA is sp."""
_DEF_CFA, _DEF_CFA_OFFSET, _OFFSET, _VAL_EXPRESSION, _ADVANCE4 = 0x0C, 0x0E, 0x80, 0x16, 0x04


def debug_frame(code: bytes, code_va: int, functions: Iterable[tuple[int, int]]) -> bytes:
    """The .debug_frame of functions, each of addresses (first, end); the code is from `code_va` on."""
    words = np.frombuffer(code[: len(code) & ~3], "<u4")
    marks = _Marks(words)
    entries = [_entry(_CIE)]
    for first_va, end_va in functions:
        first, end = (va - code_va >> 2 for va in (first_va, end_va))
        if 0 <= first < end <= len(words):
            rules = _rules(marks, first, end)
            entries.append(_entry(struct.pack("<IQQ", 0, first_va, end_va - first_va) + rules))
    return b"".join(entries)


class _Marks:
    """Where in the code the instructions are that matter (Arm ARM C6.2), as sorted indices."""

    def __init__(self, words: NDArray[np.uint32]) -> None:
        self.words = words
        # STP x29, x30, [sp, #imm]! and STP x29, x30, [sp, #imm]
        self.records = np.flatnonzero((words & 0xFE40_7FFF) == 0xA800_7BFD)
        # SUB sp, sp, #imm
        self.subs = np.flatnonzero((words & 0xFF80_03FF) == 0xD100_03FF)
        # BL, BLR
        self.calls = np.flatnonzero(((words >> 26) == 0x25) | ((words & 0xFFFF_FC1F) == 0xD63F_0000))
        # MOV x29, sp, which is ADD x29, sp, #0, and ADD x29, sp, #imm
        self.points = np.flatnonzero((words & 0xFF80_03FF) == 0x9100_03FD)

    @staticmethod
    def first(indices: NDArray[np.intp], start: int, end: int) -> int | None:
        """The first of them from `start` on and before `end`."""
        at = int(np.searchsorted(indices, start))
        return int(indices[at]) if at < len(indices) and indices[at] < end else None


def _rules(marks: _Marks, first: int, end: int) -> bytes:
    record = marks.first(marks.records, first, end)
    if record is None:
        # Assembly that calls has made the record elsewhere (entry.S); what calls nothing has none.
        is_leaf = marks.first(marks.calls, first, end) is None
        return b"" if is_leaf else _cfa(_X29, 16) + _saved(16)
    word = int(marks.words[record])
    imm = 8 * ((word >> 15 & 0x7F) - (word >> 14 & 0x80))
    below = np.searchsorted(marks.subs, (first, record))
    frame = sum(_add_imm(int(marks.words[at])) for at in marks.subs[below[0] : below[1]])
    is_pre_indexed = word >> 23 & 0b11 == 0b11
    if is_pre_indexed:
        frame -= imm
    # From the record to the CFA, which is sp before the function.
    up = frame - (0 if is_pre_indexed else imm)
    if not 16 <= up <= 0xFFFF or not 16 <= frame <= 0xFFFF:
        return _cfa(_X29, 16) + _saved(16)
    rules = _advance(record + 1 - first) + bytes((_DEF_CFA_OFFSET,)) + _uleb(frame) + _saved(up)
    pointed = marks.first(marks.points, record, end)
    if pointed is not None:
        rules += _advance(pointed - record) + _cfa(_X29, up)
    return rules


def _add_imm(word: int) -> int:
    """The immediate of an ADD or SUB, which may be shifted by 12."""
    return (word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0)


def _cfa(register: int, offset: int) -> bytes:
    return bytes((_DEF_CFA, register)) + _uleb(offset)


def _saved(up: int) -> bytes:
    """x29 and x30 are in the record, `up` bytes below the CFA; a return address of 0 stays 0: the end."""
    # DW_OP_const2u, minus, deref; dup, bra to the OR, skip to the end; const8u, or.
    load = struct.pack("<BHBB", 0x0A, up - 8, 0x1C, 0x06)
    choose = struct.pack("<BBhBh", 0x12, 0x28, 3, 0x2F, 10)
    block = load + choose + struct.pack("<BQB", 0x0E, _KERNEL_VA, 0x21)
    return (
        bytes((_OFFSET | _X29,)) + _uleb(up // 8) + bytes((_VAL_EXPRESSION, _X30)) + _uleb(len(block)) + block
    )


def _advance(instructions: int) -> bytes:
    return struct.pack("<BI", _ADVANCE4, instructions)


def _uleb(value: int) -> bytes:
    return bytes(_uleb_bytes(value))


def _uleb_bytes(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


def _entry(content: bytes) -> bytes:
    """A CIE or FDE, filled up with DW_CFA_nop."""
    padded = content + bytes(-(len(content) + 4) % 8)
    return struct.pack("<I", len(padded)) + padded
