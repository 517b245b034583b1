"""Running one cell: boot, ask, judge, power off."""

from __future__ import annotations

import contextlib
import shlex
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.build.disks import prepare_disks
from harness.build.guest import MicroGuest
from harness.build.scsi_disks import scsi_disks
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import (
    CommandTimeout,
    DeadlineExceeded,
    GranuleError,
    GuestGone,
    InfraError,
    UsageError,
)
from harness.guests import DiskGuests, OnDisk
from harness.hyperv.monitor import hyperv_setup
from harness.kernels.kernel import Kernel
from harness.linux.kconfig import read_config
from harness.linux.klog import harmless
from harness.login import Dropbear, OpenSsh, SshAccess, SshServer
from harness.matrix.boot import Symbols, boot, settle
from harness.matrix.cell import Cell
from harness.matrix.diagnosis import diagnose
from harness.matrix.guests import BringUp, Guests
from harness.matrix.judge import judge_gone, kernel_log, places_of, with_last_words
from harness.matrix.on_hyperv import lacks_drivers
from harness.matrix.patience import Patience
from harness.matrix.post_mortem import PostMortem
from harness.matrix.record import CellEnded, Record
from harness.qemu.machine import CLEAN_END, Machine
from harness.qemu.placing import refuse_small_memory
from harness.qemu.probe import Qemu
from harness.smoke.distro import elf_alignment
from harness.smoke.evidence import Evidence
from harness.smoke.hyperv import wire
from harness.smoke.subject import Subject
from harness.spec import Disk, Hyperv, MachineSpec, PageSize, Platform, Wire
from harness.verdict import CellResult, CheckResult, Verdict

__all__ = ["Bench", "expect_page_size", "machine_spec", "power_off", "run_cell", "subject_of"]

CONSOLE_KEPT_BYTES = 256 << 10
AT_PAGESZ = 6  # include/uapi/linux/auxvec.h

