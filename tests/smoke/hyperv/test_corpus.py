"""Planted page-size mistakes in real drivers, each found by its rule; the same build without them passes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded
from harness.hyperv.corpus import PROTOCOL, PlantedBug, read_corpus
from harness.hyperv.modules import debian_source, rebuild
from harness.kernels.kbuild.out_of_tree import apply_patch, with_modules
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.matrix.run import Bench
from harness.spec import PageSize

CORPUS = read_corpus(Path(__file__).parents[2] / "hyperv-corpus/index.toml")
KERNELS = {"debian-4k": PageSize.K4, "debian-16k": PageSize.K16, "trimmed-hyperv-64k": PageSize.K64}
EVERY_MODULE = ("hv_vmbus", "hv_utils", "hv_balloon", "hv_storvsc", "hv_netvsc", "hv_sock")
FOUND_S = 900.0
LOOK_S = 2.0
REPORTS = 3
RUNS = 20
CARD = (
    'for d in /sys/class/net/*; do [ "$(basename "$(readlink -f $d/device/driver)")" = hv_netvsc ] && '
    'n=$(basename $d); done; [ -n "$n" ]'
)
SENT_BYTES = 256 << 10
SENT = "dd if=/dev/zero bs=64k count=4 2>/dev/null"
# A driver with a mistake in it may wait without end.
NETWORK = f"""{CARD} && ip link set $n up && ip addr replace 10.9.8.2/24 dev $n &&
timeout 60 ping -q -c 2 -W 5 -s 30000 10.9.8.1 && {SENT} | timeout 60 nc 10.9.8.1 9"""
# The driver keeps silent for the first 45 seconds otherwise.
REPORT = "echo 0 >/sys/module/hv_balloon/parameters/pressure_report_delay"
SOCKET = "modprobe hv_sock && timeout 60 probe tcp vsock 7 100000"

# The fixture's maker of Guests: tests have no package to import it from.
Start = Callable[..., Any]


def rebuilt(
    bench: Bench, modules: tuple[str, ...], patch: Path | None, into: Path
) -> Callable[[Kernel], Kernel]:
    """What puts rebuilt modules in place of a kernel's own."""

    def change(kernel: Kernel) -> Kernel:
        return with_modules(kernel, rebuild(bench.cache, kernel, modules, patch), into)

    return change


def broken(guest: Any) -> set[str]:
    """Rules and kinds of violations, as the index names them."""
    counts = guest.subject.machine.hyperv.log.counts
    rules = {result.rule.name for result in guest.checker.report().results if result.broken}
    return rules | {f"{PROTOCOL}{kind.name}" for kind in counts}


def read_disk(guest: Any) -> bool:
    """Enough requests to go round a ring, the largest ones among them."""
    guest.subject.sh("modprobe sd_mod")
    device = guest.disk("granule-raw")
    small = guest.subject.sh(f"probe direct read {device} 4096 0 1500 512 >/dev/null")
    return bool(small.ok and guest.subject.sh(f"probe direct read {device} 1048576 0 8 0 >/dev/null").ok)


def use_card(guest: Any) -> bool:
    """Fragments, and a stream from pages of a file's, none of which fit a section."""
    Deadline.after(guest.patience.command_s).wait_until(lambda: guest.subject.sh(CARD).ok, "netvsc's card")
    done = guest.subject.sh(NETWORK)
    return bool(done.ok and str(SENT_BYTES) in done.text)


def use_socket(guest: Any) -> bool:
    """A connection to the host and back."""
    return bool(guest.subject.sh(SOCKET).ok)


def use_memory(guest: Any) -> bool:
    """A few reports of memory: one number of guest pages may by chance be one of 4 KiB."""
    done = guest.subject.sh(REPORT)
    wanted = guest.balloon.reports + REPORTS
    Deadline.after(guest.patience.command_s).wait_until(lambda: guest.balloon.reports >= wanted, "reports")
    return bool(done.ok)


TRAFFIC = {"storvsc": read_disk, "netvsc": use_card, "hv_sock": use_socket, "hv_balloon": use_memory}


