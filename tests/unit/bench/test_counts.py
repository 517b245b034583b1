"""The plugin's file, and its counts by function."""

from __future__ import annotations

import struct

import pytest

from harness.bench.counts import read_intervals
from harness.bench.opcode import Kind, kinds_of
from harness.bench.profile import NO_NAME, profile_of
from harness.errors import InfraError
from harness.linux.kallsyms import SymbolTable

from .plugin_file import NOP, TEXT, interval

TLBI_VMALLE1IS = 0xD508_831F


def test_two_samples() -> None:
    """Samples come in order, each with what it counted."""
    data = interval(5, (TEXT, 3, NOP), (TEXT + 4, 4, NOP)) + interval(6)
    first, second = read_intervals(data)
    assert (first.user, first.kernel, first.total) == (5, 7, 12)
    assert (second.user, second.kernel) == (6, 0)


@pytest.mark.parametrize("cut", [1, 20, 30])
def test_cut(cut: int) -> None:
    """A file that ends too soon is an error of ours, and no smaller count."""
    with pytest.raises(InfraError, match="end within"):
        list(read_intervals(interval(5, (TEXT, 3, NOP))[:-cut]))


def test_damaged() -> None:
    """Something else than a head, or a number of entries that cannot be, is refused."""
    for head in (struct.pack("<8sQQ", b"nonsense", 1, 0), struct.pack("<8sQQ", b"granules", 1, 1 << 40)):
        with pytest.raises(InfraError, match="damaged"):
            list(read_intervals(head))


def test_by_function() -> None:
    """Instructions are counted by the symbol they lie in, aborts by the entry to their handler."""
    table = SymbolTable([(TEXT, "_text"), (TEXT + 0x100, "do_mem_abort"), (TEXT + 0x200, "_end")])
    data = interval(
        9,
        (TEXT + 4, 2, NOP),
        (TEXT + 8, 3, TLBI_VMALLE1IS),
        (TEXT + 0x100, 4, NOP),
        (TEXT + 0x104, 4, NOP),
        (TEXT + 0x10_0000, 1, NOP),
    )
    profile = profile_of(next(read_intervals(data)), table)
    assert profile.functions == {"_text": 5, "do_mem_abort": 8, NO_NAME: 1}
    assert (profile.user, profile.kernel, profile.total, profile.aborts) == (9, 14, 23, 4)
    assert profile.kinds == {Kind.TLBI: 3}


# By aarch64-linux-gnu-as 2.40.
@pytest.mark.parametrize(
    ("opcode", "kinds"),
    [
        (NOP, ()),
        (TLBI_VMALLE1IS, (Kind.TLBI,)),
        (0xD508_8320, (Kind.TLBI,)),  # tlbi vae1is, x0
        (0xD508_7620, ()),  # dc ivac, x0
        (0xD50B_7420, (Kind.ZEROING,)),  # dc zva, x0
        (0xD503_3BBF, (Kind.BARRIER,)),  # dmb ish
        (0xD503_3B9F, (Kind.BARRIER,)),  # dsb ish
        (0xD503_3FDF, (Kind.BARRIER,)),  # isb
        (0xD503_305F, ()),  # clrex #0
        (0xF940_0020, (Kind.MEMORY,)),  # ldr x0, [x1]
        (0xA9BF_7BFD, (Kind.MEMORY,)),  # stp x29, x30, [sp, #-16]!
        (0xC85F_7C20, (Kind.MEMORY, Kind.EXCLUSIVE)),  # ldxr x0, [x1]
        (0xF820_0041, (Kind.MEMORY, Kind.EXCLUSIVE)),  # ldadd x0, x1, [x2]
        (0xC8A0_7C41, (Kind.MEMORY, Kind.EXCLUSIVE)),  # cas x0, x1, [x2]
        (0x8B01_0000, ()),  # add x0, x0, x1
        (0x1400_0000, ()),  # b .
    ],
)
def test_kinds(opcode: int, kinds: tuple[Kind, ...]) -> None:
    """Instructions are what the assembler made them of."""
    assert kinds_of(opcode) == kinds
