"""Tests of harness.snapshot.snapshot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.bulk import Ram, Reads
from harness.memory.ram import RAM_BASE_PA, SharedRam, make_ram
from harness.snapshot import REGISTERS, Snapshot, Vcpu


@pytest.mark.parametrize(("pstate", "el"), [(0x3C5, 1), (0x8000_0000, 0), (0x3C9, 2)])
def test_exception_level(pstate: int, el: int) -> None:
    """PSTATE.EL is bits 3:2 (Arm ARM C5.2.3, CurrentEL has the same place)."""
    assert Vcpu(registers={"cpsr": pstate}).el == el


def test_unknown_exception_level() -> None:
    """A core file may hold no PSTATE: then there is no exception level to tell."""
    assert Vcpu(registers={}).el is None


def test_registers_are_named_once() -> None:
    """What a snapshot keeps is spelled as the gdbstub of QEMU 10.2 spells it, each name once."""
    assert len(set(REGISTERS)) == len(REGISTERS)
    assert {"pc", "cpsr", "TTBR1_EL1", "TCR_EL2", "ID_AA64MMFR0_EL1"} <= set(REGISTERS)


@pytest.fixture
def ram() -> Iterator[SharedRam]:
    """A MiB of RAM with a word in its second page."""
    descriptor = make_ram(1)
    memory = SharedRam(descriptor, 1 << 20)
    os.close(descriptor)
    memory.write(RAM_BASE_PA + 0x1008, (77).to_bytes(8, "little"))
    yield memory
    memory.close()


class InPieces:
    """Memory that cannot be had in one piece."""

    contiguous = None
    ranges = (range(0x1000, 0x2000),)

    def read(self, pa: int, size_bytes: int) -> bytes:
        return pa.to_bytes(size_bytes, "little")


def test_tables_without_a_copy(ram: SharedRam) -> None:
    """Memory in one piece is handed on as a buffer, at its addresses; any other by reads."""
    snapshot = Snapshot(vcpus=(), memory=ram, origin="a test")
    source = snapshot.tables()
    assert isinstance(source, Ram)
    words = source.words(RAM_BASE_PA + 0x1008, 1, big_endian=False)
    assert words is not None
    assert words.tolist() == [77]
    pieces = replace(snapshot, memory=InPieces()).tables()
    assert isinstance(pieces, Reads)
    words = pieces.words(0x1234, 1, big_endian=False)
    assert words is not None
    assert words.tolist() == [0x1234]


def test_closing(ram: SharedRam) -> None:
    """A snapshot of a running machine closes nothing of it; one that owns something lets go of it."""
    closed: list[bool] = []
    snapshot = Snapshot(vcpus=(), memory=ram, origin="a test")
    with snapshot:
        pass
    assert snapshot.read(RAM_BASE_PA + 0x1008, 1) == b"M"
    with replace(snapshot, on_close=lambda: closed.append(True)):
        assert not closed
    assert closed == [True]
