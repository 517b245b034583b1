"""The figures of scripts/bench clones, taken in one run, way by way in turn, because machines drift.

cold_first_answer_ms_p50    granule boots: start of QEMU to the answer of a first command
plain_qemu_ready_ms_p50     the same kernel and initramfs under a bare QEMU command line, to the first word
virtme_ng_ms_p50            `vng --exec true` with that kernel, start to end; absent where it cannot run
clone_first_answer_ms_p50   a clone of a template, started when it is wanted, to the answer of a first command
pool_first_answer_ms_p50    a clone that was started before it is wanted
ssh_first_answer_ms_p50     a clone of a template with a network, to the answer of a first command by SSH
hundred_tests_s             100 commands, each in a guest of its own, spread over the kernels
fresh_guests_per_s          the same as a rate
idle_clones_mib             host memory of 20 clones that have answered once, beyond their template's

Times of a way are medians over the kernels of each kernel's median, which is under by_kernel.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.boot import CMDLINE, KERNELS, with_plain_qemu
from benchmarks.output import as_json, printed
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.channel.command import CommandShell
from harness.deadline import Deadline
from harness.kernels.store import KernelStore
from harness.login import Dropbear, SshAccess
from harness.matrix.budget import available_mib
from harness.qemu.clone import ClonePool, start_clone
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.template import Template, Templates
from harness.spec import MachineSpec, Wire

BOOT_S = 120.0
TESTS = 100
IDLE_CLONES = 20
WAYS = {
    "cold": "cold boot, first answer",
    "plain": "plain QEMU, first word",
    "vng": "virtme-ng, start to end",
    "clone": "clone, first answer",
    "pool": "clone of the pool, first answer",
    "ssh": "clone, first answer by SSH",
}
NAMES = {
    "cold": "cold_first_answer_ms_p50",
    "plain": "plain_qemu_ready_ms_p50",
    "vng": "virtme_ng_ms_p50",
    "clone": "clone_first_answer_ms_p50",
    "pool": "pool_first_answer_ms_p50",
    "ssh": "ssh_first_answer_ms_p50",
}


def answer(shell: CommandShell) -> None:
    """Have a first command answered, rightly."""
    done = shell.run("echo $((40+2))", Deadline.after(BOOT_S))
    if done.output != b"42\n":
        raise SystemExit(f"scripts/bench clones: a guest answered {done.output[:80]!r}")


def ready(machine: Machine) -> None:
    """Wait for the guest's shell."""
    machine.shell.wait_ready(Deadline.after(BOOT_S))


def cold(spec: MachineSpec, qemu: Qemu) -> float:
    """Seconds from nothing to an answer, booting."""
    start_s = time.monotonic()
    with Machine(spec, qemu) as machine:
        ready(machine)
        answer(machine.shell)
        return time.monotonic() - start_s


def cloned(template: Template) -> float:
    """Seconds from nothing to an answer, cloning."""
    start_s = time.monotonic()
    with start_clone(template) as machine:
        answer(machine.shell)
        return time.monotonic() - start_s


def by_ssh(template: Template, guest: MicroGuest) -> float:
    """Seconds from nothing to an answer by SSH, cloning: server, keys and login included."""
    start_s = time.monotonic()
    with start_clone(template) as machine:
        answer(SshAccess(machine, Dropbear(lambda: guest.sshd)).get(Deadline.after(BOOT_S)))
        return time.monotonic() - start_s


def pooled(pool: ClonePool, template: Template) -> float:
    """Seconds to an answer from a clone that waits."""
    pool.prepare(template)
    Deadline.after(BOOT_S).wait_until(lambda: pool.waiting(template) > 0, "a clone that waits")
    start_s = time.monotonic()
    with pool.take(template, Deadline.after(BOOT_S)) as machine:
        answer(machine.shell)
        return time.monotonic() - start_s


def virtme_ng(spec: MachineSpec) -> float | None:
    """Seconds that virtme-ng takes for `true`; None where it is not installed or cannot run this kernel."""
    program = shutil.which("vng")
    if program is None:
        return None
    start_s = time.monotonic()
    argv = (
        program,
        "--run",
        str(spec.kernel),
        "--arch",
        "arm64",
        "--cpus",
        str(spec.vcpus),
        "--exec",
        "true",
    )
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=BOOT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return None
    return time.monotonic() - start_s if done.returncode == 0 else None


def idle_mib(template: Template, count: int) -> float:
    """Host memory of that many clones, without the pages of the template's RAM that they share."""
    with ExitStack() as stack:
        machines = [stack.enter_context(start_clone(template)) for _ in range(count)]
        for machine in machines:
            answer(machine.shell)
        return sum(map(memory_of, machines)) / (1 << 20)


