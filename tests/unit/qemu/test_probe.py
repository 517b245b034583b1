"""Tests of harness.qemu.probe that need no QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DeadlineExceeded, UsageError
from harness.qemu import probe
from harness.qemu.probe import CpuModel, Qemu, granules_of, resolve_accel
from harness.spec import Accel, PageSize

# Fields of ID_AA64MMFR0_EL1: TGran4 31:28, TGran64 27:24, TGran16 23:20.
ALL, NONE_16K, ONLY_16K = 0x00100000, 0x00000000, 0xFF100000


@pytest.mark.parametrize(
    ("mmfr0", "granules"),
    [
        (ALL, set(PageSize)),
        (NONE_16K, {PageSize.K4, PageSize.K64}),
        (ONLY_16K, {PageSize.K16}),
        (0x10200000, set(PageSize)),  # LPA2 at 4K (1) and 16K (2)
        (0xFF000000, set()),
        (0xFFFFFFFF_F0000000 | 0xF << 28, {PageSize.K64}),
    ],
)
def test_granules(mmfr0: int, granules: set[PageSize]) -> None:
    """The three fields are read with their different encodings of `none`."""
    assert granules_of(mmfr0) == granules


def test_kvm_by_name_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--accel kvm` where there is none says why and what to do."""
    monkeypatch.setattr(probe, "kvm_obstacle", lambda: "/dev/kvm is not permitted to this user")
    with pytest.raises(UsageError, match=r"not permitted.*--accel tcg"):
        resolve_accel(Accel.KVM)
    assert resolve_accel(Accel.AUTO) is Accel.TCG


def test_kvm_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes KVM where it can be used, and `tcg` stays TCG."""
    monkeypatch.setattr(probe, "kvm_obstacle", lambda: None)
    assert resolve_accel(Accel.AUTO) is Accel.KVM
    assert resolve_accel(Accel.KVM) is Accel.KVM
    assert resolve_accel(Accel.TCG) is Accel.TCG


def test_models_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that QEMU refuses is left out of a suggestion; under KVM there is none to make."""

    def cpu_model(_qemu: Qemu, argument: str, _accel: Accel) -> CpuModel:
        if argument == "refused":
            raise UsageError("QEMU refuses it")
        if argument == "mute":
            raise DeadlineExceeded("no answer")
        return CpuModel(argument=argument, granules=frozenset({PageSize.K16}))

    monkeypatch.setattr(Qemu, "cpu_names", lambda _qemu: ("refused", "mute", "works"))
    monkeypatch.setattr(Qemu, "cpu_model", cpu_model)
    qemu = Qemu(program="qemu", version=(7, 2, 0), has_sandbox=True)
    assert qemu.models_with(PageSize.K16) == ("works",)
    assert qemu.models_with(PageSize.K4) == ()
    assert qemu.models_with(PageSize.K16, Accel.KVM) == ()


def test_output_that_is_not_utf8(tmp_path: Path) -> None:
    """A program that answers --version with any bytes is refused with what it said."""
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nprintf '\\377\\n'\n")
    program.chmod(0o755)
    with pytest.raises(UsageError, match="does not look like QEMU"):
        Qemu.find(str(program))
