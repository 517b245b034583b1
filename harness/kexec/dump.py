"""A crash dump: brought from the guest to a file, and what has to hold of the kernel whose memory it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.check.half import KernelHalf
from harness.check.kernel_tables import check_kernel_tables
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kexec.stage import Stage, find_disk
from harness.qemu.machine import Machine
from harness.saving import replacing, saving_to
from harness.smoke.evidence import Evidence
from harness.smoke.guest_words import GuestWords, guest_view, kfence_pool, read_words, reread
from harness.smoke.subject import Subject
from harness.snapshot import Snapshot, kernel_regime, open_snapshot
from harness.snapshot.crash_kernel import whole_ram
from harness.snapshot.inferred import vmcoreinfo_of
from harness.spec import Disk

__all__ = ["SERIAL", "LastWords", "fetch", "hold", "last_words", "scratch_disk"]

SERIAL = "vmcore"
# Headers and notes besides memory: some kilobytes for each CPU.
HEAD_BYTES = 64 << 20
CHUNK_BYTES = 4 << 20
BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """What a kernel said of its memory before it crashed, twice, and what of it is a device."""

    subject: Subject
    before: GuestWords
    after: GuestWords
    devices: tuple[range, ...]


def last_words(subject: Subject) -> LastWords:
    """Ask a kernel that is to crash; its crash kernel has been loaded."""
    before = read_words(subject)
    with subject.machine.frozen() as frozen:
        devices = frozen.device_ranges()
    return LastWords(subject=subject, before=before, after=reread(subject, before), devices=devices)


@contextmanager
def scratch_disk(memory_mib: int) -> Iterator[Disk]:
    """An empty disk that takes a dump of a guest with that much RAM; it costs what is written."""
    with tempfile.NamedTemporaryFile(prefix="granule-vmcore-") as image:
        os.ftruncate(image.fileno(), (memory_mib << 20) + HEAD_BYTES)
        yield Disk(path=Path(image.name), serial=SERIAL)


def fetch(subject: Subject, target: Path, evidence: Evidence, deadline: Deadline) -> bool:
    """Bring /proc/vmcore of a capture kernel to a file of the host's, whole or not at all; says if it came.

    It goes by the scratch disk, whose size bounds it. Raises InfraError or UsageError where the file cannot
    be written, DeadlineExceeded or GuestGone.
    """
    machine = subject.machine
    limit_bytes = Path(machine.disk_path(SERIAL)).stat().st_size
    said = subject.sh("stat -c %s /proc/vmcore").text.strip()
    size_bytes = int(said) if said.isdecimal() and len(said) < 20 else 0
    wanted = f"1 to {limit_bytes} bytes"
    if not evidence.holds("/proc/vmcore", 0 < size_bytes <= limit_bytes, wanted=wanted, seen=said[-200:]):
        return False
    script = f"{find_disk(SERIAL)} && dd if=/proc/vmcore of=/dev/$d bs=1M conv=fsync"
    done = machine.shell.run(script, deadline)
    if not evidence.holds("copying /proc/vmcore", done.ok, wanted="done", seen=done.text.strip()[-200:]):
        return False
    _copy(machine, size_bytes, target)
    evidence.note(f"{target.name}: {size_bytes} bytes")
    return True


def _copy(machine: Machine, size_bytes: int, target: Path) -> None:
    """Copy the beginning of the scratch disk, blocks of zeros as holes."""
    with saving_to(target), Path(machine.disk_path(SERIAL)).open("rb") as disk, replacing(target) as file:
        left = size_bytes
        while left:
            chunk = disk.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise UsageError(f"the guest's disk ended {left} bytes before its dump did")
            for at in range(0, len(chunk), BLOCK_BYTES):
                block = chunk[at : at + BLOCK_BYTES]
                if block.count(0) == len(block):
                    file.seek(len(block), os.SEEK_CUR)
                else:
                    file.write(block)
            left -= len(chunk)
        file.truncate(size_bytes)


def hold(path: Path, crashed: Stage, words: LastWords, evidence: Evidence) -> None:
    """Hold a dump against what the kernel that it is of said before: page size, CPUs, and its whole half."""
    try:
        with open_snapshot(path) as snapshot:
            _hold(snapshot, crashed, words, evidence)
    except UsageError as error:
        evidence.holds("the dump", False, wanted="a core that can be read", seen=str(error))


def _hold(snapshot: Snapshot, crashed: Stage, words: LastWords, evidence: Evidence) -> None:
    release = words.before.files.get("/proc/sys/kernel/osrelease", "").strip()
    evidence.equal("release in VMCOREINFO", release, snapshot.provenance.get("kernel release", "none"))
    evidence.equal("CPUs with registers (NT_PRSTATUS)", crashed.cell.vcpus, len(snapshot.vcpus))
    for number, vcpu in enumerate(snapshot.vcpus):
        pc = vcpu.registers.get("pc", 0)
        is_sound = pc >> 55 == 0x1FF or vcpu.el == 0
        seen = f"{pc:#x} at EL{vcpu.el}"
        evidence.holds(f"pc of CPU {number}", is_sound, wanted="the kernel's, or at EL0", seen=seen)
    regime = kernel_regime(snapshot)
    granule = regime.geometry.granule_log2
    if not evidence.equal("granule of the dump's tables", crashed.cell.page_size.value, granule):
        return
    half = KernelHalf.of(regime, snapshot.read, whole_ram(snapshot), devices=words.devices)
    info = vmcoreinfo_of(snapshot.memory, snapshot.first_tables)
    view = guest_view(words.subject, words.before, words.after, info.text if info is not None else None)
    pool = kfence_pool(half, snapshot.read, words.before)
    absent = {**view.absent, "gva2gpa": "a dump has no CPU to ask"}
    found = check_kernel_tables(replace(half, view=replace(view, kfence_pool=pool, absent=absent)), None)
    evidence.checked(found.leaves + found.compared)
    evidence.note(f"oracles: {found.evidence}")
    for finding in found.findings:
        evidence.found(finding)
