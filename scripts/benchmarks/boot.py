"""The figures of scripts/bench boot, taken side by side in one run because machines drift.

launch_to_shell_s   granule: start of QEMU to the shell's first word
plain_qemu_s        the same kernel and initramfs under a bare QEMU command line
ratio               the former by the latter, pair by pair
matrix_s            `granule smoke --kernel trimmed`, everything cached
guest_rss_mib       the most host memory that one ordinary cell's QEMU had

The first three are medians over the kernels of each kernel's median, which is under by_kernel.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.output import as_json, printed
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.report import load_report
from harness.smoke.check import BASE_MEMORY_MIB
from harness.spec import MachineSpec

KERNELS = ("trimmed-4k", "trimmed-16k", "trimmed-64k")
BOOT_FIGURES = ("launch_to_shell_s", "plain_qemu_s", "ratio")
CMDLINE = "console=ttyAMA0"
BOOT_S = 120.0
READY = b"granule: ready\n"


def with_granule(spec: MachineSpec, qemu: Qemu) -> float:
    """Seconds from nothing to a shell, the harness's own work included."""
    start_s = time.monotonic()
    with Machine(spec, qemu) as machine:
        machine.shell.wait_ready(Deadline.after(BOOT_S))
        return time.monotonic() - start_s


def with_plain_qemu(spec: MachineSpec, qemu: Qemu) -> float:
    """Seconds from nothing to a shell with QEMU and two sockets, and nothing of ours on the host's side."""
    start_s = time.monotonic()
    ours, theirs = socket.socketpair()
    argv = (
        *(qemu.program, "-nodefaults", "-display", "none", "-nic", "none", "-machine", "virt,gic-version=3"),
        *("-cpu", spec.cpu, "-smp", str(spec.vcpus), "-m", f"{spec.memory_mib}M"),
        *("-serial", "file:/dev/null", "-chardev", f"socket,id=shell,fd={theirs.fileno()}"),
        *("-device", "virtio-serial-device", "-device", "virtserialport,chardev=shell,name=granule"),
        *("-kernel", str(spec.kernel), "-initrd", str(spec.initrd), "-append", spec.cmdline),
    )
    with ours, subprocess.Popen(argv, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL) as process:
        theirs.close()
        try:
            ours.settimeout(BOOT_S)
            seen = b""
            while READY not in seen:
                data = ours.recv(4096)
                if not data:
                    raise SystemExit(f"scripts/bench boot: plain QEMU ended with status {process.wait()}")
                seen += data
            return time.monotonic() - start_s
        finally:
            process.kill()


def matrix() -> tuple[float, int]:
    """Seconds of the three-size matrix, and MiB of host memory of its largest ordinary cell."""
    granule = Path(sys.executable).with_name("granule")
    with tempfile.TemporaryDirectory() as report:
        start_s = time.monotonic()
        done = subprocess.run(
            (granule, "smoke", "--kernel", "trimmed", "--report", report), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        seconds = time.monotonic() - start_s
        if done.returncode != 0:
            raise SystemExit(
                f"scripts/bench boot: the matrix did not pass, so it has no time:\n{done.stdout[-2000:]}"
            )
        cells = load_report(Path(report) / "report.json").cells
    ordinary = [cell for cell in cells if cell.memory_mib == BASE_MEMORY_MIB]
    return seconds, max(int(cell.provenance["host memory, MiB at most"]) for cell in ordinary)


def boot_figures(ours: dict[str, list[float]], plain: dict[str, list[float]]) -> dict[str, Any]:
    """The figures of the boots, in all and under `by_kernel`.

    Arguments: seconds of each run, by kernel, of granule and of bare QEMU.
    """
    by_kernel = {
        name: {
            "launch_to_shell_s": statistics.median(times),
            "plain_qemu_s": statistics.median(plain[name]),
            "ratio": statistics.median(a / b for a, b in zip(times, plain[name], strict=True)),
        }
        for name, times in ours.items()
    }
    overall = {
        figure: statistics.median(kernel[figure] for kernel in by_kernel.values()) for figure in BOOT_FIGURES
    }
    rounded = {
        name: {figure: round(value, 3) for figure, value in kernel.items()}
        for name, kernel in by_kernel.items()
    }
    return {**{figure: round(value, 3) for figure, value in overall.items()}, "by_kernel": rounded}


def measure(runs: int) -> dict[str, Any]:
    """All figures."""
    qemu = Qemu.find()
    ours: dict[str, list[float]] = {}
    plain: dict[str, list[float]] = {}
    with Cache() as cache:
        store, guest = KernelStore(cache, offline=True), MicroGuest(cache, offline=True)
        kernels: list[Kernel] = [store.get(name) for name in KERNELS]
        for kernel in kernels:
            spec = MachineSpec(kernel=kernel.image, initrd=guest.initramfs(kernel), cmdline=CMDLINE)
            for _ in range(runs):
                ours.setdefault(kernel.name, []).append(with_granule(spec, qemu))
                plain.setdefault(kernel.name, []).append(with_plain_qemu(spec, qemu))
    matrix_s, rss_mib = matrix()
    return {
        "machine": f"{os.uname().machine}, {len(os.sched_getaffinity(0))} cores, QEMU {qemu.version_text}",
        "runs": runs,
        **boot_figures(ours, plain),
        "matrix_s": round(matrix_s, 1),
        "guest_rss_mib": rss_mib,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    table = Table(box=None, title=f"{figures['machine']}; medians of {figures['runs']}", title_justify="left")
    for title in ("kernel", "granule, s", "plain QEMU, s", "ratio"):
        table.add_column(title, justify="left" if title == "kernel" else "right")
    by_kernel = figures["by_kernel"]
    assert isinstance(by_kernel, dict)  # noqa: S101 - as boot_figures makes it
    for name, kernel in by_kernel.items():
        table.add_row(name, *(f"{kernel[figure]:.2f}" for figure in BOOT_FIGURES))
    console = Console()
    console.print(table)
    console.print(f"three-size smoke matrix: {figures['matrix_s']} s")
    console.print(f"host memory of an ordinary guest: {figures['guest_rss_mib']} MiB at most")


@click.command()
@click.option(
    "--runs", type=click.IntRange(min=1), default=5, show_default=True, help="Boots of each kind per kernel."
)
@as_json
def boot(runs: int, as_json: bool) -> None:
    """From start to shell, beside plain QEMU; the three-size matrix; what a guest costs the host."""
    printed(measure(runs), show, as_json)
