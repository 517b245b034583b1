"""storvsc of unmodified kernels on a disk of ours: ext4, every transfer size, errors, and no broken rule."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from harness.build.disks import PATTERN_SHA256, check_ext4, ext4_disk
from harness.deadline import Deadline
from harness.hyperv.checker import CheckReport, WireChecker
from harness.hyperv.devices.faults import Fault
from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.monitor import hyperv_setup
from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.command import READS, MEDIUM_READ_ERROR
from harness.hyperv.scsi.disk import ScsiDisk
from harness.hyperv.scsi.inquiry import DiskIdentity
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

KERNELS = ("debian-4k", "debian-16k", "trimmed-hyperv-4k", "trimmed-hyperv-16k", "trimmed-hyperv-64k")
PATIENCE = Patience.of(Accel.TCG, "neoverse-n1", None)
RAW_BYTES = 64 << 20
DATA = random.Random(1).randbytes(RAW_BYTES // 2)  # noqa: S311 - content to compare, not a secret
BLOCKS = (512, 1024, 4096, 16384, 65536, 131072, 1 << 20)


@dataclass
class Guest:
    """A guest with two disks: `files` has ext4 on it, `raw` has DATA in its first half."""

    subject: Subject
    checker: WireChecker
    files: Storvsc
    raw: Storvsc

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

    def report(self) -> CheckReport:
        """What the checker found, printed with what was compared."""
        report = self.checker.report()
        for result in report.results:
            print(f"{result.rule.name:20} {result.comparisons:7} {result.verdict}")
        return report


Start = Callable[..., Guest]


@pytest.fixture
def start(granule_bench: Bench, granule_kernels: KernelStore) -> Iterator[Start]:
    """Boots a kernel with the two disks, watched: `start("debian-16k", faults=[...])`."""
    closing: list[Callable[[], None]] = []

    def begin(name: str, *, faults: tuple[Fault, ...] = (), **options: int) -> Guest:
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
            Storvsc(ScsiDisk(raw, identity), faults=faults, instance=UUID(int=0xA1), **options),
        )
        (cell, *_) = plan(
            Request(kernels=(name,), accel=Accel.TCG), granule_kernels, granule_bench.qemu
        ).cells
        kernel = granule_kernels.get(name)
        spec = replace(
            machine_spec(cell, kernel, granule_bench),
            hyperv=hyperv_setup(granule_bench.cache), memory_mib=512, disks=(),
        )  # fmt: skip
        checkers: list[WireChecker] = []
        machine = Machine(
            spec, granule_bench.qemu, devices=disks,
            watch=lambda host: checkers.append(WireChecker(host.log, host.memory, cell.page_size.bytes)),
        )  # fmt: skip
        closing.append(machine.close)
        boot(machine, Symbols(kernel), PATIENCE, Record())
        subject = subject_of(cell, kernel, machine, PATIENCE, Deadline.after(PATIENCE.cell_s))
        subject.sh("modprobe sd_mod; modprobe ext4")
        return Guest(subject, checkers[0], *disks)

    yield begin
    for close in reversed(closing):
        close()


@pytest.mark.parametrize("kernel", KERNELS)
def test_ext4(start: Start, kernel: str) -> None:
    """A file of the host's is read, a copy of it written, and the host finds both and a clean file system."""
    guest = start(kernel)
    device = guest.disk("granule-ext4")
    guest.sh(f"mkdir -p /mnt/d && mount -t ext4 {device} /mnt/d")
    assert guest.sh("sha256sum /mnt/d/pattern").split()[0] == PATTERN_SHA256
    guest.sh("cp /mnt/d/pattern /mnt/d/copy && sync && umount /mnt/d")
    with guest.subject.machine.hyperv.locked():  # type: ignore[union-attr]
        assert check_ext4(guest.files.disk.backing.path, "/copy") == "clean, same content"
    assert guest.report().findings == ()


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_transfer_size(start: Start, kernel: str) -> None:
    """Blocks of 512 B to 1 MiB, direct and through the cache, read and written, arrive whole; no rule breaks."""
    guest = start(kernel)
    device = guest.disk("granule-raw")
    for number, size in enumerate(BLOCKS):
        count = min((1 << 20) // size * 4, 2048)
        skip = number * 4 * ((1 << 20) // size)
        part = DATA[skip * size : (skip + count) * size]
        expected = hashlib.md5(part).hexdigest()  # noqa: S324 - to compare
        for flag in ("", "iflag=direct"):
            guest.sh("echo 1 >/proc/sys/vm/drop_caches")
            command = f"dd if={device} bs={size} skip={skip} count={count} {flag} 2>/dev/null | md5sum"
            assert guest.sh(command).split()[0] == expected, (size, flag)
        for flag in ("conv=fsync", "oflag=direct"):
            there = RAW_BYTES // 2 // size + skip
            guest.sh(
                f"dd if={device} bs={size} skip={skip} count={count} 2>/dev/null"
                f" | dd of={device} bs={size} iflag=fullblock seek={there} {flag},notrunc 2>/dev/null"
                if flag.startswith("conv")
                else f"dd if={device} of={device} bs={size} skip={skip} seek={there} count={count}"
                f" {flag} iflag=direct 2>/dev/null"
            )
            with guest.subject.machine.hyperv.locked():  # type: ignore[union-attr]
                assert guest.raw.disk.backing.read(there * size // 512, len(part)) == part, (size, flag)
                guest.raw.disk.backing.clear(there * size // 512, len(part) // 512)
    report = guest.report()
    assert report.findings == ()
    assert report.silent == ()
    assert report.passed
    assert max(guest.raw.pages) > 100
    print(dict(sorted(guest.raw.pages.items())))


@pytest.mark.parametrize("kernel", ("debian-4k", "debian-16k"))
def test_unmap(start: Start, kernel: str) -> None:
    """blkdiscard reaches the host, and what was discarded reads as zeros."""
    guest = start(kernel)
    device = guest.disk("granule-raw")
    queue = f"/sys/block/{Path(device).name}/queue"
    assert int(guest.sh(f"cat {queue}/discard_max_bytes")) == (1 << 15) * 512
    guest.sh(f"blkdiscard -o 1048576 -l 2097152 {device}")
    with guest.subject.machine.hyperv.locked():  # type: ignore[union-attr]
        read = guest.raw.disk.backing.read(0, 4 << 20)
    assert read == DATA[: 1 << 20] + bytes(2 << 20) + DATA[3 << 20 : 4 << 20]
    assert guest.report().findings == ()


@pytest.mark.parametrize("kernel", ("debian-4k", "debian-16k"))
def test_limits_and_faults(start: Start, kernel: str) -> None:
    """The host's limit is the queue's; short, late and failing reads end as they should, data unharmed."""
    faults = (
        Fault(opcodes=READS, after=60, times=3, short_bytes=1024),
        Fault(opcodes=READS, after=80, times=2, delay_s=0.3),
    )
    guest = start(kernel, faults=faults, max_transfer_bytes=128 << 10)
    device = guest.disk("granule-raw")
    queue = f"/sys/block/{Path(device).name}/queue"
    assert guest.sh(f"cat {queue}/max_hw_sectors_kb") == "128"
    assert guest.sh(f"cat {queue}/max_segments") == "33"
    expected = hashlib.md5(DATA[: 16 << 20]).hexdigest()  # noqa: S324 - to compare
    assert guest.sh(f"dd if={device} bs=64k count=256 iflag=direct | md5sum").split()[0] == expected
    assert guest.raw.faults.injected == 5
    with guest.subject.machine.hyperv.locked():  # type: ignore[union-attr]
        guest.raw.faults.add(Fault(opcodes=READS, times=1000, sense=MEDIUM_READ_ERROR))
    assert not guest.subject.sh(f"dd if={device} bs=4096 count=1 iflag=direct of=/dev/null").ok
    assert "Medium Error" in guest.subject.machine.transcript.content().decode()
    assert guest.report().findings == ()
