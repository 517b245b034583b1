"""The figures of scripts/bench selector, taken in turns in one run because machines drift.

plain_ms         start of QEMU to the kernel's first word on the console, of the kernel by itself
stored_cost_ms   how much later that is from a combined Image, pair by pair
lz4_cost_ms      the same with the kernels packed
*_cpu_ms         the same of processor time that QEMU takes, which a busy machine changes less

Figures are medians over the runs, of each kernel under by_kernel and of all above.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.output import as_json, printed
from harness.build.guest import MicroGuest
from harness.build.selector import build_selector
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.deadline import Deadline
from harness.kernels.combined import assemble
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.spec import MachineSpec

BOOT_S = 120.0
POLL_S = 0.001
WAYS = ("plain", "stored", "lz4")
FIGURES = (
    "plain_ms",
    "stored_cost_ms",
    "lz4_cost_ms",
    "plain_cpu_ms",
    "stored_cost_cpu_ms",
    "lz4_cost_cpu_ms",
)


@dataclass(frozen=True)
class Start:
    """One start, from QEMU's to the kernel's first word."""

    wall_ms: float
    cpu_ms: float


def cpu_ms_of(pid: int) -> float:
    """What all threads of a process have run (Linux Documentation/scheduler/sched-stats.rst)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


def start(spec: MachineSpec, qemu: Qemu) -> Start:
    """Start a guest and end it when its kernel has said something."""
    start_s = time.monotonic()
    with Machine(spec, qemu) as machine:
        content = machine.transcript.content
        Deadline.after(BOOT_S).wait_until(lambda: bool(content()), "the kernel's first word", poll_s=POLL_S)
        return Start((time.monotonic() - start_s) * 1e3, cpu_ms_of(machine.process.pid))


def figures_of(runs: dict[str, list[Start]]) -> dict[str, float]:
    """Medians of one kernel's runs by the three ways, in the order they were taken."""
    plain = runs["plain"]
    found = {
        "plain_ms": statistics.median(one.wall_ms for one in plain),
        "plain_cpu_ms": statistics.median(one.cpu_ms for one in plain),
    }
    for way in WAYS[1:]:
        pairs = list(zip(runs[way], plain, strict=True))
        found[f"{way}_cost_ms"] = statistics.median(a.wall_ms - b.wall_ms for a, b in pairs)
        found[f"{way}_cost_cpu_ms"] = statistics.median(a.cpu_ms - b.cpu_ms for a, b in pairs)
    return {name: round(found[name], 1) for name in FIGURES}


def combine(kernels: list[Kernel], selector: bytes, path: Path, *, lz4: bool) -> int:
    """Write a combined Image; its size in bytes."""
    with path.open("wb") as out:
        assemble(selector, [(kernel.name, kernel.image) for kernel in kernels], out, lz4=lz4)
    return path.stat().st_size


def measure(names: tuple[str, ...], runs: int, cpu: str) -> dict[str, object]:
    """All figures."""
    qemu = Qemu.find()
    by_kernel: dict[str, dict[str, float]] = {}
    with Cache() as cache, tempfile.TemporaryDirectory() as directory:
        store, guest = KernelStore(cache, offline=True), MicroGuest(cache, offline=True)
        kernels = [store.get(name) for given in names for name in store.expand(given)]
        selector = (build_selector(Toolchain.find(), cache) / "selector.bin").read_bytes()
        stored, packed = Path(directory) / "stored", Path(directory) / "lz4"
        sizes = {way.name: combine(kernels, selector, way, lz4=way is packed) for way in (stored, packed)}
        for kernel in kernels:
            size = kernel.page_size
            assert size is not None  # noqa: S101 - assemble refuses the others
            cmdline = f"console=ttyAMA0 earlycon arm64.pagesize={size.token}"
            images = {"plain": kernel.image, "stored": stored, "lz4": packed}
            initrd = guest.initramfs(kernel)
            specs = {
                way: MachineSpec(kernel=image, initrd=initrd, cmdline=cmdline, cpu=cpu)
                for way, image in images.items()
            }
            taken: dict[str, list[Start]] = {way: [] for way in WAYS}
            for _ in range(runs):
                for way in WAYS:
                    taken[way].append(start(specs[way], qemu))
            by_kernel[kernel.name] = figures_of(taken)
        members = {kernel.name: kernel.image.stat().st_size for kernel in kernels}
    overall = {name: statistics.median(kernel[name] for kernel in by_kernel.values()) for name in FIGURES}
    return {
        "machine": f"{os.uname().machine}, {len(os.sched_getaffinity(0))} cores, QEMU {qemu.version_text}",
        "runs": runs,
        "cpu": cpu,
        **overall,
        "by_kernel": by_kernel,
        "selector_bytes": len(selector),
        "member_bytes": members,
        "stored_bytes": sizes["stored"],
        "lz4_bytes": sizes["lz4"],
    }


def show(figures: dict[str, object]) -> None:
    """Print the figures as a table."""
    title = f"{figures['machine']}, -cpu {figures['cpu']}; medians of {figures['runs']}, in ms"
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("kernel", "plain", "stored", "LZ4", "plain, CPU", "stored, CPU", "LZ4, CPU"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    by_kernel = figures["by_kernel"]
    assert isinstance(by_kernel, dict)  # noqa: S101 - as measure makes it
    for name, kernel in by_kernel.items():
        shown = (f"{kernel[figure]:{'' if 'plain' in figure else '+'}.0f}" for figure in FIGURES)
        table.add_row(name, *shown)
    console = Console()
    console.print(table)
    members = figures["member_bytes"]
    assert isinstance(members, dict)  # noqa: S101 - as measure makes it
    sizes = {**members, "selector": figures["selector_bytes"], "combined": figures["stored_bytes"],
             "combined, LZ4": figures["lz4_bytes"]}  # fmt: skip
    console.print("; ".join(f"{name} {int(str(size)) / (1 << 20):.2f} MiB" for name, size in sizes.items()))


@click.command()
@click.option(
    "--runs", type=click.IntRange(min=1), default=9, show_default=True, help="Starts of each kind per kernel."
)
@click.option("--kernels", default="trimmed", show_default=True, help="What to combine.")
@click.option("--cpu", default="neoverse-n1", show_default=True, help="QEMU's CPU model.")
@as_json
def selector(runs: int, kernels: str, cpu: str, as_json: bool) -> None:
    """What a combined Image costs at start-up beside the kernel that it starts, stored and with LZ4."""
    printed(measure(tuple(kernels.split(",")), runs, cpu), show, as_json)
