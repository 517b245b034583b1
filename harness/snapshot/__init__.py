"""A guest at one moment: the registers of its vCPUs and its physical memory, wherever they come from.

    snapshot   what it is
    open       from any file that holds one
    saved      our own file of it
    core       QEMU's dump-guest-memory
    flat       memory and nothing else
    inferred   registers that a file lacks, from VMCOREINFO
    kernel     which tables are the kernel's, and which a process's

A running machine gives one while its vCPUs are stopped (`harness.qemu.frozen`); a saved snapshot and a core
file give the same value. Nothing here knows what QEMU is, but for the formats it writes.
"""

from harness.snapshot.kernel import is_trampoline, kernel_regime, user_regime
from harness.snapshot.open import open_snapshot
from harness.snapshot.saved import load, save
from harness.snapshot.snapshot import REGISTERS, Snapshot, Vcpu

__all__ = [
    "REGISTERS",
    "Snapshot",
    "Vcpu",
    "is_trampoline",
    "kernel_regime",
    "load",
    "open_snapshot",
    "save",
    "user_regime",
]
