"""Tests of harness.qemu.hyperv_part: what such a machine cannot be, refused before QEMU is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.determinism.conditions import Conditions
from harness.determinism.seed import Seed
from harness.errors import UsageError
from harness.qemu.hyperv_part import make_host
from harness.spec import Accel, Hyperv, MachineSpec

SPEC = MachineSpec(
    kernel=Path("/k"), initrd=Path("/i"), cmdline="", hyperv=Hyperv(monitor=Path("/m")), vcpus=1
)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (replace(SPEC, accel=Accel.KVM), "needs --accel tcg"),
        (replace(SPEC, vcpus=9), "8 vCPUs at most"),
        (replace(SPEC, hyperv=Hyperv(monitor=Path("/m"), vmbus=(5, 9))), "no VMBus 5.9; there are 2.4"),
        (replace(SPEC, exact=Conditions(seed=Seed(1))), "repeats"),
    ],
)
def test_what_cannot_be(spec: MachineSpec, words: str) -> None:
    """Each is refused with what would do."""
    with pytest.raises(UsageError, match=words):
        make_host(spec, -1, (), {})
