"""Running a plan: kernels one after another as they can be had, cells side by side."""

from __future__ import annotations

import datetime
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from harness.errors import GranuleError
from harness.kernels.file import Beside
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore, is_path
from harness.matrix.budget import MemoryBudget, guest_memory_mib
from harness.matrix.caveats import caveats_of
from harness.matrix.cell import Cell
from harness.matrix.exact import run_exact
from harness.matrix.plan import Plan
from harness.matrix.record import cell_without_guest
from harness.matrix.run import Bench, machine_spec, run_cell
from harness.qemu.process import allow_starts, kill_all
from harness.verdict import CellResult, CheckResult, MatrixResult, Skipped

__all__ = ["Listener", "default_jobs", "run_matrix"]


class Listener(Protocol):
    """Hears how a run goes on, from several threads."""

    def kernel_wanted(self, name: str) -> None:
        """A kernel is not here yet and is being fetched or built."""

    def kernel_ready(self, name: str) -> None:
        """The kernel is here."""

    def cell_started(self, cell_id: str) -> None:
        """A guest is being started."""

    def check_finished(self, cell_id: str, check: CheckResult) -> None:
        """A check of a cell has its result."""

    def cell_finished(self, cell: CellResult) -> None:
        """A cell has its verdict."""


def default_jobs() -> int:
    """As many cells at once as there are processors that we may use."""
    return len(os.sched_getaffinity(0))


def run_matrix(
    plan: Plan,
    store: KernelStore,
    bench: Bench,
    listener: Listener,
    *,
    jobs: int,
    beside: Beside | None = None,
    allow_missing: frozenset[str] = frozenset(),
    on_interrupt: Callable[[MatrixResult], None] = lambda _so_far: None,
) -> MatrixResult:
    """Run every cell of the plan.

    Kernels, initramfs and disks are had in this thread, kernels at hand first, so that verdicts come while
    another is built and an interrupt reaches the build. An interrupt kills the guests, gives what was found
    so far to `on_interrupt`, and is raised again.
    """
    start_s = time.monotonic()
    budget = MemoryBudget(guest_memory_mib())
    results: list[CellResult] = []
    skipped = list(plan.skipped)
    had: dict[str, Kernel] = {}
    stopping = threading.Event()

    def run_one(cell: Cell, kernel: Kernel) -> None:
        with budget.reserve(cell.memory_mib):
            listener.cell_started(cell.id)
            run = run_cell if cell.exact is None else run_exact
            result = run(cell, kernel, bench, lambda check: listener.check_finished(cell.id, check))
        # A guest that we killed has no verdict.
        if not stopping.is_set():
            results.append(result)
            listener.cell_finished(result)

    def result_so_far() -> MatrixResult:
        allowed = {entry.id for entry in skipped}
        order = [cell.id for cell in plan.cells]
        return MatrixResult(
            expected=sum(cell.id not in allowed for cell in plan.cells),
            cells=tuple(sorted(results, key=lambda result: order.index(result.id))),
            skipped=tuple(skipped),
            host=_host(bench),
            duration_s=time.monotonic() - start_s,
            caveats=caveats_of(had),
        )

    pending: list[Future[None]] = []
    pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="cell")
    try:
        for name, cells in _by_kernel(plan.cells, store).items():
            try:
                kernel = _get(name, cells, store, bench, listener, beside)
            except GranuleError as error:
                if name in allow_missing:
                    skipped += [
                        Skipped(id=cell.id, reason=f"allowed to be missing: {error}") for cell in cells
                    ]
                    continue
                for cell in cells:
                    results.append(cell_without_guest(cell, str(error)))
                    listener.cell_finished(results[-1])
                continue
            had[name] = kernel
            pending += [pool.submit(run_one, cell, kernel) for cell in cells]
        for future in pending:
            future.result()
    except BaseException:
        stopping.set()
        for future in pending:
            future.cancel()
        kill_all()
        pool.shutdown(wait=True)
        allow_starts()
        on_interrupt(result_so_far())
        raise
    finally:
        pool.shutdown(wait=True)
    return result_so_far()


def _get(
    name: str, cells: list[Cell], store: KernelStore, bench: Bench, listener: Listener, beside: Beside | None
) -> Kernel:
    """A kernel with all that its cells need, made here and not in their threads."""
    here = store.available(name)
    if not here:
        listener.kernel_wanted(name)
    is_file = is_path(name, store.catalogue)
    kernel = store.get(name, beside=beside if is_file else None)
    for cell in cells:
        machine_spec(cell, kernel, bench)
    if not here:
        listener.kernel_ready(name)
    return kernel


def _by_kernel(cells: tuple[Cell, ...], store: KernelStore) -> Mapping[str, list[Cell]]:
    """Cells by kernel, the kernels that are at hand first, and the large cells of each first.

    A cell with much memory takes longest; started last it would be waited for alone.
    """
    names = dict.fromkeys(cell.kernel for cell in cells)
    ready_first = sorted(names, key=lambda name: not store.available(name))
    return {
        name: sorted((cell for cell in cells if cell.kernel == name), key=lambda cell: -cell.memory_mib)
        for name in ready_first
    }


def _host(bench: Bench) -> dict[str, str]:
    return {
        "machine": platform.machine(),
        "cores": str(default_jobs()),
        "system": platform.platform(),
        "QEMU": bench.qemu.version_text,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
