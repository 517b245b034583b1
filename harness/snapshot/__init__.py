"""A guest at one moment: the registers of its vCPUs and its physical memory, wherever they come from.

    snapshot   what it is

A running machine gives one while its vCPUs are stopped (`harness.qemu.frozen`); a saved snapshot and a core
file give the same value. Nothing here knows what QEMU is.
"""

from harness.snapshot.snapshot import REGISTERS, Snapshot, Vcpu

__all__ = ["REGISTERS", "Snapshot", "Vcpu"]
