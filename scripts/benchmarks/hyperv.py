"""The figures of scripts/bench hyperv: VMBus, direct I/O one block at a time, and TCP, in a guest.

connected_s     from the start of QEMU to the version that guest and host agree on
mb_per_s        by the clock of this machine, the program's start included
requests_per_s  commands that moved data; of the network, packets of netvsc's either way
host_cpu        of one CPU, by the thread that is the host: what is left is QEMU's, and waiting
host_waited     the same thread's wait for a CPU: with much of it, this machine is too busy to measure
us_per_request  that thread's time for each command
host_mb_per_s   what it would be if that thread were all there is to wait for, whatever else runs here

Every packet is checked as in the tests; the last line says what the checker found. `--profile` says where the
host's thread spends its time, and slows it down.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.output import as_json, printed
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.hyperv.channel import Channel
from harness.hyperv.checker import WireChecker
from harness.hyperv.devices.netvsc import Netvsc
from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.host import Host
from harness.hyperv.monitor import hyperv_setup
from harness.hyperv.net.host import GUEST_ADDRESS, HOST_ADDRESS, IpHost
from harness.hyperv.net.streams import Echo, Sink, Source
from harness.hyperv.rndis.offload import Offload
from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.disk import ScsiDisk
from harness.hyperv.wire.numbers import VmbusVersion
from harness.hyperv.wire.packets import Packet
from harness.hyperv.wirelog import Observer, WireLog
from harness.kernels.store import KernelStore
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.spec import MachineSpec, PageSize

BOOT_S = 300.0
RUN_S = 600.0
DISK_BYTES = 64 << 20
REQUESTS = ((4096, 2048), (65536, 512), (524288, 128))
"""Bytes of a request, and how many."""
TCP_BYTES = 16 << 20
LARGE_SEND_BYTES = 60000
ECHO_PORT, SINK_PORT, SOURCE_PORT = 7, 9, 19
_PEER = HOST_ADDRESS.ip
NETWORK = (
    ("receive", TCP_BYTES, f"nc {_PEER} {SOURCE_PORT} </dev/null | wc -c | grep -qx {TCP_BYTES}"),
    # busybox's nc sends pieces of 1 KiB.
    ("send 1 KiB", TCP_BYTES // 8, f"head -c {TCP_BYTES // 8} /dev/zero | nc {_PEER} {SINK_PORT}"),
    ("both ways", TCP_BYTES, f"probe tcp {_PEER} {ECHO_PORT} {TCP_BYTES // 2} >/dev/null"),
)
"""What is done, how many bytes it moves, and what does it."""
CARD = (
    'for d in /sys/class/net/*; do [ "$(basename "$(readlink -f "$d/device/driver")")" = hv_netvsc ] && '
    f'ip link set "$(basename "$d")" up && ip addr add {GUEST_ADDRESS}/24 dev "$(basename "$d")"; done; '
    f"ping -c 1 -W 2 {_PEER}"
)
THREAD = "hyper-v"
PROFILED_LINES = 25
Figures = dict[str, float | int | str]


class Meter(Observer):
    """When the bus was connected, and how many packets crossed it."""

    def __init__(self, log: WireLog) -> None:
        self.connected_s: float | None = None
        self.packets: Counter[str] = Counter()
        log.subscribe(self)

    def connected(self, version: VmbusVersion) -> None:
        """See Observer."""
        if self.connected_s is None:
            self.connected_s = time.monotonic()

    def packet(self, channel: Channel, packet: Packet) -> None:
        """See Observer; sub-channels belong to their device."""
        self.packets[channel.name.partition(".")[0]] += 1

    def sent(self, channel: Channel, packet: bytes) -> None:
        """See Observer."""
        self.packets[channel.name.partition(".")[0]] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One with a disk and a network, at its shell."""

    machine: Machine
    disk: Storvsc
    adapter: Netvsc
    meter: Meter
    checker: WireChecker
    connected_s: float

    def run(self, script: str) -> str:
        """What a script prints."""
        done = self.machine.shell.run(script, Deadline.after(RUN_S))
        if not done.ok:
            raise SystemExit(f"scripts/bench hyperv: {script!r} ended with {done.status}: {done.text}")
        return done.text


