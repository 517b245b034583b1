"""One Image and three command lines: the combined kernel boots at each page size and passes every check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.matrix.asking import ASKINGS, BY_SIZE, parse_askings
from harness.matrix.budget import guest_memory_mib
from harness.matrix.cell import Request
from harness.matrix.guests import Guests
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.qemu.machine import Machine
from harness.smoke import CHECKS
from harness.spec import Accel, PageSize
from harness.verdict import Verdict

KERNEL = "combined"


@pytest.fixture(scope="module")
def combined(granule_kernels: KernelStore) -> Kernel:
    """The combined kernel, if its members are here."""
    if not granule_kernels.available(KERNEL):
        pytest.skip("the members of combined are not all in the cache: granule kernels fetch combined")
    return granule_kernels.get(KERNEL)


@pytest.fixture(scope="module")
def bench(granule_bench: Bench) -> Iterator[Bench]:
    """Guests that are booted: a clone has been through the selector before."""
    with Guests(granule_bench.cache, granule_bench.qemu, cold=True, total_mib=guest_memory_mib()) as guests:
        yield replace(granule_bench, guests=guests)


def test_every_page_size(bench: Bench, granule_kernels: KernelStore, combined: Kernel) -> None:
    """Each cell passes, at the page size that was asked for, and all of them booted the same file."""
    cells = plan(Request(kernels=(KERNEL,), accel=Accel.TCG), granule_kernels, bench.qemu).cells
    assert {cell.page_size for cell in cells} == set(PageSize)
    for cell in cells:
        result = run_cell(cell, combined, bench, lambda _: None)
        assert result.verdict is Verdict.PASS, f"{cell.id}: {result.reason}\n{result.console[-2000:]}"
        assert result.page_size_in_force is cell.page_size
        assert str(combined.image) in result.provenance["argv"]
        assert "granule selector:" not in result.console


@pytest.mark.parametrize("cpu", ["neoverse-n1", "cortex-a57", "max,pauth-impdef=on"])
def test_every_way_of_asking(bench: Bench, granule_kernels: KernelStore, combined: Kernel, cpu: str) -> None:
    """None, nonsense, upper case, repeated, lacking: each gives the size that is due on that CPU."""
    ways = tuple(way for way in parse_askings(("all",)) if way != BY_SIZE)
    checks = tuple(check for check in CHECKS if check.name in ("page-size", "kernel-tables"))
    request = Request(kernels=(KERNEL,), cpus=(cpu,), accel=Accel.TCG, askings=ways, checks=checks)
    cells = plan(request, granule_kernels, bench.qemu).cells
    assert len(cells) == len(ASKINGS) + (cpu == "cortex-a57")
    for cell in cells:
        result = run_cell(cell, combined, bench, lambda _: None)
        assert result.verdict is Verdict.PASS, f"{cell.id}: {result.reason}\n{result.console[-2000:]}"
        assert [check.name for check in result.checks[:2]] == ["page-size", "kernel-tables"]


def test_a_size_that_the_cpu_lacks(bench: Bench, granule_kernels: KernelStore, combined: Kernel) -> None:
    """On a CPU without 16K pages the 64K kernel boots; console and verdict both say so."""
    asked = Request(
        kernels=(KERNEL,), page_sizes=(PageSize.K16,), cpus=("cortex-a57",), accel=Accel.TCG, force=True
    )
    cell = plan(asked, granule_kernels, bench.qemu).cells[0]
    consoles: list[str] = []

    def keep(machine: Machine) -> None:
        consoles.append(machine.transcript.content().decode(errors="replace"))

    result = run_cell(cell, combined, bench, lambda _: None, keep)
    assert result.verdict is Verdict.WRONG_PAGE_SIZE
    assert result.page_size_in_force is PageSize.K64
    assert consoles[0].startswith("granule selector: this CPU has no 16K pages; starting the 64K kernel")
