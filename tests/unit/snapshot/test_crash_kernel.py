"""Tests of harness.snapshot.crash_kernel; a real dump's are in tests/smoke/test_kexec.py."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from harness.linux.kallsyms import SymbolTable
from harness.snapshot import crash_kernel, open_snapshot
from harness.snapshot.crash_kernel import crash_kernel_ram, whole_ram

BASE_PA, END_PA = 0x4000_0000, 0x4010_0000
TEXT_VA = 0xFFFF_8000_8000_0000
AT = 0x6_8000
"""Where crashk_res is; TEXT_VA leads to 0x6_0000."""


def _file(make: Any, guest: Any, start: int, last: int) -> Any:
    memory = bytearray(guest.memory)
    memory[AT : AT + 16] = struct.pack("<QQ", start, last)
    return make.file("guest.flat", bytes(memory))


@pytest.fixture(autouse=True)
def _symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    table = SymbolTable([(TEXT_VA, "_text"), (TEXT_VA + AT - 0x6_0000, "crashk_res")])
    monkeypatch.setattr(crash_kernel, "symbols_in", lambda _snapshot: table)


def test_what_a_dump_lacks_was_ram(make: Any, guest: Any) -> None:
    """The reservation that the kernel itself names is RAM, joined to what it touches, to its last byte."""
    with open_snapshot(_file(make, guest, END_PA, END_PA + 0xFFF)) as snapshot:
        assert list(crash_kernel_ram(snapshot)) == [range(END_PA, END_PA + 0x1000)]
        assert whole_ram(snapshot) == (range(BASE_PA, END_PA + 0x1000),)
        assert snapshot.ram == (range(BASE_PA, END_PA),)
    with open_snapshot(_file(make, guest, END_PA + 0x1000, END_PA + 0x1FFF)) as snapshot:
        assert whole_ram(snapshot) == (range(BASE_PA, END_PA), range(END_PA + 0x1000, END_PA + 0x2000))


def test_what_is_within_ram_changes_nothing(make: Any, guest: Any) -> None:
    """A live guest's reservation is RAM already."""
    with open_snapshot(_file(make, guest, BASE_PA + 0x1000, BASE_PA + 0x1FFF)) as snapshot:
        assert whole_ram(snapshot) == snapshot.ram


@pytest.mark.parametrize(("start", "last"), [(0, 0), (END_PA, END_PA - 1), (1, (1 << 64) - 1)])
def test_reservations_that_are_none(make: Any, guest: Any, start: int, last: int) -> None:
    """A kernel that reserved nothing has zeros, and what cannot be a reservation is none."""
    with open_snapshot(_file(make, guest, start, last)) as snapshot:
        assert whole_ram(snapshot) == snapshot.ram


def test_memory_without_a_kernel(make: Any) -> None:
    """Where there is no VMCOREINFO there is nothing to ask."""
    with open_snapshot(make.file("empty.flat", bytes(1 << 20)), registers={"TTBR1_EL1": 0}) as snapshot:
        assert whole_ram(snapshot) == snapshot.ram
