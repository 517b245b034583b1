"""Tests of harness.snapshot.frames: what pyelftools decodes of its rules, for code as objdump has it."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from elftools.dwarf.callframe import FDE, CallFrameInfo
from elftools.dwarf.structs import DWARFStructs
from hypothesis import given
from hypothesis import strategies as st

from harness.snapshot.frames import debug_frame

CODE_VA = 0xFFFF_8000_8001_0000
PACIASP, RET, BL, MOV_X29_SP = 0xD503233F, 0xD65F03C0, 0x94000001, 0x910003FD
STP_PRE_48 = 0xA9BD7BFD  # stp x29, x30, [sp, #-48]!
SUB_SP_80, STP_AT_64, ADD_X29_SP_64 = 0xD10143FF, 0xA9047BFD, 0x910103FD
X29, X30, SP = 29, 30, 31


def _table(*code: int) -> list[dict[Any, Any]]:
    """The decoded rows of the one function that the code is."""
    data = debug_frame(struct.pack(f"<{len(code)}I", *code), CODE_VA, [(CODE_VA, CODE_VA + 4 * len(code))])
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
    info: Any = CallFrameInfo(BytesIO(data), len(data), 0, structs)
    _, entry = info.get_entries()
    assert isinstance(entry, FDE)
    assert (entry["initial_location"], entry["address_range"]) == (CODE_VA, 4 * len(code))
    return list(entry.get_decoded().table)


def _cfa(row: dict[Any, Any]) -> tuple[int, int]:
    return row["cfa"].reg, row["cfa"].offset


def test_a_record_that_moves_the_stack_pointer() -> None:
    """Before `stp x29, x30, [sp, #-48]!` the CFA is sp, after it sp+48, after `mov x29, sp` x29+48."""
    rows = _table(PACIASP, STP_PRE_48, MOV_X29_SP, BL, RET)
    assert [(row["pc"] - CODE_VA, *_cfa(row)) for row in rows] == [(0, SP, 0), (8, SP, 48), (12, X29, 48)]
    assert (rows[-1][X29].type, rows[-1][X29].arg) == ("OFFSET", -48)
    assert X29 not in rows[0]


def test_a_record_within_a_frame() -> None:
    """After `sub sp, sp, #80; stp x29, x30, [sp, #64]; add x29, sp, #64` the CFA is x29+16."""
    rows = _table(SUB_SP_80, STP_AT_64, ADD_X29_SP_64, BL, RET)
    assert [(row["pc"] - CODE_VA, *_cfa(row)) for row in rows] == [(0, SP, 0), (8, SP, 80), (12, X29, 16)]
    assert rows[-1][X29].arg == -16


def test_a_leaf_returns_by_its_link_register() -> None:
    """A function without a record that calls nothing leaves x29 and x30 as they are."""
    (row,) = _table(PACIASP, RET)
    assert _cfa(row) == (SP, 0)
    assert not {X29, X30} & set(row)


def test_assembly_that_calls_uses_the_record_there_is() -> None:
    """A function without a record of its own that calls others is unwound by x29 from its start."""
    (row,) = _table(BL, RET)
    assert _cfa(row) == (X29, 16)
    assert X30 in row


@pytest.mark.parametrize("saved", [0, 0xFFFF_8000_8123_4568, 0x0023_8000_8123_4568])
def test_a_return_address_without_its_code(saved: int) -> None:
    """The rule of x30 loads it above x29, clears a pointer authentication code, and leaves 0 as it is."""
    (row,) = _table(BL, RET)
    cfa, block = 0xFFFF_8000_8000_0100, list(row[X30].arg)
    memory = {cfa - 8: saved}
    assert _evaluated(bytes(block), cfa, memory) == (saved and saved | 0xFFFF << 48)


def _evaluated(block: bytes, cfa: int, memory: dict[int, int]) -> int:
    """The operations of DWARF 5, 2.5.1, that the rules use."""
    stack, at = [cfa], 0
    while at < len(block):
        operation, at = block[at], at + 1
        if operation == 0x0A:  # const2u
            stack.append(struct.unpack_from("<H", block, at)[0])
            at += 2
        elif operation == 0x0E:  # const8u
            stack.append(struct.unpack_from("<Q", block, at)[0])
            at += 8
        elif operation == 0x1C:  # minus
            top = stack.pop()
            stack.append(stack.pop() - top)
        elif operation == 0x06:  # deref
            stack.append(memory[stack.pop()])
        elif operation == 0x12:  # dup
            stack.append(stack[-1])
        elif operation == 0x21:  # or
            stack.append(stack.pop() | stack.pop())
        else:  # bra, skip
            assert operation in (0x28, 0x2F)
            (jump,) = struct.unpack_from("<h", block, at)
            at += 2 + (jump if operation == 0x2F or stack.pop() else 0)
    assert at == len(block)
    return stack[-1]


@given(st.binary(max_size=400), st.lists(st.tuples(st.integers(-64, 500), st.integers(-64, 500)), max_size=9))
def test_any_code_gives_rules(code: bytes, places: list[tuple[int, int]]) -> None:
    """Whatever bytes a guest has for code, and wherever its symbols point, rules come of it."""
    data = debug_frame(code, CODE_VA, [(CODE_VA + first, CODE_VA + end) for first, end in places])
    assert len(data) % 8 == 0
