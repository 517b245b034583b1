"""`granule boot`: one guest, a shell in it or one command."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import socket
import sys
import termios
import tty
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.cli.boot_own import boot_own
from harness.cli.boot_ssh import serve_ssh
from harness.cli.options import Setting, guest_kind_options, guest_options, machine_options
from harness.cli.progress import KernelProgress
from harness.cli.run import GUEST_DIR, check_puts, put_all
from harness.deadline import Deadline
from harness.errors import CommandTimeout, ExitStatus, GuestGone, UsageError
from harness.matrix.boot import Symbols, settle
from harness.matrix.boot import boot as boot_guest
from harness.matrix.guests import Started
from harness.matrix.judge import judge_gone, with_last_words
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.record import CellEnded, Record
from harness.matrix.run import expect_page_size, machine_spec, subject_of
from harness.qemu.machine import Machine
from harness.report.terminal import make_console
from harness.smoke import Check
from harness.smoke.page_size import page_size
from harness.spec import GuestKind, PageSize
from harness.verdict import Verdict

__all__ = ["boot"]

ESCAPE = b"\x1d"  # Ctrl-]


@click.command()
@machine_options
@guest_kind_options
@guest_options
@click.option(
    "--console",
    "console_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the kernel's console there when the guest has ended.",
)
@click.option(
    "--ssh",
    is_flag=True,
    help="Print an ssh command that logs in, and keep the guest until Ctrl-C or Ctrl-].",
)
@click.option(
    "--own-kernel", is_flag=True, help="With --disk: boot the image by itself, with the kernel on it (UEFI)."
)
@click.argument("command", nargs=-1)
def boot(
    put: tuple[Path, ...],
    memory: int,
    console_file: Path | None,
    ssh: bool,
    own_kernel: bool,
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Boot one guest and give a shell in it, or run COMMAND and exit with its status.

    Without a terminal and without COMMAND, a script is read from standard input. Leave an interactive
    guest with `exit`, `poweroff` or Ctrl-]. Messages of granule's own begin with `granule:`; a guest that
    dies under the command, or comes up with another page size than was asked for, ends with status 1.

    \b
    granule boot --page-size 64k
    granule boot --kernel debian-16k -- getconf PAGE_SIZE
    granule boot --ssh
    granule boot --disk image.qcow2 --own-kernel
    """
    console = make_console(sys.stderr)
    if ssh and command:
        raise UsageError("--ssh keeps the guest for you to log in: leave COMMAND out, or --ssh")
    check_puts(put, memory)
    checks = (Check(run=page_size, memory_mib=dict.fromkeys(PageSize, memory), guests=tuple(GuestKind)),)
    if console_file is not None:
        console_file.touch()  # told now if it cannot be, and not when the guest is over
    progress = KernelProgress()
    setting = Setting.make(options, console, progress, checks)
    if own_kernel:
        if put or console_file:
            raise UsageError("--own-kernel goes with neither --put nor --console")

        def use(started: Started) -> int:
            return _use(started, command, console, options["timeout_s"])

        click.get_current_context().exit(boot_own(setting, options, memory, ssh, use))
    cells = plan(setting.request, setting.store, setting.bench.qemu, setting.beside).cells
    if len(cells) > 1:
        one_of = ", ".join(f"--kernel {cell.kernel} --page-size {cell.page_size.token}" for cell in cells)
        raise UsageError(
            f"`granule boot` boots one guest, and this asks for {len(cells)}; choose one of: {one_of}"
        )
    (cell,) = cells
    named = cell.kernel in setting.store.catalogue.names
    kernel = setting.store.get(cell.kernel, beside=None if named else setting.beside)
    if ssh and not cell.guest.is_on_disk:
        _ = setting.bench.guest.sshd
    progress.close()
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s, cell.guest)
    record = Record()
    machines: list[Machine] = []

    def bring_up(machine: Machine) -> None:
        machines.append(machine)
        boot_guest(machine, Symbols(kernel.running(cell.page_size)), patience, record)
        if cell.guest.is_on_disk:
            settle(machine, patience, record)

    with contextlib.ExitStack() as stack:
        try:
            spec, soon = machine_spec(cell, kernel, setting.bench), Deadline.after(patience.boot_s)
            started = setting.bench.guests.start(spec, bring_up, Deadline.after(patience.cell_s))
            machines.append(started.machine)
            stack.callback(started.machine.close)
            subject = subject_of(cell, kernel, started.machine, patience, soon, setting.bench.guest)
            expect_page_size(subject, record)
            put_all(started.machine.shell, put, Deadline.after(patience.command_s))
            if ssh:
                status = serve_ssh(subject.machine, subject.way_in, subject.command_s, console)
            else:
                status = _use(started, command, console, options["timeout_s"])
        except CellEnded:
            status = ExitStatus.FAILED
        except CommandTimeout as error:
            record.end(Verdict.TIMEOUT if error.guest_answers else Verdict.HANG, str(error))
            status = ExitStatus.FAILED
        except GuestGone as error:
            console_of = machines[-1].console if machines else None
            log = machines[-1].transcript.content() if machines else b""
            judge_gone(console_of.events if console_of else (), with_last_words(str(error), log), record)
            status = ExitStatus.FAILED
        finally:
            if console_file is not None and machines:
                console_file.write_bytes(machines[-1].transcript.content())
    if record.verdict is not Verdict.PASS:
        console.print(f"granule: {record.verdict.value}: {record.reason}", soft_wrap=True)
        for line in record.diagnosis:
            console.print(f"granule:   {line}", soft_wrap=True)
    click.get_current_context().exit(status)


