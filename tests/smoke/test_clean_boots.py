"""Sound kernels have no finding, boot after boot: KASLR, the CPU model and what runs meanwhile differ.

GRANULE_CLEAN_BOOTS is the number of boots of each kernel; 6 make 30 where all five kernels are in the cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.kernels.store import KernelStore
from harness.matrix.budget import guest_memory_mib
from harness.matrix.cell import Request
from harness.matrix.guests import Guests
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.smoke import CHECKS
from harness.spec import Accel
from harness.verdict import Verdict

KERNELS = ("debian-4k", "debian-16k", "trimmed-4k", "trimmed-16k", "trimmed-64k")
SHAPES = (
    ("neoverse-n1", 2),
    ("cortex-a35", 2),
    ("max", 1),
    ("max", 2),
    ("cortex-a35", 1),
    ("neoverse-n1", 1),
)
"""CPU models that have every granule, with vCPUs; on a Cortex-A35 software sets the access flag."""
CROSS_CHECKS = tuple(check for check in CHECKS if check.name in ("user-tables", "kernel-tables"))
BOOTS = int(os.environ.get("GRANULE_CLEAN_BOOTS", "2"))
FEWEST_COMPARED = {"user-tables": 400, "kernel-tables": 5000}
"""At 64K a process has the fewest pages."""


@pytest.fixture(scope="module")
def bench(granule_bench: Bench) -> Iterator[Bench]:
    """Guests that are booted: clones of one guest would have its layout."""
    with Guests(granule_bench.cache, granule_bench.qemu, cold=True, total_mib=guest_memory_mib()) as guests:
        yield replace(granule_bench, guests=guests)


@pytest.mark.parametrize("boot", range(BOOTS))
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_clean_boot_has_no_finding(
    bench: Bench, granule_kernels: KernelStore, kernel: str, boot: int
) -> None:
    """Both halves of the address space were looked at, and nothing was found."""
    if not granule_kernels.available(kernel):
        pytest.skip(f"{kernel} is not in the cache: granule kernels fetch {kernel}")
    cpu, vcpus = SHAPES[boot % len(SHAPES)]
    asked = Request(kernels=(kernel,), cpus=(cpu,), vcpus=vcpus, accel=Accel.TCG, checks=CROSS_CHECKS)
    (cell,) = plan(asked, granule_kernels, bench.qemu).cells
    result = run_cell(cell, granule_kernels.get(kernel), bench, lambda _: None)
    said = [f"{check.name}: {finding}" for check in result.checks for finding in check.findings]
    assert not said, "\n".join(said)
    assert result.verdict is Verdict.PASS, result.reason
    compared = {check.name: check.expectations for check in result.checks}
    assert all(compared[name] > fewest for name, fewest in FEWEST_COMPARED.items()), compared
