"""Tests of harness.qemu.probe against the host's QEMU."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.qemu.probe import Qemu
from harness.spec import Accel, PageSize


def test_granules_come_from_the_model(qemu: Qemu) -> None:
    """cortex-a57 has no 16K granule (its TRM, ID_AA64MMFR0_EL1), neoverse-n1 has all three."""
    assert qemu.cpu_model("cortex-a57", Accel.TCG).granules == {PageSize.K4, PageSize.K64}
    assert qemu.cpu_model("neoverse-n1", Accel.TCG).granules == set(PageSize)


def test_models_that_would_do(qemu: Qemu) -> None:
    """The suggestion for 16K names a model that has it and none that has not."""
    would_do = qemu.models_with(PageSize.K16)
    assert "neoverse-n1" in would_do
    assert "cortex-a57" not in would_do


def test_quicker_pointer_authentication(qemu: Qemu) -> None:
    """`pauth-impdef=on` is added where the model takes it, and only there."""
    assert qemu.cpu_model("max", Accel.TCG).argument == "max,pauth-impdef=on"
    assert qemu.cpu_model("cortex-a57", Accel.TCG).argument == "cortex-a57"
    assert qemu.cpu_model("max,pauth=off", Accel.TCG).argument == "max,pauth=off"


def test_models_without_aarch64_are_refused(qemu: Qemu) -> None:
    """cortex-a15 (Armv7-A) would hang on an arm64 kernel without a word: it is a usage error."""
    with pytest.raises(UsageError, match=r"cortex-a15 has no AArch64.*neoverse-n1"):
        qemu.cpu_model("cortex-a15", Accel.TCG)


def test_unknown_model_is_refused(qemu: Qemu) -> None:
    """An unknown CPU model is a usage error that names those there are."""
    with pytest.raises(UsageError, match=r"no CPU model 'cortex-a999'.*neoverse-n1"):
        qemu.cpu_model("cortex-a999", Accel.TCG)


def test_unknown_property_is_refused(qemu: Qemu) -> None:
    """A property that the model lacks is a usage error in QEMU's words."""
    with pytest.raises(UsageError, match="nonsense"):
        qemu.cpu_model("max,nonsense=on", Accel.TCG)
