"""Tests of harness.snapshot.snapshot."""

from __future__ import annotations

import pytest

from harness.snapshot import REGISTERS, Vcpu


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