def memory_of(machine: Machine) -> int:
    """Bytes of host memory of a clone: its QEMU's share (PSS), less the template's pages, and its disks."""
    root = Path(f"/proc/{machine.process.pid}")
    pss = _kib(root.joinpath("smaps_rollup").read_text(), "Pss")
    template_ram = str(Path(f"/proc/self/fd/{machine.ram}").readlink())
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", root.joinpath("smaps").read_text(), flags=re.MULTILINE)
    shared = sum(
        _kib(block, "Pss") - _kib(block, "Anonymous")
        for block in blocks
        if block.partition("\n")[0].endswith(template_ram)
    )
    disks = sum(Path(machine.disk_path(disk.serial)).stat().st_blocks * 512 for disk in machine.spec.disks)
    return (pss - shared) * 1024 + disks


def _kib(text: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) if match else 0


def hundred_tests(pool: ClonePool, templates: list[Template]) -> float:
    """Seconds for TESTS commands, each in a guest of its own, as many at once as there are cores."""

    def test(number: int) -> None:
        with pool.take(templates[number % len(templates)], Deadline.after(BOOT_S)) as machine:
            answer(machine.shell)

    start_s = time.monotonic()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        list(workers.map(test, range(TESTS)))
    return time.monotonic() - start_s


def medians(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Milliseconds of each way, in all and under `by_kernel`. `times`: seconds by kernel and way."""
    by_kernel = {
        kernel: {NAMES[way]: round(1000 * statistics.median(runs)) for way, runs in ways.items() if runs}
        for kernel, ways in times.items()
    }
    overall = {
        name: round(statistics.median(ways[name] for ways in by_kernel.values() if name in ways))
        for name in NAMES.values()
        if any(name in ways for ways in by_kernel.values())
    }
    return {**overall, "by_kernel": by_kernel}


def measure(runs: int, kernels: tuple[str, ...]) -> dict[str, Any]:
    """All figures."""
    qemu = Qemu.find()
    times: dict[str, dict[str, list[float]]] = {}
    with Cache() as cache, Templates(cache, qemu) as templates:
        store, guest = KernelStore(cache, offline=True), MicroGuest(cache, offline=True)
        made: list[Template] = []
        wired: list[Template] = []
        for name in kernels:
            kernel = store.get(name)
            spec = MachineSpec(kernel=kernel.image, initrd=guest.initramfs(kernel), cmdline=CMDLINE)
            made.append(templates.get(spec, ready))
            wired.append(templates.get(replace(spec, wire=Wire()), ready))
        with ClonePool(templates, total_mib=available_mib() - 512, ahead=1) as pool:
            for name, template, with_wire in zip(kernels, made, wired, strict=True):
                ways: dict[str, Callable[[], float | None]] = {
                    "cold": lambda template=template: cold(template.spec, qemu),  # type: ignore[misc]
                    "plain": lambda template=template: with_plain_qemu(template.spec, qemu),  # type: ignore[misc]
                    "vng": lambda template=template: virtme_ng(template.spec),  # type: ignore[misc]
                    "clone": lambda template=template: cloned(template),  # type: ignore[misc]
                    "pool": lambda template=template: pooled(pool, template),  # type: ignore[misc]
                    "ssh": lambda template=with_wire: by_ssh(template, guest),  # type: ignore[misc]
                }
                taken = [{way: run() for way, run in ways.items()} for _ in range(runs)]
                times[name] = {
                    way: [seconds for one in taken if (seconds := one[way]) is not None] for way in ways
                }
                pool.drop(template)
            hundred_s = hundred_tests(pool, made)
        mib = max(idle_mib(template, IDLE_CLONES) for template in made)
    return {
        "machine": f"{os.uname().machine}, {len(os.sched_getaffinity(0))} cores, QEMU {qemu.version_text}",
        "load": round(os.getloadavg()[0], 1),
        "runs": runs,
        **medians(times),
        "hundred_tests_s": round(hundred_s, 1),
        "fresh_guests_per_s": round(TESTS / hundred_s, 1),
        "idle_clones_mib": round(mib),
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    by_kernel = figures["by_kernel"]
    assert isinstance(by_kernel, dict)  # noqa: S101 - as medians makes it
    title = f"{figures['machine']}, load {figures['load']}; medians of {figures['runs']}, ms"
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("")
    for kernel in by_kernel:
        table.add_column(kernel, justify="right")
    for way, label in WAYS.items():
        table.add_row(label, *(str(ways.get(NAMES[way], "not run")) for ways in by_kernel.values()))
    console = Console()
    console.print(table)
    console.print(
        f"{TESTS} tests, each in a guest of its own: {figures['hundred_tests_s']} s "
        f"({figures['fresh_guests_per_s']} fresh guests a second)"
    )
    console.print(f"{IDLE_CLONES} idle clones: {figures['idle_clones_mib']} MiB beyond their template")


@click.command()
@click.option(
    "--runs", type=click.IntRange(min=1), default=9, show_default=True, help="Of each kind per kernel."
)
@click.option("--kernel", default=",".join(KERNELS), show_default=True, help="Kernels of the catalogue.")
@as_json
def clones(runs: int, kernel: str, as_json: bool) -> None:
    """How soon a fresh guest answers: cold, a clone, one from a pool; plain QEMU; virtme-ng if installed."""
    printed(measure(runs, tuple(kernel.split(","))), show, as_json)
