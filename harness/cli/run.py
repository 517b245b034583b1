"""`granule run`: the user's own program in every cell."""

from __future__ import annotations

import shlex
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.channel.shell import Shell
from harness.cli.options import Setting, guest_options, machine_options, matrix_options
from harness.cli.progress import KernelProgress
from harness.cli.smoke import run_and_report
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.linux.klog import harmless
from harness.report.terminal import make_console
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import PageSize
from harness.verdict import MatrixResult

__all__ = ["put_all", "run"]

GUEST_DIR = "/root"
OUTPUT_KEPT_BYTES = 64 << 10


@click.command()
@machine_options
@matrix_options
@guest_options
@click.argument("command", nargs=-1, required=True)
def run(
    put: tuple[Path, ...],
    jobs: int | None,
    report: Path,
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

    def command_(subject: Subject, evidence: Evidence) -> None:
        """The command exits with status 0."""
        shell = subject.machine.shell
        put_all(shell, put, Deadline.after(subject.command_s))
        done = shell.run(
            f"cd {GUEST_DIR} && {script}", Deadline.after(subject.command_s), keep_bytes=OUTPUT_KEPT_BYTES
        )
        evidence.output = harmless(done.output)
        evidence.equal(f"exit status of `{script}`", 0, done.status)

    checks = (Check(run=command_, label="command", memory_mib=dict.fromkeys(PageSize, memory)),)
    console = make_console(sys.stdout)
    puts = [word for path in put for word in ("--put", str(path))]
    again = (("granule", "run", *puts, "--memory", str(memory)), ("--", *command))
    setting = Setting.make(options, console, KernelProgress(), checks, again)
    run_and_report(setting, report, jobs, frozenset(), show=_print_outputs)


def _print_outputs(result: MatrixResult, console: Console) -> None:
    for cell in result.cells:
        for check in cell.checks:
            if check.name == "command":
                console.print(f"{cell.id}: {check.verdict.value}", style="bold")
                console.print(check.output.rstrip() or "(no output)", soft_wrap=True)
                console.print()


def put_all(subject_shell: Shell, paths: tuple[Path, ...], deadline: Deadline) -> None:
    """Copy files and whole directories of the host to /root in the guest, under their own names."""
    for path in paths:
        if path.is_file():
            subject_shell.put(path, f"{GUEST_DIR}/{path.name}", deadline)
            continue
        with tempfile.NamedTemporaryFile(suffix=".tar") as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(path, arcname=path.resolve().name)
            packed.flush()
            subject_shell.put(Path(packed.name), f"{GUEST_DIR}/.put.tar", deadline)
        done = subject_shell.run(f"cd {GUEST_DIR} && tar xf .put.tar && rm .put.tar", deadline)
        if not done.ok:
            raise InfraError(f"could not unpack {path} in the guest: {done.text.strip()[-200:]}")
