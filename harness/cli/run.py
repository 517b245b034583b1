"""`granule run`: the user's own program in every cell."""

from __future__ import annotations

import shlex
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.channel.exact_shell import ExactShell
from harness.channel.shell import Shell
from harness.cli.options import (
    Setting,
    guest_kind_options,
    guest_options,
    machine_options,
    matrix_options,
    program,
)
from harness.cli.progress import KernelProgress
from harness.cli.smoke import run_and_report
from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.linux.klog import harmless
from harness.matrix.judge import TAINT_OF_MODULES
from harness.report.terminal import make_console
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import GuestKind, PageSize
from harness.verdict import MatrixResult

__all__ = ["check_puts", "put_all", "run"]

GUEST_DIR = "/root"
OUTPUT_KEPT_BYTES = 64 << 10


@click.command()
@machine_options
@matrix_options
@guest_kind_options
@guest_options
@click.argument("command", nargs=-1, required=True)
def run(
    put: tuple[Path, ...],
    jobs: int | None,
    report: Path,
    snapshot: bool,
    snapshot_limit: int,
    memory: int,
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run a COMMAND of yours in every cell, and tabulate its status and output.

    The command starts in /root, where what was --put lies. A cell passes when it exits with 0 and the
    kernel has nothing to complain of.

    \b
    granule run --put ./mytest -- ./mytest --all
    granule run --put ./driver.ko --kernel debian -- 'insmod driver.ko && dmesg | tail'
    """
    script = command[0] if len(command) == 1 else shlex.join(command)
    check_puts(put, memory)

    def command_(subject: Subject, evidence: Evidence) -> None:
        """The command exits with status 0."""
        put_all(subject.machine.shell, put, subject.deadline)
        done = subject.machine.shell.run(
            f"cd {GUEST_DIR} && {script}", subject.deadline, keep_bytes=OUTPUT_KEPT_BYTES
        )
        cut = f"output cut at {OUTPUT_KEPT_BYTES >> 10} KiB; " if done.truncated else ""
        evidence.output = f"{harmless(done.output).rstrip()}\n[{cut}exit status {done.status}]"
        evidence.equal(f"exit status of `{script}`", 0, done.status)

    checks = (
        Check(
            run=command_, label="command", memory_mib=dict.fromkeys(PageSize, memory), guests=tuple(GuestKind)
        ),
    )
    puts = [word for path in put for word in ("--put", str(path))]
    again = ((program(), "run", *puts, "--memory", str(memory)), ("--", *command))
    setting = Setting.make(options, make_console(sys.stdout), KernelProgress(), checks, again)
    # A module of the user's taints the kernel by being loaded; that is no finding against it.
    setting = replace(setting, request=replace(setting.request, allowed_taint=TAINT_OF_MODULES))
    run_and_report(
        setting, report, jobs, frozenset(), _print_outputs, snapshots=snapshot_limit if snapshot else 0
    )


def _print_outputs(result: MatrixResult, console: Console) -> None:
    for cell in result.cells:
        for check in cell.checks:
            if check.name == "command":
                console.print(f"{cell.id}: {check.verdict.value}", style="bold")
                console.print(check.output.rstrip() or "(no output)", soft_wrap=True)
                console.print()


def check_puts(paths: tuple[Path, ...], memory_mib: int) -> None:
    """Refuse what cannot be put: two things of one name, or more than a guest of that memory can hold.

    What is put lies in the guest's RAM, packed and unpacked for a moment. Raises UsageError.
    """
    names = [path.absolute().name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--put: two things would be {GUEST_DIR}/{twice[0]} in the guest; rename one")
    size_mib = sum(_size_bytes(path) for path in paths) >> 20
    if size_mib > memory_mib // 4:
        raise UsageError(
            f"--put: {size_mib} MiB are too much for a guest with {memory_mib} MiB of RAM, in which "
            f"they have to lie; give it --memory {4 * size_mib + 256}"
        )


def _size_bytes(path: Path) -> int:
    files = (path,) if path.is_file() else tuple(each for each in path.rglob("*") if each.is_file())
    return sum(each.stat().st_size for each in files)


def put_all(shell: Shell | ExactShell, paths: tuple[Path, ...], deadline: Deadline) -> None:
    """Copy files and whole directories of the host to /root in the guest, under their own names.

    Raises InfraError when one cannot be read or does not arrive.
    """
    try:
        for path in paths:
            _put(shell, path, deadline)
    except OSError as error:
        raise InfraError(f"--put: {error.filename or 'it'} cannot be read: {error.strerror}") from error


def _put(shell: Shell | ExactShell, path: Path, deadline: Deadline) -> None:
    name = path.absolute().name
    if path.is_file():
        shell.put(path, f"{GUEST_DIR}/{name}", deadline)
        return
    with tempfile.NamedTemporaryFile(suffix=".tar") as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(path.resolve(), arcname=name)
        packed.flush()
        shell.put(Path(packed.name), f"{GUEST_DIR}/.put.tar", deadline)
    done = shell.run(f"cd {GUEST_DIR} && tar xf .put.tar && rm .put.tar", deadline)
    if not done.ok:
        raise InfraError(f"could not unpack {path} in the guest: {done.text.strip()[-200:]}")
