"""Planted page-size mistakes in real drivers, each found by its rule; the same build without them passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.hyperv.corpus import PROTOCOL, PlantedBug, read_corpus
from harness.hyperv.modules import debian_source, rebuild
from harness.kernels.kbuild.out_of_tree import apply_patch, with_modules
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.matrix.run import Bench
from harness.spec import PageSize

CORPUS = read_corpus(Path(__file__).parents[2] / "hyperv-corpus/index.toml")
DRIVEN = [bug for bug in CORPUS if bug.device == "storvsc"]
KERNELS = {"debian-4k": PageSize.K4, "debian-16k": PageSize.K16}
FOUND_S = 900.0

# The fixture's maker of Guests: tests have no package to import it from.
Start = Callable[..., Any]


def rebuilt(bench: Bench, bug: PlantedBug | None, into: Path) -> Callable[[Kernel], Kernel]:
    """What puts rebuilt modules in place of a kernel's own."""
    names = ("hv_vmbus", "hv_utils", "hv_storvsc") if bug is None else bug.modules

    def change(kernel: Kernel) -> Kernel:
        made = rebuild(bench.cache, kernel, names, None if bug is None else bug.patch)
        return with_modules(kernel, made, into)

    return change


def broken(guest: Any) -> set[str]:
    """Rules and kinds of violations, as the index names them."""
    counts = guest.subject.machine.hyperv.log.counts
    rules = {result.rule.name for result in guest.checker.report().results if result.broken}
    return rules | {f"{PROTOCOL}{kind.name}" for kind in counts}


def traffic(guest: Any) -> None:
    """Enough requests to go round a ring, the largest ones among them."""
    guest.subject.sh("modprobe sd_mod")
    device = guest.disk("granule-raw")
    guest.subject.sh(f"probe direct read {device} 4096 0 1500 512 >/dev/null")
    guest.subject.sh(f"probe direct read {device} 1048576 0 8 0 >/dev/null")


@pytest.mark.parametrize("kernel", KERNELS)
def test_rebuilt_without_a_patch(start: Start, granule_bench: Bench, tmp_path: Path, kernel: str) -> None:
    """The control: the same drivers from the same source, built by us, break nothing."""
    guest = start(kernel, change=rebuilt(granule_bench, None, tmp_path))
    taints = guest.sh("cat /sys/module/hv_storvsc/taint /sys/module/hv_vmbus/taint")
    assert taints.replace("\n", "").count("O") == 2, "these are Debian's own modules"
    traffic(guest)
    report = guest.report()
    assert broken(guest) == set()
    assert report.passed


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bug", DRIVEN, ids=[bug.name for bug in DRIVEN])
def test_planted(start: Start, granule_bench: Bench, tmp_path: Path, bug: PlantedBug, kernel: str) -> None:
    """Where the mistake shows, its rule is broken; at page sizes where it does not, nothing is."""
    options = {} if bug.max_transfer_bytes is None else {"max_transfer_bytes": bug.max_transfer_bytes}
    due = KERNELS[kernel] in bug.page_sizes
    guest = start(
        kernel, change=rebuilt(granule_bench, bug, tmp_path), to_shell=not due or bug.needs_traffic, **options
    )
    if not due:
        traffic(guest)
        assert broken(guest) == set()
        return
    if bug.needs_traffic:
        traffic(guest)
    try:
        Deadline.after(FOUND_S).wait_until(lambda: bug.rule in broken(guest), bug.rule)
    except DeadlineExceeded:
        said = guest.subject.machine.transcript.content().decode()[-2000:]
        pytest.fail(f"{bug.rule} holds, and broken are {broken(guest)}; the guest said: {said}")
    print(*guest.checker.report().findings[:3], sep="\n")


def test_every_patch_applies(granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path) -> None:
    """All of the corpus fits the source of Debian's kernel, also what no device of ours can show."""
    if not granule_kernels.available("debian-16k"):
        pytest.skip("debian-16k is not in the cache: granule kernels fetch debian-16k")
    tree = debian_source(granule_bench.cache, granule_kernels.get("debian-16k"))
    for bug in CORPUS:
        copy = tmp_path / bug.name / bug.file
        copy.parent.mkdir(parents=True)
        shutil.copyfile(tree / bug.file, copy)
        apply_patch(tmp_path / bug.name, bug.patch)
        assert copy.read_bytes() != (tree / bug.file).read_bytes()
