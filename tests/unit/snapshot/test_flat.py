"""Tests of harness.snapshot.flat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.snapshot import kernel_regime, open_snapshot
from harness.snapshot.flat import read_registers
from harness.vmsa import Translation, walk

BASE_PA = 0x4000_0000
TEXT_VA = 0xFFFF_8000_8000_0000


def test_a_flat_dump_is_walked(make: Any, guest: Any) -> None:
    """Without more than the file, memory is where `virt` has it and registers come from VMCOREINFO."""
    with open_snapshot(make.flat()) as snapshot:
        assert snapshot.ram == (range(BASE_PA, BASE_PA + len(guest.memory)),)
        found = walk(kernel_regime(snapshot), snapshot.read, TEXT_VA)
        assert isinstance(found, Translation)
        assert found.pa == BASE_PA + 0x6_0000
        assert any("0x40000000" in note for note in snapshot.notes)


def test_a_wrong_base_address_is_noticed(make: Any) -> None:
    """Placed elsewhere, the tables are not where VMCOREINFO says: an error that asks about the address."""
    with pytest.raises(UsageError, match="is the physical address of the memory right"):
        open_snapshot(make.flat(), base_pa=0x8000_0000)


def test_registers_from_json(make: Any, guest: Any) -> None:
    """A JSON file of registers, as numbers or as hexadecimal text, of one vCPU or of several, is taken."""
    memory = make.file("bare", guest.memory[:0x8_0000])
    text = {name: hex(value) for name, value in guest.registers.items()}
    for registers in (text, [guest.registers, text]):
        path = make.file("registers.json", json.dumps(registers).encode())
        with open_snapshot(memory, base_pa=BASE_PA, registers=path) as snapshot:
            assert kernel_regime(snapshot).table_pa == guest.swapper_pa
            assert snapshot.vcpus[-1].registers == guest.registers


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "registers of 0 vCPUs"),
        (b"[" + b"{}," * 5000 + b"{}]", "5001 vCPUs"),
        (b"3", "object of name and value"),
        (b'{"pc": "0x1g"}', "register pc"),
        (b'{"pc": true}', "register pc"),
        (b'{"pc": 1.5}', "register pc"),
        (b'{"pc": -1}', "register pc"),
        (b'{"pc": 18446744073709551616}', "register pc"),
        (b'{"": 1}', "not the name"),
        (b'{"a b": 1}', "not the name"),
        (b" " * (5 << 20), "more than"),
    ],
)
def test_bad_registers(make: Any, content: bytes, why: str) -> None:
    """Registers of any other form are refused with the file's name and what is wrong."""
    with pytest.raises(UsageError, match=rf"registers\.json.*{why}"):
        read_registers(make.file("registers.json", content))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60))
def test_any_registers_are_a_value_or_an_error_of_use(tmp_path: Path, junk: bytes) -> None:
    """Random files of registers never end in anything but registers or UsageError."""
    path = tmp_path / "registers"
    path.write_bytes(junk)
    try:
        read_registers(path)
    except UsageError:
        return
