"""Running one cell: boot, ask, judge, power off."""

from __future__ import annotations

import shlex
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.build.disks import prepare_disks
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import CommandTimeout, DeadlineExceeded, GranuleError, GuestGone
from harness.kernels.kernel import Kernel
from harness.linux.kconfig import read_config
from harness.linux.klog import harmless
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Cell
from harness.matrix.diagnosis import diagnose
from harness.matrix.judge import judge_gone, kernel_log
from harness.matrix.patience import Patience
from harness.matrix.record import CellEnded, Record
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import MachineSpec, PageSize, Wire
from harness.verdict import CellResult, CheckResult, Verdict

__all__ = ["Bench", "expect_page_size", "machine_spec", "power_off", "run_cell", "subject_of"]

CONSOLE_KEPT_BYTES = 256 << 10
AT_PAGESZ = 6  # include/uapi/linux/auxvec.h
CLEAN_END = "guest-shutdown"  # QEMU's ShutdownCause for PSCI SYSTEM_OFF

OnCheck = Callable[[CheckResult], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every cell of a run shares."""

    qemu: Qemu
    cache: Cache
    guest: MicroGuest


def machine_spec(cell: Cell, kernel: Kernel, bench: Bench) -> MachineSpec:
    """The machine that a cell runs on; makes initramfs and disks where the cache lacks them."""
    words = (
        "console=ttyAMA0",
        # The kernel log is judged, so all of it has to come, whatever `quiet` or the configuration says.
        "ignore_loglevel",
        f"arm64.pagesize={cell.page_size.token}",
        kernel.cmdline,
        cell.cmdline,
    )
    return MachineSpec(
        kernel=kernel.image,
        initrd=bench.guest.initramfs(kernel),
        cmdline=" ".join(word for word in words if word),
        cpu=bench.qemu.cpu_model(cell.cpu, cell.accel).argument,
        accel=cell.accel,
        vcpus=cell.vcpus,
        memory_mib=cell.memory_mib,
        disks=prepare_disks(bench.cache, cell.page_size),
        wire=Wire(),
    )


def subject_of(
    cell: Cell, kernel: Kernel, machine: Machine, patience: Patience, deadline: Deadline
) -> Subject:
    """A booted guest as the checks see it."""
    return Subject(
        machine=machine,
        kernel=kernel,
        config=read_config(kernel.config) if kernel.config is not None else None,
        page_size=cell.page_size,
        boot_time=cell.boot_time,
        deadline=deadline,
        command_s=patience.command_s,
    )


def run_cell(cell: Cell, kernel: Kernel, bench: Bench, on_check: OnCheck) -> CellResult:
    """Run one cell to its verdict; an error of ours becomes INFRA. `on_check` hears of each check's end."""
    record = Record()
    record.provenance = {
        "kernel release": kernel.release,
        "kernel sha256": kernel.sha256,
        "QEMU": bench.qemu.version_text,
    }
    try:
        _run(cell, kernel, bench, record, on_check)
    except GranuleError as error:
        record.end(Verdict.INFRA, str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours costs its own cell and no other
        record.end(Verdict.INFRA, f"granule itself failed: {type(error).__name__}: {error}")
    return record.result(cell, kernel)


def _run(cell: Cell, kernel: Kernel, bench: Bench, record: Record, on_check: OnCheck) -> None:
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s)
    symbols = Symbols(kernel)
    gone = ""
    with Machine(machine_spec(cell, kernel, bench), bench.qemu) as machine:
        deadline = Deadline.after(patience.cell_s)
        record.accelerator = machine.accelerator
        record.provenance["argv"] = shlex.join(machine.argv)
        try:
            boot(machine, symbols, patience, record)
            subject = subject_of(cell, kernel, machine, patience, deadline)
            _ask(cell, subject, record, on_check)
            record.tainted = int(subject.sh("cat /proc/sys/kernel/tainted").text)
            record.provenance["host memory, MiB at most"] = str(machine.process.peak_rss_mib())
            _add(power_off(machine, deadline.sooner(patience.command_s)), record, on_check)
        except CellEnded:
            pass  # the record holds the verdict
        except DeadlineExceeded as error:
            # A guest that took the interrupt is alive: it is the command that took too long.
            alive = isinstance(error, CommandTimeout) and error.guest_answers
            found = diagnose(machine, symbols.get())
            record.end(Verdict.TIMEOUT if alive else Verdict.HANG, str(error), found.lines)
        except GuestGone as error:
            gone = str(error)
        except GranuleError as error:
            record.end(Verdict.INFRA, str(error))
        finally:
            machine.console.drain(0.05, 1.0)
            record.console = harmless(machine.transcript.tail(CONSOLE_KEPT_BYTES))
    # The console is complete only once QEMU has gone: a kernel may complain on its way down.
    events = machine.console.events
    if gone or any(event.is_fatal for event in events):
        judge_gone(events, gone, record)
    if record.boot_s is not None:
        log = machine.transcript.content()
        _add(kernel_log(events, log, record.tainted, cell.allowed_taint), record, on_check)


def _ask(cell: Cell, subject: Subject, record: Record, on_check: OnCheck) -> None:
    expect_page_size(subject, record)
    for check in cell.checks:
        if subject.deadline.expired():
            raise CommandTimeout(f"the cell's time was over before {check.name}", guest_answers=True)
        _add(check.result(subject), record, on_check)
        subject.machine.raise_if_gone()


def expect_page_size(subject: Subject, record: Record) -> None:
    """Record the page size in force; raises CellEnded with WRONG_PAGE_SIZE if it is not the one asked for."""
    asked, seen = subject.page_size, page_size_in_force(subject)
    record.in_force = seen
    if seen is not asked:
        label = seen.label if seen else "none that arm64 has"
        raise record.end(Verdict.WRONG_PAGE_SIZE, f"asked for {asked.label}, in force is {label}")


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
    return evidence.result("power-off", time.monotonic() - start_s)


def _add(result: CheckResult, record: Record, on_check: OnCheck) -> None:
    record.checks.append(result)
    on_check(result)
