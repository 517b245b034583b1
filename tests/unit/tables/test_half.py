"""Tests of harness.tables.half."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import UsageError
from harness.snapshot import Snapshot, Vcpu
from harness.tables.half import Half, view_of
from harness.vmsa import Regime
from harness.vmsa.registers import Sctlr, Tcr

MakeGuest = Callable[..., Any]


def test_a_kernel_half(make_guest: MakeGuest) -> None:
    """The kernel half of a vCPU starts at the table that its TTBR1 holds."""
    guest = make_guest(14)
    regime = view_of(guest.snapshot()).regime(Half.KERNEL)
    assert regime.table_pa == guest.builder.regime.table_pa
    assert regime.geometry.granule_log2 == 14


def test_another_table(make_guest: MakeGuest) -> None:
    """`table_pa` takes the place of TTBR's table in its half, and in no other."""
    view = view_of(make_guest().snapshot(), table_pa=0x4444_4000, half=Half.USER)
    assert view.regime(Half.USER).table_pa == 0x4444_4000
    assert view.regime(Half.KERNEL).table_pa != 0x4444_4000
    assert view.instead[Half.USER]


@pytest.mark.parametrize(
    ("arguments", "registers", "said"),
    [
        ({"vcpu": 3}, {}, "no vCPU 3; there are: 0 to 0"),
        ({"table_pa": 0x1234}, {}, "cannot hold 0x1234"),
        ({}, {"SCTLR_EL1": 0}, "stage 1 translation is off"),
        ({}, {"ID_AA64MMFR0_EL1": 0xF}, "PARange"),
        ({}, {"TCR_EL1": Tcr.t1sz.into(0, 3)}, "every address of it meets a translation fault"),
        ({}, {"TCR_EL1": 1 << 64}, "not a value of 64 bits"),
    ],
)
def test_nonsense(
    make_guest: MakeGuest, arguments: dict[str, Any], registers: dict[str, int], said: str
) -> None:
    """Registers and arguments of which no tables come are a UsageError that says why."""
    with pytest.raises(UsageError, match=said):
        view_of(make_guest().snapshot(**registers), **arguments).regime(Half.KERNEL)


def test_no_vcpu(make_guest: MakeGuest) -> None:
    """A snapshot without a vCPU is refused in words."""
    whole = make_guest().snapshot()
    with pytest.raises(UsageError, match="there are: none"):
        view_of(Snapshot(vcpus=(), memory=whole.memory, origin="empty"))


def test_one_half_is_enough(make_guest: MakeGuest) -> None:
    """Registers of a core that lack TTBR0 do not keep anyone from the kernel half."""
    whole = make_guest().snapshot()
    registers = {name: value for name, value in whole.vcpus[0].registers.items() if name != "TTBR0_EL1"}
    view = view_of(Snapshot(vcpus=(Vcpu(registers=registers),), memory=whole.memory, origin="core"))
    assert isinstance(view.of(1 << 63 | 1 << 55), Regime)
    with pytest.raises(UsageError, match="user half: TTBR0_EL1 is not known"):
        view.regime(Half.USER)


def test_another_vcpu_has_the_kernel(make_guest: MakeGuest) -> None:
    """Where the first vCPU's MMU is still off, the kernel's tables are those of one whose is on."""
    whole = make_guest().snapshot()
    asleep = Vcpu(registers={**whole.vcpus[0].registers, "SCTLR_EL1": 0, "TTBR1_EL1": 0})
    both = Snapshot(vcpus=(asleep, whole.vcpus[0]), memory=whole.memory, origin="two")
    assert view_of(both).regime(Half.KERNEL) == view_of(whole).regime(Half.KERNEL)
    assert "vCPU 0" in view_of(both).instead[Half.KERNEL]
    with pytest.raises(UsageError, match="is off"):
        view_of(both, vcpu=0).regime(Half.KERNEL)
    assert Sctlr(asleep.registers["SCTLR_EL1"]).m is False
