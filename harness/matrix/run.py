"""Running one cell: boot, ask, judge, power off."""

from __future__ import annotations

import shlex
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.build.disks import block_sizes_for, ext4_disk
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, GranuleError, GuestGone
from harness.kernels.kernel import Kernel
from harness.linux.kconfig import read_config
from harness.linux.klog import EventKind, LogEvent, harmless
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Cell
from harness.matrix.diagnosis import diagnose
from harness.matrix.patience import Patience
from harness.matrix.record import CellEnded, Record
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import MachineSpec, PageSize, Wire
from harness.verdict import CellResult, CheckResult, Verdict

__all__ = ["Bench", "machine_spec", "run_cell"]

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
    """The machine that a cell runs on."""
    words = ("console=ttyAMA0", f"arm64.pagesize={cell.page_size.token}", kernel.cmdline, cell.cmdline)
    return MachineSpec(
        kernel=kernel.image,
        initrd=bench.guest.initramfs(kernel),
        cmdline=" ".join(word for word in words if word),
        cpu=bench.qemu.cpu_model(cell.cpu, cell.accel).argument,
        accel=cell.accel,
        vcpus=cell.vcpus,
        memory_mib=cell.memory_mib,
        disks=tuple(ext4_disk(bench.cache, size) for size in block_sizes_for(cell.page_size)),
        wire=Wire(),
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
    return record.result(cell, kernel)


def _run(cell: Cell, kernel: Kernel, bench: Bench, record: Record, on_check: OnCheck) -> None:
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s)
    symbols = Symbols(kernel)
    gone = ""
    with Machine(machine_spec(cell, kernel, bench), bench.qemu) as machine:
        record.accelerator = machine.accelerator
        record.provenance["argv"] = shlex.join(machine.argv)
        try:
            boot(machine, symbols, patience, record)
            _ask(cell, kernel, machine, patience, record, on_check)
            record.provenance["host memory, MiB at most"] = str(machine.process.peak_rss_mib())
            _power_off(machine, patience, record, on_check)
        except CellEnded:
            pass  # the record holds the verdict
        except DeadlineExceeded as error:
            quiet = machine.console.silent_s() > patience.silence_s
            found = diagnose(machine, symbols.get())
            record.end(Verdict.HANG if quiet else Verdict.TIMEOUT, str(error), found.lines)
        except GuestGone as error:
            gone = str(error)
        finally:
            machine.console.drain(0.05, 1.0)
            record.console = harmless(machine.transcript.tail(CONSOLE_KEPT_BYTES))
    # The console is complete only once QEMU has gone: a kernel may complain on its way down.
    if gone:
        _judge_gone(machine.console.events, gone, record)
    _read_kernel_log(machine.console.events, record, on_check)


def _ask(
    cell: Cell, kernel: Kernel, machine: Machine, patience: Patience, record: Record, on_check: OnCheck
) -> None:
    config = read_config(kernel.config) if kernel.config is not None else None
    subject = Subject(
        machine=machine, kernel=kernel, config=config, page_size=cell.page_size, command_s=patience.command_s
    )
    record.in_force = page_size_in_force(subject)
    if record.in_force is not cell.page_size:
        seen = record.in_force.label if record.in_force else "none that arm64 has"
        raise record.end(Verdict.WRONG_PAGE_SIZE, f"asked for {cell.page_size.label}, in force is {seen}")
    deadline = Deadline.after(patience.cell_s)
    for check in cell.checks:
        if deadline.expired():
            raise DeadlineExceeded(f"the cell's {patience.cell_s:.0f} s were over before {check.name}")
        result = check.result(subject)
        record.checks.append(result)
        on_check(result)
        machine.raise_if_gone()


def page_size_in_force(subject: Subject) -> PageSize | None:
    """The page size by AT_PAGESZ, as the kernel gave it to a process (getauxval(3))."""
    auxv = subject.sh("exec cat /proc/self/auxv").output
    pairs = struct.iter_unpack("<QQ", auxv[: len(auxv) // 16 * 16])
    return next((PageSize.of_bytes(value) for key, value in pairs if key == AT_PAGESZ), None)


def _power_off(machine: Machine, patience: Patience, record: Record, on_check: OnCheck) -> None:
    start_s = time.monotonic()
    evidence = Evidence()
    seen = machine.power_off(Deadline.after(patience.command_s))
    evidence.equal("QEMU's reason for ending after `poweroff`", CLEAN_END, seen)
    _add(evidence.result("power-off", time.monotonic() - start_s), record, on_check)


def _read_kernel_log(events: tuple[LogEvent, ...], record: Record, on_check: OnCheck) -> None:
    """The kernel's own words decide: no oops, warning, lockup or taint may be in its log."""
    if record.boot_s is None:
        return
    evidence = Evidence()
    findings = [event for event in events if event.kind.is_finding]
    for event in findings:
        evidence.holds(f"kernel log: {event.kind.value}", False, wanted="none", seen=event.line)
    if not findings:
        evidence.equal("complaints in the kernel log", 0, len(findings))
    _add(evidence.result("kernel-log", 0.0), record, on_check)
    fatal = next((event for event in events if event.is_fatal), None)
    if fatal is not None:
        _judge_gone(events, fatal.line, record)


def _add(result: CheckResult, record: Record, on_check: OnCheck) -> None:
    record.checks.append(result)
    on_check(result)


def _judge_gone(events: tuple[LogEvent, ...], reason: str, record: Record) -> None:
    """The verdict on a guest that ended by itself, from what its kernel said first."""
    fatal = [event for event in events if event.is_fatal]
    kinds = [event.kind for event in fatal]
    verdict = Verdict.FAIL
    if EventKind.OOPS in kinds or (kinds and kinds[0] is EventKind.BUG):
        verdict = Verdict.OOPS
    elif EventKind.PANIC in kinds:
        verdict = Verdict.PANIC
    elif record.boot_s is None:
        verdict = Verdict.BOOT_FAILED
    if fatal:
        reason = f"the kernel said: {fatal[0].line.strip()}"
    record.end(verdict, reason, fatal[0].context if fatal else ())
