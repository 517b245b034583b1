"""A guest, measured: under the instruction counter twice, or by the clock.

The counter: with `-icount shift=0` the guest's time is the number of its instructions, in nanoseconds (QEMU
docs/devel/tcg-icount.rst), and a CPU whose `cntfrq` is 1 GHz has a counter that ticks once in each of them
(QEMU 7.2 target/arm/cpu.c, gt_cntfrq_period_ns()). The plugin counts for itself, and the two are held against
each other. The second run is the one with the plugin: that it counts the same shows both that runs repeat and
that being watched costs the guest nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.bench.agree import agreed_rows
from harness.bench.files import GuestFiles
from harness.bench.guest_output import GuestOutput, parse_output
from harness.bench.held import held_shape
from harness.bench.result import Clock, Result, Row
from harness.bench.shape import Shape
from harness.deadline import Deadline
from harness.errors import GuestGone, InfraError, UsageError
from harness.kernels.kernel import Kernel
from harness.linux.image import linux_banner
from harness.linux.kallsyms import SymbolTable
from harness.linux.kconfig import Kconfig, embedded_config, read_config
from harness.linux.symbols import Symboliser
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Cell
from harness.matrix.patience import Patience
from harness.matrix.record import CellEnded, Record
from harness.matrix.run import Bench, expect_page_size, machine_spec, subject_of
from harness.qemu.machine import Machine
from harness.spec import MachineSpec

__all__ = ["KERNEL_WORDS", "Guest", "Seen", "joined", "run_guest"]

KERNEL_WORDS: Final = "norandmaps randomize_kstack_offset=off"
"""What chance decides in a kernel besides KASLR: another layout of a process is another number of tables."""
CLOCK_HZ: Final = 1_000_000_000
PLUGIN_BYTES_LIMIT: Final = 2 << 30
OUTPUT_BYTES_LIMIT: Final = 16 << 20
BENCH_S: Final = 3600.0
PROGRAM: Final = "/root/bench"
REFUSED: Final = 2
"""The program's exit status for words that it does not know; its first line says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What is measured, and with what."""

    cell: Cell
    kernel: Kernel
    files: GuestFiles
    names: tuple[str, ...] = ()
    """Benchmarks; all of them for none."""
    samples: int | None = None
    large_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One run."""

    output: GuestOutput
    accelerator: str
    cpu: str
    cmdline: str
    counts: bytes = b""
    """What the plugin wrote, if there was one."""
    shape: Shape | None = None
    """Of the large area, where it was looked at."""


def run_guest(guest: Guest, bench: Bench, plugin: Path | None = None) -> Seen:
    """Start a guest and run the benchmarks in it once.

    Raises UsageError for a benchmark that there is not, InfraError where the guest does not come up, ends
    before it is done, or prints what it should not.
    """
    cell = guest.cell
    spec = machine_spec(cell, guest.kernel, bench)
    if cell.exact is not None:
        spec = replace(spec, cpu=f"{spec.cpu},cntfrq={CLOCK_HZ}", plugin=plugin)
    with _started(guest, spec, bench) as machine:
        deadline = Deadline.after(cell.timeout_s or BENCH_S)
        for source, target in (
            (guest.files.program, PROGRAM),
            (guest.files.prepare, "/root/prepare.sh"),
            (guest.files.ext4, "/root/bench.ext4.gz"),
        ):
            machine.shell.put(source, target, deadline)
        machine.shell.run("sh /root/prepare.sh", deadline)
        done = machine.shell.run(f"exec {_command(guest)}", deadline, keep_bytes=OUTPUT_BYTES_LIMIT)
        text = done.output.decode("utf-8", "replace")
        if done.status == REFUSED:
            raise UsageError(text.partition("\n")[0][:200])
        if done.status not in (0, 1):
            raise InfraError(f"{cell.id}: the benchmarks ended with {done.status} and said: {text[-500:]}")
        try:
            output = parse_output(text)
        except UsageError as error:
            raise InfraError(f"{cell.id}: {error}") from error
        if output.page_size is not cell.page_size:
            raise InfraError(f"{cell.id}: the benchmarks saw pages of {output.page_size.label}")
        return Seen(
            output=output,
            accelerator=machine.accelerator,
            cpu=spec.cpu,
            cmdline=spec.cmdline,
            counts=_counts(machine),
            shape=_shape(machine, output) if cell.exact is not None and plugin is None else None,
        )


@contextlib.contextmanager
def _started(guest: Guest, spec: MachineSpec, bench: Bench) -> Iterator[Machine]:
    cell, record = guest.cell, Record()
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s)
    symbols = Symbols(guest.kernel.running(cell.page_size))
    with contextlib.ExitStack() as stack:
        try:
            started = bench.guests.start(
                spec,
                lambda machine: boot(machine, symbols, patience, record),
                Deadline.after(patience.cell_s),
            )
            machine = started.machine
            stack.callback(machine.close)
            soon = Deadline.after(patience.boot_s)
            expect_page_size(subject_of(cell, guest.kernel, machine, patience, soon), record)
            yield machine
        except CellEnded as error:
            raise InfraError(f"{cell.id}: {record.verdict.value}: {record.reason}") from error
        except GuestGone as error:
            raise InfraError(f"{cell.id}: the guest ended before it was measured: {error}") from error


def _command(guest: Guest) -> str:
    words = [PROGRAM]
    words += ["--after-tick"] if guest.cell.exact is not None else []
    words += ["--samples", str(guest.samples)] if guest.samples is not None else []
    words += ["--bytes", str(guest.large_bytes)] if guest.large_bytes is not None else []
    names = " ".join(guest.names)
    return f"{' '.join(words)} $(grep -q ' /mnt/ext4 ' /proc/mounts && echo --ext4 /mnt/ext4) {names}"


def _shape(machine: Machine, output: GuestOutput) -> Shape | None:
    return held_shape(machine, PROGRAM, output.page_size, output.large_bytes)


def _counts(machine: Machine) -> bytes:
    if machine.plugin_output is None:
        return b""
    if os.fstat(machine.plugin_output).st_size > PLUGIN_BYTES_LIMIT:
        raise InfraError("the plugin wrote more than it can have counted")
    return os.pread(machine.plugin_output, PLUGIN_BYTES_LIMIT, 0)


def joined(guest: Guest, bench: Bench, first: Seen, second: Seen | None = None) -> Result:
    """The result of one run, or of two that are to be equal; the second one's counts say where it went."""
    cell, running = guest.cell, guest.kernel.running(guest.cell.page_size)
    output, config = first.output, _config(running)
    exact = cell.exact is not None
    return Result(
        label=guest.kernel.name,
        page_size=cell.page_size,
        clock=Clock.INSTRUCTIONS if exact else Clock.TIME,
        clock_hz=output.clock_hz,
        accelerator=first.accelerator,
        cpu=first.cpu,
        qemu=bench.qemu.version_text,
        memory_mib=cell.memory_mib,
        large_bytes=output.large_bytes,
        program_sha256=guest.files.sha256,
        release=output.release,
        version=output.version,
        kernel_sha256=running.sha256,
        origin=running.origin,
        compiler=_compiler(running),
        config={} if config is None else dict(config),
        cmdline=first.cmdline,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        first=output.first,
        verified=second is not None,
        rows=_rows(first, second, running),
        shape=first.shape,
    )


def _rows(first: Seen, second: Seen | None, kernel: Kernel) -> tuple[Row, ...]:
    if second is None:
        return tuple(Row(samples=samples) for samples in first.output.benchmarks)
    symbols = _symbols(kernel) if second.counts else None
    return agreed_rows(first.output, second.output, second.counts, symbols)


def _symbols(kernel: Kernel) -> SymbolTable | None:
    try:
        return Symboliser.of_image(kernel.image).table
    except UsageError:
        return Symboliser.of_vmlinux(kernel.vmlinux).table if kernel.vmlinux is not None else None


def _config(kernel: Kernel) -> Kconfig | None:
    if kernel.config is not None:
        return read_config(kernel.config)
    text = embedded_config(kernel.image)
    return None if text is None else Kconfig.parse(text, where=f"the configuration in {kernel.image}")


def _compiler(kernel: Kernel) -> str:
    """The compiler as the banner names it: the second of its parentheses; empty where there is none."""
    banner = linux_banner(kernel.image) or ""
    _, opened, rest = banner.partition(") (")
    return rest.rpartition(")")[0].strip() if opened else ""