def thread_s(name: str) -> tuple[float, float]:
    """Seconds that a thread of ours ran, and waited for a CPU (Linux sched-stats.rst)."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id is not None:
            words = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text(encoding="utf-8").split()
            return int(words[0]) / 1e9, int(words[1]) / 1e9
    return 0.0, 0.0


@contextmanager
def guest(name: str, *, large_sends: bool) -> Iterator[Guest]:
    """A guest with one disk and one adapter, both in use."""
    with Cache() as cache, Backing(DISK_BYTES) as backing:
        kernel = KernelStore(cache).get(name)
        content = random.Random(0).randbytes(DISK_BYTES)  # noqa: S311 - content, not a secret
        backing.write(0, content)
        disk = Storvsc(ScsiDisk(backing))
        adapter = Netvsc(
            IpHost(
                {
                    ECHO_PORT: Echo,
                    SINK_PORT: lambda: Sink(TCP_BYTES // 8),
                    SOURCE_PORT: lambda: Source(content[:TCP_BYTES]),
                }
            ),
            offload=Offload(large_send_bytes=LARGE_SEND_BYTES if large_sends else 0),
        )
        spec = MachineSpec(
            kernel=kernel.image, initrd=MicroGuest(cache).initramfs(kernel), memory_mib=512,
            cpu="neoverse-n1", cmdline="console=ttyAMA0", hyperv=hyperv_setup(cache),
        )  # fmt: skip
        page = kernel.page_size or PageSize.K4
        checkers: list[WireChecker] = []
        meters: list[Meter] = []

        def watch(host: Host) -> None:
            checkers.append(WireChecker(host.log, host.memory, page.bytes))
            meters.append(Meter(host.log))

        start_s = time.monotonic()
        with Machine(spec, Qemu.find(), devices=(disk, adapter), watch=watch) as machine:
            machine.shell.wait_ready(Deadline.after(BOOT_S))
            machine.shell.run("modprobe sd_mod", Deadline.after(BOOT_S))
            for what, script in (("the disk", "test -b /dev/sda"), ("the network", CARD)):
                Deadline.after(BOOT_S).wait_until(partial(works, machine, script), what)
            connected = meters[0].connected_s
            yield Guest(
                machine=machine, disk=disk, adapter=adapter, meter=meters[0], checker=checkers[0],
                connected_s=-1.0 if connected is None else connected - start_s,
            )  # fmt: skip


def works(machine: Machine, script: str) -> bool:
    """True where a script ends well."""
    return machine.shell.run(script, Deadline.after(BOOT_S)).ok


def timed(
    name: str, kind: str, size_bytes: int, count: Callable[[], int], run: Callable[[], object]
) -> Figures:
    """One row: what `run` moves `size_bytes` by."""
    before, cpu_s, start_s = count(), thread_s(THREAD), time.monotonic()
    run()
    took_s = time.monotonic() - start_s
    requests = max(1, count() - before)
    ran_s, waited_s = (after - at for after, at in zip(thread_s(THREAD), cpu_s, strict=True))
    return {
        "kernel": name, "kind": kind, "mb_per_s": round(size_bytes / took_s / 1e6, 1),
        "requests_per_s": round(requests / took_s), "host_cpu": round(ran_s / took_s, 2),
        "host_waited": round(waited_s / took_s, 2), "us_per_request": round(ran_s / requests * 1e6),
        "host_mb_per_s": round(size_bytes / max(ran_s, 1e-6) / 1e6, 1),
    }  # fmt: skip


def measure(name: str, *, large_sends: bool) -> dict[str, Any]:
    """The figures, and the checker's verdict."""
    figures: list[Figures] = []
    with guest(name, large_sends=large_sends) as one:
        for size, count in REQUESTS:
            for kind, words in (
                ("read", f"read /dev/sda {size} 0 {count} 0 >/dev/null"),
                ("write", f"write /dev/sda {size} 0 {count} 0 </dev/zero"),
            ):
                figures.append(
                    timed(
                        name, f"storvsc {kind} {size >> 10} KiB", size * count,
                        lambda: sum(one.disk.pages.values()),
                        partial(one.run, f"probe direct {words}"),
                    )
                )  # fmt: skip
        for kind, size, script in NETWORK:
            figures.append(
                timed(
                    name, f"netvsc {kind}", size, lambda: one.meter.packets[one.adapter.name],
                    partial(one.run, script),
                )
            )  # fmt: skip
        report = one.checker.report()
        connected_s = round(one.connected_s, 1)
    verdict = f"{report.comparisons} comparisons, {len(report.findings)} findings"
    load = round(os.getloadavg()[0], 1)
    return {"figures": figures, "connected_s": connected_s, "load": load, "checker": verdict}


@contextmanager
def profiled() -> Iterator[None]:
    """Print where the host's thread spent its time."""
    profiler = cProfile.Profile()

    def begin(*_: object) -> None:
        if threading.current_thread().name == THREAD:
            profiler.enable()  # in place of this function

    threading.setprofile(begin)
    try:
        yield
    finally:
        threading.setprofile(None)
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(PROFILED_LINES)


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
    console.print(
        f"VMBus connected {measured['connected_s']} s after the start; {measured['checker']}; "
        f"load {measured['load']}"
    )


@click.command()
@click.option("--kernel", default="debian-16k", show_default=True, help="A kernel of the catalogue.")
@click.option("--profile", is_flag=True, help="Print, on stderr, where the host's thread spends its time.")
@click.option(
    "--large-sends/--no-large-sends", default=True, show_default=True,
    help="Take TCP segments of 60,000 bytes from the guest, as Windows does, or frames of 1500 bytes only.",
)  # fmt: skip
@as_json
def hyperv(kernel: str, profile: bool, large_sends: bool, as_json: bool) -> None:
    """VMBus, direct I/O through storvsc and TCP through netvsc, every packet checked."""
    with profiled() if profile else nullcontext():
        measured = measure(kernel, large_sends=large_sends)
    printed(measured, show, as_json)
