"""The kernels of a chain, and the machine that all of them run on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.kernels.kernel import Kernel
from harness.linux.kconfig import read_config
from harness.matrix.cell import Cell
from harness.matrix.run import Bench, machine_spec
from harness.smoke.subject import Subject
from harness.spec import Disk, MachineSpec

__all__ = ["Stage", "chain_machine", "find_disk", "log_of", "refused_by_config"]

_BOOTING = re.compile(rb"(?=Booting Linux on physical CPU )")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A kernel of a chain: what is asked of it, and what it is started with."""

    cell: Cell
    kernel: Kernel
    spec: MachineSpec
    """How it would be booted: its Image, initramfs and command line are what it is started with by kexec."""

    @classmethod
    def of(cls, cell: Cell, kernel: Kernel, bench: Bench) -> Stage:
        """A kernel with its initramfs, made unless it is in the cache."""
        return cls(cell=cell, kernel=kernel, spec=machine_spec(cell, kernel, bench))


def chain_machine(stages: Sequence[Stage], more: tuple[Disk, ...] = ()) -> MachineSpec:
    """The machine that the first stage boots on, with Image and initramfs of each later one on a disk.

    It has no ITS: a kernel leaves the tables of its interrupts in memory and switched on, and outside of EFI
    has no means to tell the next one where. That one says "Booted with LPIs enabled, memory probably
    corrupted", and is (Linux drivers/irqchip/irq-gic-v3-its.c, redist_disable_lpis()).
    """
    disks = [
        Disk(path=path, serial=f"{what}-{number}", read_only=True)
        for number, stage in enumerate(stages)
        if number
        for what, path in zip(("image", "initrd"), stage.spec.direct, strict=True)
    ]
    return dataclasses.replace(stages[0].spec, disks=(*disks, *more), its=False)


def find_disk(serial: str) -> str:
    """Shell words that set `d` to the name of a disk in the guest, and fail where it is not there."""
    return f'd=$(grep -lx {serial} /sys/block/vd*/serial | cut -d/ -f4) && [ -n "$d" ]'


def log_of(transcript: bytes, number: int) -> bytes:
    """What the kernel of that number in the chain said, from its first line on; empty where it did not."""
    _, *kernels = _BOOTING.split(transcript)
    return kernels[number] if number < len(kernels) else b""


def refused_by_config(subject: Subject, *, panic: bool = False) -> str:
    """Why a kernel cannot start another, as far as its configuration says; empty where it may."""
    config = read_config(subject.kernel.config) if subject.kernel.config is not None else None
    if config is None:
        return ""
    if "y" not in (config.get("KEXEC"), config.get("KEXEC_FILE")):
        return "the kernel was built without CONFIG_KEXEC and CONFIG_KEXEC_FILE"
    if panic and config.get("CRASH_DUMP") != "y":
        return "the kernel was built without CONFIG_CRASH_DUMP"
    return ""
