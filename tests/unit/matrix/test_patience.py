"""Tests of harness.matrix.patience."""

from __future__ import annotations

from harness.matrix.patience import Patience
from harness.spec import Accel


def test_patience_scales() -> None:
    """Emulation gets longer than KVM, and the costly CPU model longer still."""
    kvm = Patience.of(Accel.KVM, "host")
    tcg = Patience.of(Accel.TCG, "neoverse-n1")
    costly = Patience.of(Accel.TCG, "max,pauth-impdef=on")
    assert kvm.boot_s < tcg.boot_s < costly.boot_s
    assert kvm.command_s < tcg.command_s < costly.command_s


def test_the_users_limit_bounds_all_waits() -> None:
    """No wait is longer than the cell's time-out."""
    patience = Patience.of(Accel.TCG, "max", cell_s=10)
    assert patience.cell_s == 10
    assert max(patience.boot_s, patience.command_s, patience.silence_s) <= 10


def test_the_users_limit_may_be_generous() -> None:
    """A time-out longer than the default lets one command have all of it."""
    patience = Patience.of(Accel.TCG, "neoverse-n1", cell_s=3600)
    assert patience.command_s == patience.boot_s == 3600
    assert patience.silence_s == Patience.of(Accel.TCG, "neoverse-n1").silence_s
