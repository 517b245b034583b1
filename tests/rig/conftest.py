"""A machine without a kernel: an `Image` that is one branch to itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.qemu.probe import Qemu
from harness.spec import MachineSpec

BRANCH_TO_SELF = bytes.fromhex("00000014")  # `b .`, Arm ARM C6.2 "B"


@pytest.fixture(scope="session")
def qemu() -> Qemu:
    """The host's QEMU."""
    return Qemu.find()


@pytest.fixture
def idle_spec(tmp_path: Path) -> MachineSpec:
    """A machine whose only vCPU spins where QEMU puts a kernel."""
    payload = tmp_path / "payload"
    payload.write_bytes(BRANCH_TO_SELF * 16)
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"granule")
    return MachineSpec(kernel=payload, initrd=initrd, cmdline="", vcpus=1, memory_mib=128)
