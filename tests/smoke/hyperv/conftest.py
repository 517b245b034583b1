"""Guests on Hyper-V with two disks of ours, every packet of theirs watched."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from uuid import UUID

import pytest

from harness.build.disks import ext4_disk
from harness.deadline import Deadline
from harness.hyperv.checker import CheckReport, WireChecker
from harness.hyperv.devices.balloon import Balloon
from harness.hyperv.devices.faults import Fault
from harness.hyperv.devices.netvsc import Netvsc
from harness.hyperv.devices.storvsc import MAX_TRANSFER_BYTES, Storvsc
from harness.hyperv.monitor import hyperv_setup
from harness.hyperv.net.host import IpHost
from harness.hyperv.net.streams import Sink
from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.disk import ScsiDisk
from harness.hyperv.scsi.inquiry import DiskIdentity
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Request
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.record import Record
from harness.matrix.run import Bench, machine_spec, subject_of
from harness.qemu.machine import Machine
from harness.smoke.subject import Subject
from harness.spec import Accel

# Several of these at once are slow, and how fast a guest is says nothing of what crosses its wire.
SLOWNESS = 5
_USUAL = Patience.of(Accel.TCG, "neoverse-n1", None)
PATIENCE = Patience(**{field.name: SLOWNESS * getattr(_USUAL, field.name) for field in fields(_USUAL)})
RAW_BYTES = 64 << 20
SENT_BYTES = 256 << 10
SECTION_BYTES = 68
DATA = random.Random(1).randbytes(RAW_BYTES // 2)  # noqa: S311 - content to compare, not a secret


@dataclass
class Guest:
    """A guest with two disks: `files` has ext4 on it, `raw` has DATA in its first half."""

    subject: Subject
    checker: WireChecker
    files: Storvsc
    raw: Storvsc
    adapter: Netvsc
    balloon: Balloon
    patience: Patience = PATIENCE
    data: bytes = DATA
    """What the first half of `raw` begins with."""

    def sh(self, script: str) -> str:
        done = self.subject.sh(script)
        assert done.ok, (script, done.text)
        return done.text.strip()

    def disk(self, serial: str) -> str:
        """The name of the disk with that serial number, once it is there."""
        find = f"grep -ls {serial} /sys/block/sd*/device/vpd_pg80 2>/dev/null | cut -d/ -f4"
        Deadline.after(PATIENCE.command_s).wait_until(
            lambda: bool(self.subject.sh(find).text.strip()), f"disk {serial}"
        )
        return f"/dev/{self.sh(find)}"

    def compared(self, name: str) -> int:
        """How often a rule was asked."""
        return sum(each.comparisons for each in self.checker.report().results if each.rule.name == name)

    def report(self) -> CheckReport:
        """What the checker found, printed with what was compared."""
        report = self.checker.report()
        for result in report.results:
            print(f"{result.rule.name:20} {result.comparisons:7} {result.verdict}")
        return report


@pytest.fixture
def start(granule_bench: Bench, granule_kernels: KernelStore) -> Iterator[Callable[..., Guest]]:
    """Starts a kernel with the two disks, watched: `start("debian-16k", faults=(...,))`.

    `change` makes another kernel of it; with `to_shell=False` it is not waited for.
    """
    closing: list[Callable[[], None]] = []

    def begin(
        name: str, *, faults: tuple[Fault, ...] = (), change: Callable[[Kernel], Kernel] = lambda same: same,
        to_shell: bool = True, max_transfer_bytes: int = MAX_TRANSFER_BYTES, vmbus: tuple[int, int] = (5, 3),
    ) -> Guest:  # fmt: skip
        if not granule_kernels.available(name):
            pytest.skip(f"{name} is not in the cache: granule kernels fetch {name}")
        image = Backing.copy_of(ext4_disk(granule_bench.cache, 4096).path)
        closing.append(image.close)
        raw = Backing(RAW_BYTES, "raw")
        closing.append(raw.close)
        raw.write(0, DATA)
        identity = DiskIdentity(serial="granule-raw", max_unmap_blocks=1 << 15)
        disks = (
            Storvsc(ScsiDisk(image, DiskIdentity(serial="granule-ext4"))),
            Storvsc(
                ScsiDisk(raw, identity),
                faults=faults,
                instance=UUID(int=0xA1),
                max_transfer_bytes=max_transfer_bytes,
            ),
        )
        # The smallest sections that netvsc takes (NETVSC_MTU_MIN): not even a header fits.
        adapter = Netvsc(IpHost({9: lambda: Sink(SENT_BYTES)}), send_section_bytes=SECTION_BYTES)
        balloon = Balloon()
        (cell, *_) = plan(
            Request(kernels=(name,), accel=Accel.TCG), granule_kernels, granule_bench.qemu
        ).cells
        kernel = change(granule_kernels.get(name))
        spec = replace(
            machine_spec(cell, kernel, granule_bench),
            hyperv=replace(hyperv_setup(granule_bench.cache), vmbus=vmbus), memory_mib=512, disks=(), vcpus=1,
        )  # fmt: skip
        checkers: list[WireChecker] = []
        machine = Machine(
            spec, granule_bench.qemu, devices=(*disks, adapter, balloon),
            watch=lambda host: checkers.append(WireChecker(host.log, host.memory, cell.page_size.bytes)),
        )  # fmt: skip
        closing.append(machine.close)
        deadline = Deadline.after(PATIENCE.cell_s)
        guest = Guest(
            subject_of(cell, kernel, machine, PATIENCE, deadline), checkers[0], *disks, adapter, balloon
        )
        if to_shell:
            boot(machine, Symbols(kernel), PATIENCE, Record())
            guest.subject.sh("modprobe sd_mod; modprobe ext4")
        return guest

    yield begin
    for close in reversed(closing):
        close()
