"""The selector believes a member table only where every value is in its range."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.kernels.combined import assemble
from harness.spec import PageSize

Ask = Callable[[str, bytes], str]

SELECTOR_BYTES = 4096
TABLE_AT, TABLE_BYTES = 64, 48 + 3 * 128


@pytest.fixture(params=[False, True], ids=["stored", "lz4"])
def table(tmp_path: Path, request: pytest.FixtureRequest) -> bytearray:
    """The table of a combined Image of two kernels, as the assembler writes it."""
    kernels = []
    for size, bits in ((PageSize.K4, 1), (PageSize.K64, 3)):
        path = tmp_path / size.token
        header = struct.pack("<2I6Q4sI", 0, 0, 0, 0x8000, 8 | bits << 1, 0, 0, 0, b"ARM\x64", 0)
        path.write_bytes(header + bytes(0x5000))
        kernels.append((size.token, path))
    out = io.BytesIO()
    assemble(bytes(SELECTOR_BYTES), kernels, out, lz4=request.param)
    return bytearray(out.getvalue()[TABLE_AT : TABLE_AT + TABLE_BYTES])


def is_sound(ask: Ask, table: bytearray, *, sign: bool = True, selector_bytes: int = SELECTOR_BYTES) -> bool:
    """The selector's judgement; `sign` makes the checksum right first."""
    signed = bytearray(table)
    if sign:
        struct.pack_into("<I", signed, 12, zlib.crc32(signed[16:]))
    return ask("t", struct.pack("=Q", selector_bytes) + signed) == "1"


def test_what_the_assembler_writes(ask: Ask, table: bytearray) -> None:
    """The assembler's table is sound as it is, for the selector it was made with."""
    assert is_sound(ask, table, sign=False)
    assert not is_sound(ask, table, selector_bytes=2 * SELECTOR_BYTES)


def test_every_bit_is_under_the_checksum(ask: Ask, table: bytearray) -> None:
    """Any one bit flipped is noticed."""
    for bit in range(8 * len(table)):
        table[bit // 8] ^= 1 << bit % 8
        assert not is_sound(ask, table, sign=False), bit
        table[bit // 8] ^= 1 << bit % 8


MEMBER = 48
FIELDS = {
    "version": (8, "<I", [0, 2]),
    "count": (16, "<I", [0, 4, 1 << 31]),
    "selector_bytes": (20, "<I", [0, 8192]),
    "file_bytes": (24, "<Q", [0, 4097, 1 << 40, (1 << 64) - 4096]),
    "work_offset": (32, "<Q", [0, 4096, 1 << 40, (1 << 64) - 4096]),
    "image_bytes": (40, "<Q", [0, 4096, 4097, 1 << 50]),
    "page_shift": (MEMBER, "<I", [0, 11, 13, 16, 32, 1 << 31]),
    "packing": (MEMBER + 4, "<I", [2, 1 << 31]),
    "offset": (MEMBER + 16, "<Q", [0, 64, 4097, 1 << 29, 1 << 63, (1 << 64) - 4096]),
    "packed_bytes": (MEMBER + 24, "<Q", [0, 1 << 29, 1 << 63, (1 << 64) - 1]),
    "bytes": (MEMBER + 32, "<Q", [0, 63, 0x8001, 1 << 63]),
    "image_bytes of a member": (MEMBER + 40, "<Q", [0, 0x5000, 1 << 28, 1 << 63, (1 << 64) - 1]),
    "text_offset": (MEMBER + 48, "<Q", [8, 0x200000, 0x100000, 1 << 63, (1 << 64) - 4096]),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_values_out_of_range(ask: Ask, table: bytearray, name: str) -> None:
    """A value that cannot be is refused, though the checksum is right."""
    at, form, values = FIELDS[name]
    for value in values:
        wrong = bytearray(table)
        struct.pack_into(form, wrong, at, value)
        assert not is_sound(ask, wrong), hex(value)


def test_a_packed_kernel_needs_room_aside(ask: Ask, table: bytearray) -> None:
    """A kernel that is packed is first moved out of the way: the memory for that is claimed, too."""
    is_packed = struct.unpack_from("<I", table, MEMBER + 4)[0] == 1
    work_offset = struct.unpack_from("<Q", table, 32)[0]
    struct.pack_into("<Q", table, 40, work_offset + SELECTOR_BYTES)
    assert is_sound(ask, table) is not is_packed
