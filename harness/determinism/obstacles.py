"""Why a machine cannot be run so that it repeats. May import harness.spec and the standard library."""

from __future__ import annotations

from harness.spec import Accel, MachineSpec

__all__ = ["obstacles"]


def obstacles(spec: MachineSpec) -> tuple[str, ...]:
    """Why a machine cannot be run so that it repeats, one line each; none when it can."""
    found = []
    if spec.accel is not Accel.TCG:
        found.append(f"instructions are counted under TCG only, and this is {spec.accel.value}")
    if spec.disks:
        found.append("virtio-blk completes requests when the host does: no disks")
    if spec.wire is not None:
        found.append("virtio-net delivers when the host's threads do: no network")
    return tuple(found)
