"""`granule boot --disk FILE --own-kernel`: an image of the user's, booted by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from harness.cli.boot_ssh import serve_ssh
from harness.cli.options import Setting
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, ExitStatus, GuestGone, UsageError
from harness.guests.base import last_words
from harness.guests.firmware import firmware_found_nothing, own_machine
from harness.login import OpenSsh, SshAccess
from harness.matrix.guests import Started
from harness.matrix.patience import Patience
from harness.matrix.plan import DEFAULT_CPU
from harness.qemu.machine import Machine
from harness.qemu.probe import resolve_accel
from harness.spec import Accel, GuestKind

__all__ = ["boot_own"]

NOT_WITH = {
    "kernels": "--kernel",
    "page_sizes": "--page-size",
    "modules": "--modules",
    "initrd": "--initrd",
    "vmlinux": "--vmlinux",
    "config": "--config",
    "own_root": "--root",
    "recipe": "--recipe",
    "cmdline": "--cmdline",
    "features": "--with",
}
"""Options of a kernel of ours, or of how it finds the root."""
SAID_BYTES = 4096
LOOK_S = 5.0

Use = Callable[[Started], int]


def boot_own(setting: Setting, options: dict[str, Any], memory_mib: int, ssh: bool, use: Use) -> int:
    """Boot the image with the kernel on it and `use` the guest; the exit status.

    Raises UsageError for options that are for another kernel, InfraError where firmware or QEMU is missing.
    """
    own = setting.own
    if own is None:
        raise UsageError("--own-kernel is for the kernel on a disk of yours: give that with --disk FILE")
    given = ", ".join(option for name, option in NOT_WITH.items() if options.get(name))
    if given:
        raise UsageError(f"--own-kernel takes kernel, words and root from the disk: leave out {given}")
    request, bench = setting.request, setting.bench
    accel = resolve_accel(request.accel)
    default = "host" if accel is Accel.KVM else DEFAULT_CPU
    cpu = bench.qemu.cpu_model((request.cpus or (default,))[0], accel).argument
    spec = own_machine(
        bench.cache, own, cpu=cpu, accel=accel, vcpus=request.vcpus, offline=options["offline"],
        memory_mib=max(memory_mib, GuestKind.IMAGE.memory_mib), progress=setting.kernel_progress,
    )  # fmt: skip
    setting.kernel_progress.close()
    patience = Patience.of(accel, cpu, request.timeout_s, GuestKind.IMAGE)
    start_s = time.monotonic()
    with Machine(spec, bench.qemu) as machine:
        try:
            _wait(machine, Deadline.after(patience.boot_s))
            machine.shell.run("systemctl is-system-running --wait", Deadline.after(patience.boot_s))
            soon = Deadline.after(patience.command_s)
            about = machine.shell.run("echo $(uname -r), $(getconf PAGESIZE)", soon)
        except (DeadlineExceeded, GuestGone, ChannelError) as error:
            return _did_not_come_up(machine, str(error), setting.console)
        setting.console.print(f"granule: the image runs {about.text.strip()}-byte pages", soft_wrap=True)
        if ssh:
            return serve_ssh(machine, SshAccess(machine, OpenSsh()), patience.command_s, setting.console)
        return use(Started(machine=machine, how="its own kernel", seconds=time.monotonic() - start_s))


def _wait(machine: Machine, deadline: Deadline) -> None:
    """Until the agent greets, or the firmware has given up; raises as Shell.wait_ready does."""
    while True:
        try:
            machine.shell.wait_ready(deadline.sooner(LOOK_S))
        except DeadlineExceeded:
            if deadline.expired() or firmware_found_nothing(machine.transcript.content()):
                raise
        else:
            return


def _did_not_come_up(machine: Machine, reason: str, console: Console) -> int:
    """Say why, as far as its console tells."""
    said = machine.transcript.content()
    if firmware_found_nothing(said):
        reason = (
            "the firmware found nothing to start: the disk has no \\EFI\\BOOT\\BOOTAA64.EFI. Is it an image "
            "for arm64, and one that boots by UEFI?"
        )
    elif b"Linux version" in said:
        reason += ". Its kernel started: has the image cloud-init, or systemd 256, to start granule's agent?"
    console.print(f"granule: BOOT_FAILED: {reason}", soft_wrap=True)
    for line in last_words(said[-SAID_BYTES:]).splitlines():
        console.print(f"granule:   {line}", soft_wrap=True, markup=False)
    return ExitStatus.FAILED
