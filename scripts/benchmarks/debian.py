"""How soon a Debian guest answers by SSH.

settled  from QEMU's start until systemd has nothing left to start, booted cold
cold     from QEMU's start until a command by SSH has answered, booted cold: settled, and the way in
clone    from the request for a clone until a command by SSH has answered; its template is there
units    the slowest units of a cold boot, by systemd-analyze
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.output import as_json, printed
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.guests import DiskGuests
from harness.kernels.store import KernelStore
from harness.login import OpenSsh, SshAccess
from harness.qemu.clone import start_clone
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.template import Templates
from harness.spec import GuestKind, MachineSpec, Wire

__all__ = ["debian", "medians"]

BOOT_S, COMMAND_S = 900.0, 600.0
KERNELS = ("debian-4k", "debian-16k", "distro-64k")
UNITS = 5


def settled(machine: Machine) -> None:
    """Wait until its services are up."""
    machine.shell.wait_ready(Deadline.after(BOOT_S))
    machine.shell.run("systemctl is-system-running --wait", Deadline.after(BOOT_S))


def by_ssh(machine: Machine) -> None:
    """Have a command answer by SSH."""
    deadline = Deadline.after(COMMAND_S)
    SshAccess(machine, OpenSsh()).get(deadline).run("true", deadline)


def cold(spec: MachineSpec, qemu: Qemu) -> tuple[dict[str, float], str]:
    """The times of one cold boot in seconds, and its slowest units."""
    start_s = time.monotonic()
    with Machine(spec, qemu) as machine:
        settled(machine)
        settled_s = time.monotonic() - start_s
        by_ssh(machine)
        ssh_s = time.monotonic() - start_s
        blame = f"systemd-analyze blame --no-pager | head -n {UNITS} | tr -s ' \\n' ' '"
        units = machine.shell.run(blame, Deadline.after(COMMAND_S)).text.strip()
    return {"settled": settled_s, "cold": ssh_s}, units


def medians(taken: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure, in seconds with one place."""
    names = dict.fromkeys(name for one in taken for name in one)
    return {name: round(statistics.median(one[name] for one in taken if name in one), 1) for name in names}


def measure(runs: int, kernels: tuple[str, ...]) -> dict[str, Any]:
    """All figures."""
    qemu = Qemu.find()
    by_kernel: dict[str, dict[str, Any]] = {}
    with Cache() as cache, Templates(cache, qemu) as templates:
        store, micro = KernelStore(cache), MicroGuest(cache)
        guests = DiskGuests(cache, micro, qemu, store)
        for name in kernels:
            kernel = store.get(name)
            on_disk = guests.on_disk(GuestKind.DEBIAN, kernel)
            words = ("console=ttyAMA0", kernel.cmdline, *on_disk.words)
            spec = MachineSpec(
                kernel=kernel.image, initrd=on_disk.initrd, cmdline=" ".join(word for word in words if word),
                memory_mib=GuestKind.DEBIAN.memory_mib, disks=on_disk.disks, wire=Wire(),
            )  # fmt: skip
            template = templates.get(spec, settled)
            taken: list[dict[str, float]] = []
            units = ""
            for _ in range(runs):
                times, units = cold(spec, qemu)
                start_s = time.monotonic()
                with start_clone(template) as machine:
                    by_ssh(machine)
                    taken.append({**times, "clone": time.monotonic() - start_s})
            by_kernel[name] = {**medians(taken), "units": units}
    return {
        "machine": f"{os.uname().machine}, {len(os.sched_getaffinity(0))} cores, QEMU {qemu.version_text}",
        "load": round(os.getloadavg()[0], 1),
        "runs": runs,
        "by_kernel": by_kernel,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    title = f"{figures['machine']}, load {figures['load']}; medians of {figures['runs']}, s"
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("", "settled", "cold to SSH", "clone to SSH"):
        table.add_column(heading, justify="right" if heading else "left")
    for kernel, taken in figures["by_kernel"].items():
        table.add_row(kernel, *(str(taken[name]) for name in ("settled", "cold", "clone")))
    console = Console()
    console.print(table)
    for kernel, taken in figures["by_kernel"].items():
        console.print(f"slowest units under {kernel}: {taken['units']}", soft_wrap=True, highlight=False)


@click.command()
@click.option(
    "--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Of each kind per kernel."
)
@click.option("--kernel", default=",".join(KERNELS), show_default=True, help="Kernels of the catalogue.")
@as_json
def debian(runs: int, kernel: str, as_json: bool) -> None:
    """How soon a Debian guest answers by SSH: cold, and as a clone."""
    printed(measure(runs, tuple(kernel.split(","))), show, as_json)
