"""Tests of harness.snapshot.inferred; what it infers of whole files is tested with those."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from harness.snapshot import open_snapshot
from harness.snapshot.inferred import vmcoreinfo_of

BASE_PA = 0x4000_0000
TEXT_VA = 0xFFFF_8000_8000_0000
PAGE = 0x1000
INFO_AT, OTHER_INFO_AT = 0x8_0000, 0x8_1000
OTHER_AT = 0x7_A000
"""Where another first table is; TEXT_VA leads to 0x6_0000."""


def _two_kernels(guest: Any) -> bytes:
    """Memory with a second first table, and a second VMCOREINFO that speaks of it and keeps its word."""
    at = guest.swapper_pa - BASE_PA
    memory = bytearray(guest.memory)
    memory[OTHER_AT : OTHER_AT + PAGE] = memory[at : at + PAGE]
    lines = dict(line.split(b"=") for line in guest.info.splitlines())
    va = TEXT_VA + OTHER_AT - 0x6_0000
    lines[b"OSRELEASE"] = b"6.12.0-last"
    lines[b"SYMBOL(swapper_pg_dir)"] = f"{va:x}".encode()
    lines[b"NUMBER(kimage_voffset)"] = f"{va - BASE_PA - OTHER_AT:#x}".encode()
    text = b"".join(b"%s=%s\n" % pair for pair in lines.items())
    note = struct.pack("<III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text
    memory[OTHER_INFO_AT : OTHER_INFO_AT + len(note)] = note
    return bytes(memory)


@pytest.mark.parametrize(("table_at", "release"), [(None, "6.12.0-test"), (OTHER_AT, "6.12.0-last")])
def test_the_note_of_the_tables_in_use(make: Any, guest: Any, table_at: int | None, release: str) -> None:
    """Of two notes that keep their word that one counts whose tables a vCPU has; otherwise the first."""
    table_pa = guest.swapper_pa if table_at is None else BASE_PA + table_at
    given = {**guest.registers, "TTBR1_EL1": table_pa}
    with open_snapshot(make.file("two.flat", _two_kernels(guest)), registers=given) as snapshot:
        assert snapshot.first_tables == {table_pa}
        found = vmcoreinfo_of(snapshot.memory, snapshot.first_tables)
        assert found is not None
        assert found.release == release
        for tables in ((), {table_pa + PAGE}):
            first = vmcoreinfo_of(snapshot.memory, tables)
            assert first is not None
            assert first.release == "6.12.0-test"