def bring_out(guest: Any, bug: PlantedBug) -> None:
    """Boot, and move data if that is what the mistake needs, until its rule is broken or all is done.

    A guest with such a driver may hang, die, or never come to its shell.
    """
    machine, deadline = guest.subject.machine, Deadline.after(FOUND_S)
    with contextlib.suppress(ChannelError, DeadlineExceeded):
        while bug.rule not in broken(guest):
            with contextlib.suppress(DeadlineExceeded):
                machine.shell.wait_ready(deadline.sooner(LOOK_S))
                break
            if deadline.expired():
                return
        if bug.rule not in broken(guest):
            TRAFFIC[bug.device](guest)
    with contextlib.suppress(DeadlineExceeded):
        Deadline.after(guest.patience.command_s).wait_until(lambda: bug.rule in broken(guest), bug.rule)


def have(kernels: KernelStore, name: str) -> None:
    if not kernels.available(name):
        pytest.skip(f"{name} is not in the cache: granule kernels fetch {name}")


@pytest.mark.parametrize("kernel", KERNELS)
def test_rebuilt_without_a_patch(
    start: Start, granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path, kernel: str
) -> None:
    """The control: the same drivers from the same source, built by us, break nothing."""
    have(granule_kernels, kernel)
    guest = start(kernel, change=rebuilt(granule_bench, EVERY_MODULE, None, tmp_path))
    taints = guest.sh(
        "cat /sys/module/hv_storvsc/taint /sys/module/hv_netvsc/taint /sys/module/hv_vmbus/taint"
    )
    assert taints.replace("\n", "").count("O") == 3, "these are the kernel's own modules"
    for name, use in TRAFFIC.items():
        assert use(guest), name
    report = guest.report()
    assert broken(guest) == set()
    assert report.passed


@pytest.mark.parametrize("kernel", KERNELS)
def test_unpatched_drivers_pass_every_time(start: Start, granule_kernels: KernelStore, kernel: str) -> None:
    """The kernel's own drivers pass run after run: what the corpus finds is no accident of a run."""
    have(granule_kernels, kernel)
    for run in range(1, RUNS + 1):
        guest = start(kernel)
        for name, use in TRAFFIC.items():
            assert use(guest), (run, name)
        report = guest.checker.report()
        assert (broken(guest), report.silent) == (set(), ()), run
        assert report.passed, run
        guest.subject.machine.close()
        print(f"{kernel}: run {run} of {RUNS}, {report.comparisons} comparisons")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bug", CORPUS, ids=[bug.name for bug in CORPUS])
def test_planted(
    start: Start, granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path, bug: PlantedBug,
    kernel: str,
) -> None:  # fmt: skip
    """Where the mistake shows, its rule is broken; at page sizes where it does not, nothing is."""
    have(granule_kernels, kernel)
    options = {} if bug.max_transfer_bytes is None else {"max_transfer_bytes": bug.max_transfer_bytes}
    due = KERNELS[kernel] in bug.page_sizes
    change = rebuilt(granule_bench, bug.modules, bug.patch, tmp_path)
    guest = start(kernel, change=change, to_shell=not due, **options)
    if not due:
        assert TRAFFIC[bug.device](guest)
        assert broken(guest) == set()
        return
    bring_out(guest, bug)
    said = guest.subject.machine.transcript.content().decode(errors="replace")[-2000:]
    assert bug.rule in broken(guest), f"broken are {broken(guest)}; the guest said: {said}"
    print(*guest.checker.report().findings[:3], sep="\n")


def test_every_patch_applies(granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path) -> None:
    """All of the corpus fits the source of Debian's kernel."""
    if not granule_kernels.available("debian-16k"):
        pytest.skip("debian-16k is not in the cache: granule kernels fetch debian-16k")
    tree = debian_source(granule_bench.cache, granule_kernels.get("debian-16k"))
    for bug in CORPUS:
        copy = tmp_path / bug.name / bug.file
        copy.parent.mkdir(parents=True)
        shutil.copyfile(tree / bug.file, copy)
        apply_patch(tmp_path / bug.name, bug.patch)
        assert copy.read_bytes() != (tree / bug.file).read_bytes()
