"""The figures of scripts/bench hyperv: direct I/O in a guest, one block at a time.

mb_per_s        by the clock of this machine, the program's start included
requests_per_s  commands that moved data
host_cpu        of one CPU, by the thread that is the host: what is left is QEMU's, and waiting
host_waited     the same thread's wait for a CPU: with much of it, this machine is too busy to measure
us_per_request  that thread's time for each command

Every packet is checked as in the tests; the last line says what the checker found.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.output import as_json, printed
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.hyperv.checker import WireChecker
from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.monitor import hyperv_setup
from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.disk import ScsiDisk
from harness.kernels.store import KernelStore
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.spec import MachineSpec, PageSize

BOOT_S = 300.0
RUN_S = 600.0
DISK_BYTES = 64 << 20
REQUESTS = ((4096, 2048), (65536, 512), (524288, 128))
"""Bytes of a request, and how many."""
Figures = dict[str, float | int | str]


def thread_s(name: str) -> tuple[float, float]:
    """Seconds that a thread of ours ran, and waited for a CPU (Linux sched-stats.rst)."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id is not None:
            words = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text(encoding="utf-8").split()
            return int(words[0]) / 1e9, int(words[1]) / 1e9
    return 0.0, 0.0


@contextmanager
def guest(name: str) -> Iterator[tuple[Machine, Storvsc, WireChecker]]:
    """A guest with one disk, at its shell."""
    with Cache() as cache, Backing(DISK_BYTES) as backing:
        kernel = KernelStore(cache).get(name)
        backing.write(0, random.Random(0).randbytes(DISK_BYTES))  # noqa: S311 - content, not a secret
        device = Storvsc(ScsiDisk(backing))
        spec = MachineSpec(
            kernel=kernel.image, initrd=MicroGuest(cache).initramfs(kernel), memory_mib=512,
            cpu="neoverse-n1", cmdline="console=ttyAMA0", hyperv=hyperv_setup(cache),
        )  # fmt: skip
        page = kernel.page_size or PageSize.K4
        checkers: list[WireChecker] = []
        with Machine(
            spec, Qemu.find(), devices=(device,),
            watch=lambda host: checkers.append(WireChecker(host.log, host.memory, page.bytes)),
        ) as machine:  # fmt: skip
            machine.shell.wait_ready(Deadline.after(BOOT_S))
            machine.shell.run("modprobe sd_mod", Deadline.after(BOOT_S))
            Deadline.after(BOOT_S).wait_until(
                lambda: machine.shell.run("test -b /dev/sda", Deadline.after(BOOT_S)).ok, "the disk"
            )
            yield machine, device, checkers[0]


def measure(name: str) -> dict[str, Any]:
    """The figures, and the checker's verdict."""
    figures: list[Figures] = []
    with guest(name) as (machine, device, checker):
        for size, count in REQUESTS:
            for kind, words in (
                ("read", f"read /dev/sda {size} 0 {count} 0 >/dev/null"),
                ("write", f"write /dev/sda {size} 0 {count} 0 </dev/zero"),
            ):
                before, cpu_s, start_s = sum(device.pages.values()), thread_s("hyper-v"), time.monotonic()
                done = machine.shell.run(f"probe direct {words}", Deadline.after(RUN_S))
                took_s = time.monotonic() - start_s
                requests = sum(device.pages.values()) - before
                if not done.ok or not requests:
                    raise SystemExit(f"scripts/bench hyperv: probe ended with {done.status}: {done.text}")
                ran_s, waited_s = (after - at for after, at in zip(thread_s("hyper-v"), cpu_s, strict=True))
                figures.append({
                    "kernel": name, "kind": kind, "request_bytes": size,
                    "mb_per_s": round(size * count / took_s / 1e6, 1),
                    "requests_per_s": round(requests / took_s), "host_cpu": round(ran_s / took_s, 2),
                    "host_waited": round(waited_s / took_s, 2),
                    "us_per_request": round(ran_s / requests * 1e6),
                })  # fmt: skip
        report = checker.report()
    verdict = f"{report.comparisons} comparisons, {len(report.findings)} findings"
    return {"figures": figures, "checker": verdict}


def show(measured: dict[str, Any]) -> None:
    """For people."""
    figures = measured["figures"]
    table = Table()
    for column in figures[0]:
        table.add_column(column, justify="right")
    for row in figures:
        table.add_row(*(str(value) for value in row.values()))
    console = Console()
    console.print(table)
    console.print(measured["checker"])


@click.command()
@click.option("--kernel", default="debian-16k", show_default=True, help="A kernel of the catalogue.")
@as_json
def hyperv(kernel: str, as_json: bool) -> None:
    """Direct I/O through storvsc, one block at a time, every packet checked."""
    printed(measure(kernel), show, as_json)
