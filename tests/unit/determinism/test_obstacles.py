"""Tests of harness.determinism.obstacles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.determinism.obstacles import obstacles
from harness.spec import Accel, Disk, MachineSpec, Wire

SPEC = MachineSpec(kernel=Path("Image"), initrd=Path("initrd"), cmdline="")


def test_obstacles() -> None:
    """A disk, a network and another accelerator are each named; a bare TCG machine has none of them."""
    assert obstacles(SPEC) == ()
    disk = Disk(path=Path("disk.img"), serial="d")
    assert ["virtio-blk" in one for one in obstacles(replace(SPEC, disks=(disk,)))] == [True]
    assert ["virtio-net" in one for one in obstacles(replace(SPEC, wire=Wire()))] == [True]
    assert ["kvm" in one for one in obstacles(replace(SPEC, accel=Accel.KVM))] == [True]
    assert len(obstacles(replace(SPEC, accel=Accel.KVM, disks=(disk,), wire=Wire()))) == 3