def _use(started: Started, command: tuple[str, ...], console: Console, timeout_s: float | None) -> int:
    if not command and sys.stdin.isatty():
        console.print(
            f"granule: the guest is up after {started.seconds:.1f} s ({started.how}); Ctrl-] leaves it"
        )
        _interact(started.machine)
        return 0
    script = " ".join(command) if len(command) == 1 else shlex.join(command)
    script = script or sys.stdin.read()
    # A command of the user's may take as long as it likes, unless --timeout says otherwise.
    deadline = Deadline.after(timeout_s if timeout_s is not None else float("inf"))
    done = started.machine.shell.run(f"cd {GUEST_DIR}\n{script}", deadline, keep_bytes=64 << 20)
    sys.stdout.buffer.write(done.output)
    sys.stdout.buffer.flush()
    if done.truncated:
        console.print("granule: the command printed more than 64 MiB; the rest was dropped")
    return done.status


def _interact(machine: Machine) -> None:
    """Join the terminal to the guest's, until the shell there ends, QEMU does, or Ctrl-] is typed."""
    size = shutil.get_terminal_size()
    line, closing = machine.shell.interactive(rows=size.lines, columns=size.columns)
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        _join(line, keyboard, closing)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _join(line: socket.socket, keyboard: int, closing: bytes) -> None:
    held = b""
    while True:
        ready, _, _ = select.select([line.fileno(), keyboard], [], [])
        if line.fileno() in ready:
            data = line.recv(1 << 16)
            if not data:
                return
            # The agent's closing line comes when the guest's shell has ended; it is not for the user.
            shown, end, _ = (held + data).partition(closing)
            held = b"" if end else _possible_start(shown, closing)
            os.write(sys.stdout.fileno(), shown[: len(shown) - len(held)])
            if end:
                return
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            if not typed or ESCAPE in typed:
                return
            line.sendall(typed)


def _possible_start(data: bytes, mark: bytes) -> bytes:
    """The end of `data` that may turn out to begin `mark`."""
    return next((mark[:size] for size in range(len(mark) - 1, 0, -1) if data.endswith(mark[:size])), b"")