OnCheck = Callable[[CheckResult], None]
OnEnd = Callable[[Machine], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every cell of a run shares."""

    qemu: Qemu
    cache: Cache
    guest: MicroGuest
    guests: Guests
    on_disk: DiskGuests | None = None
    """Distribution guests, for cells that ask for one."""
    post_mortem: PostMortem | None = None
    """Keeps the guests of cells that do not pass; None: they go."""


def machine_spec(cell: Cell, kernel: Kernel, bench: Bench) -> MachineSpec:
    """The machine that a cell runs on; makes initramfs, disks and sshd where the cache lacks them.

    Raises UsageError where its memory is too small for the kernel.
    """
    if any(check.logs_in for check in cell.checks) and not cell.guest.is_on_disk:
        _ = bench.guest.sshd
    running = kernel.running(cell.page_size)
    on_disk = _on_disk(cell, running, bench) if cell.guest.is_on_disk else None
    words = (
        "console=ttyAMA0",
        # The kernel log is judged, so all of it has to come, whatever `quiet` or the configuration says.
        "ignore_loglevel",
        *cell.page_size_words,
        kernel.cmdline,
        *(on_disk.words if on_disk is not None else ()),
        cell.cmdline,
        *(cell.exact.kernel_words if cell.exact is not None else ()),
    )
    hyperv = _hyperv(cell, kernel, bench, on_disk) if cell.platform is Platform.HYPERV else None
    spec = MachineSpec(
        kernel=kernel.image,
        initrd=bench.guest.initramfs(running) if on_disk is None else on_disk.initrd,
        cmdline=" ".join(word for word in words if word),
        cpu=bench.qemu.cpu_model(cell.cpu, cell.accel).argument,
        accel=cell.accel,
        vcpus=cell.vcpus,
        memory_mib=cell.memory_mib,
        features=cell.features,
        disks=_disks(cell, bench, on_disk),
        wire=Wire() if cell.exact is None else None,
        exact=cell.exact,
        hyperv=hyperv,
    )
    refuse_small_memory(spec)
    return spec


def _disks(cell: Cell, bench: Bench, on_disk: OnDisk | None) -> tuple[Disk, ...]:
    """On virtio: the micro guest's, for the block check; none where a run is to repeat."""
    if on_disk is None:
        return prepare_disks(bench.cache, cell.page_size) if cell.exact is None else ()
    return on_disk.disks if cell.platform is Platform.VIRT else ()


def _on_disk(cell: Cell, kernel: Kernel, bench: Bench) -> OnDisk:
    if bench.on_disk is None:
        raise UsageError(f"this command has micro guests only, and {cell.id} is to be {cell.guest.value}")
    return bench.on_disk.on_disk(cell.guest, kernel)


def _hyperv(cell: Cell, kernel: Kernel, bench: Bench, on_disk: OnDisk | None) -> Hyperv:
    """What makes a machine Hyper-V, disks too; raises UsageError for a kernel that would not look for it."""
    lacking = lacks_drivers(kernel.running(cell.page_size))
    if lacking and not cell.force:
        raise UsageError(lacking)
    return replace(
        hyperv_setup(bench.cache),
        disks=scsi_disks(bench.cache) if on_disk is None else on_disk.disks,
        balloon=True,
        network=True,
        page_size=cell.page_size,
    )


def subject_of(
    cell: Cell,
    kernel: Kernel,
    machine: Machine,
    patience: Patience,
    deadline: Deadline,
    guest: MicroGuest | None = None,
) -> Subject:
    """A booted guest as the checks see it: of a combined Image they see the kernel that runs.

    `guest`: what booted there; with it the Subject can be reached by SSH.
    """
    running = kernel.running(cell.page_size)
    server: SshServer | None = None
    if cell.guest.is_on_disk:
        server = OpenSsh()
    elif guest is not None:
        server = Dropbear(lambda: guest.sshd)
    return Subject(
        machine=machine,
        kernel=running,
        config=read_config(running.config) if running.config is not None else None,
        page_size=cell.page_size,
        # A member of a combined Image is a compile-time kernel: its header has to agree.
        boot_time=cell.boot_time and not kernel.members,
        deadline=deadline,
        command_s=patience.command_s,
        access=None if server is None else SshAccess(machine, server),
    )


def run_cell(
    cell: Cell, kernel: Kernel, bench: Bench, on_check: OnCheck, on_end: OnEnd = lambda _machine: None
) -> CellResult:
    """Run one cell to its verdict; an error of ours becomes INFRA.

    `on_check` hears of each check's end; `on_end` is given the machine when its QEMU has ended.
    """
    record = Record()
    record.provenance = {
        "kernel release": kernel.release,
        "kernel sha256": kernel.sha256,
        "QEMU": bench.qemu.version_text,
    }
    if cell.boot_time:
        shown = " ".join(cell.page_size_words) if cell.asking is None else cell.asking.shown
        record.provenance["page size asked by"] = shown
    vmlinux = kernel.running(cell.page_size).vmlinux
    if vmlinux is not None:
        record.provenance["vmlinux"] = str(vmlinux)
    try:
        _run(cell, kernel, bench, record, on_check, on_end)
    except GranuleError as error:
        record.end(Verdict.INFRA, str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours costs its own cell and no other
        record.end(Verdict.INFRA, f"granule itself failed: {type(error).__name__}: {error}")
    return record.result(cell, kernel)


def _run(cell: Cell, kernel: Kernel, bench: Bench, record: Record, on_check: OnCheck, on_end: OnEnd) -> None:
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s, cell.guest)
    symbols = Symbols(kernel.running(cell.page_size))
    gone = ""
    # The guest, and before it the one that became its template: the last is the one that tells.
    machines: list[Machine] = []

    def keep(machine: Machine) -> None:
        if bench.post_mortem is not None and not record.snapshot:
            record.snapshot = bench.post_mortem.keep(cell.id, machine, record.provenance)

    def bring_up(machine: Machine) -> None:
        machines.append(machine)
        # A guest that does not come up is told by these; one that does may be a clone with its own.
        record.accelerator, record.provenance["argv"] = machine.accelerator, shlex.join(machine.argv)
        try:
            boot(machine, symbols, patience, record)
            if cell.guest.is_on_disk:
                settle(machine, patience, record)
        except (CellEnded, GranuleError):
            # Whoever asked for the guest ends it before anybody else sees it.
            keep(machine)
            raise

    with contextlib.ExitStack() as stack:
        deadline = Deadline.after(patience.cell_s)
        try:
            spec = machine_spec(cell, kernel, bench)
            record.provenance |= _inputs(spec)
            if cell.guest.is_on_disk:
                record.provenance["guest image"] = spec.every_disk[0].identity
            machine = _started(bench.guests, spec, bring_up, deadline, record, cold=cell.cold)
            stack.callback(machine.close)
            machines.append(machine)
            subject = subject_of(cell, kernel, machine, patience, deadline, bench.guest)
            subject = replace(subject, heard=record.hear)
            _ask(cell, subject, record, on_check)
            if cell.guest.is_debian and bench.on_disk is not None:
                _add(elf_alignment(bench.on_disk.base.elf, cell.page_size), record, on_check)
            record.tainted = int(subject.sh("cat /proc/sys/kernel/tainted").text)
            record.provenance["host memory, MiB at most"] = str(machine.process.peak_rss_mib())
            if record.is_bad or _complains(machine, record, cell):
                keep(machine)
            _add(power_off(machine, deadline.sooner(patience.command_s)), record, on_check)
        except CellEnded:
            pass  # the record holds the verdict
        except DeadlineExceeded as error:
            # A guest that took the interrupt is alive: it is the command that took too long.
            alive = isinstance(error, CommandTimeout) and error.guest_answers
            found = diagnose(machines[-1], symbols.get())
            record.end(Verdict.TIMEOUT if alive else Verdict.HANG, str(error), found.lines)
        except GuestGone as error:
            gone = str(error)
        except GranuleError as error:
            record.end(Verdict.INFRA, str(error))
        finally:
            if machines and (gone or record.is_bad):
                keep(machines[-1])
            if machines:
                machines[-1].console.drain(0.05, 1.0)
                record.console = harmless(machines[-1].transcript.tail(CONSOLE_KEPT_BYTES))
    if machines:
        _judge_end(machines[-1], gone, cell, record, on_check)
        on_end(machines[-1])
    else:
        record.end(Verdict.INFRA, gone)


def _inputs(spec: MachineSpec) -> dict[str, str]:
    """The files that a guest was made of: a clone's command line does not name them."""
    return {
        "image": str(spec.kernel),
        "initramfs": str(spec.initrd),
        "command line": spec.cmdline,
        "disks": shlex.join(f"{disk.serial}={disk.path}" for disk in spec.disks),
    }


def _judge_end(machine: Machine, gone: str, cell: Cell, record: Record, on_check: OnCheck) -> None:
    """Judge how a guest ended, for which `gone` is a reason if any, and what its kernel said."""
    # The console is complete only once QEMU has gone: a kernel may complain on its way down.
    events, log = machine.console.events, machine.transcript.content()
    if gone or any(event.is_fatal for event in events):
        judge_gone(events, with_last_words(gone, log), record)
    record.diagnosis = (*places_of(events, record.provenance.get("vmlinux", "")), *record.diagnosis)
    if record.boot_s is not None:
        _add(kernel_log(events, log, record.tainted, cell.allowed_taint), record, on_check)
    if machine.hyperv is not None:
        passed = {check.name for check in record.checks if check.verdict.is_pass}
        came_up = record.boot_s is not None and not gone
        _add(wire(machine.hyperv, passed if came_up else None), record, on_check)


def _complains(machine: Machine, record: Record, cell: Cell) -> bool:
    """True where the kernel log, which is judged when QEMU has ended, cannot pass any more."""
    log = kernel_log(machine.console.events, machine.transcript.content(), record.tainted, cell.allowed_taint)
    return log.verdict.is_failure


def _started(
    guests: Guests,
    spec: MachineSpec,
    bring_up: BringUp,
    deadline: Deadline,
    record: Record,
    *,
    cold: str,
) -> Machine:
    """A guest at its shell, and in the record what it is; raises InfraError where the host is to blame."""
    try:
        started = guests.start(spec, bring_up, deadline, cold=cold)
    except DeadlineExceeded as error:
        # Whoever boots waits by a deadline of his own, which is the kernel's; this one is for clones.
        raise InfraError(f"no guest could be started: {error}") from error
    record.accelerator = started.machine.accelerator
    record.provenance["argv"] = shlex.join(started.machine.argv)
    record.provenance["start"] = started.how
    if record.boot_s is None:
        record.boot_s = started.seconds
    return started.machine


def _ask(cell: Cell, subject: Subject, record: Record, on_check: OnCheck) -> None:
    expect_page_size(subject, record, by="" if cell.asking is None else cell.asking.shown)
    for check in cell.checks:
        if subject.deadline.expired():
            raise CommandTimeout(f"the cell's time was over before {check.name}", guest_answers=True)
        record.running = check.name
        _add(check.result(subject), record, on_check)
        subject.machine.raise_if_gone()


def expect_page_size(subject: Subject, record: Record, *, by: str = "") -> None:
    """Record the page size in force; raises CellEnded with WRONG_PAGE_SIZE if it is not the one asked for.

    `by`: what the command line said, where the size is not named there but due by the kernel's rule.
    """
    asked, seen = subject.page_size, page_size_in_force(subject)
    record.in_force = seen
    if seen is not asked:
        label = seen.label if seen else "none that arm64 has"
        wanted = f"{asked.label} is due with {by}" if by else f"asked for {asked.label}"
        raise record.end(Verdict.WRONG_PAGE_SIZE, f"{wanted}, in force is {label}")


def page_size_in_force(subject: Subject) -> PageSize | None:
    """The page size by AT_PAGESZ, as the kernel gave it to a process (getauxval(3))."""
    auxv = subject.sh("exec cat /proc/self/auxv").output
    pairs = struct.iter_unpack("<QQ", auxv[: len(auxv) // 16 * 16])
    return next((PageSize.of_bytes(value) for key, value in pairs if key == AT_PAGESZ), None)


def power_off(machine: Machine, deadline: Deadline) -> CheckResult:
    """Power the guest off; the result of the check that it did so cleanly."""
    start_s = time.monotonic()
    evidence = Evidence()
    seen = machine.power_off(deadline)
    evidence.equal("QEMU's reason for ending after `poweroff`", CLEAN_END, seen)
    if machine.hyperv is not None and machine.hyperv.asked_to_power_off:
        statuses = machine.hyperv.standard.shutdown.statuses
        evidence.equal("the guest's answer to the host's request to power off", [0], statuses)
    return evidence.result("power-off", time.monotonic() - start_s)


def _add(result: CheckResult, record: Record, on_check: OnCheck) -> None:
    record.checks.append(result)
    on_check(result)
