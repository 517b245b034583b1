"""`granule replay`: a cell's run again, from its report alone, and whether it was the same to the byte."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.cli.progress import KernelProgress
from harness.determinism.record import RunRecord
from harness.errors import ExitStatus, UsageError
from harness.kernels.file import Beside
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore, is_path
from harness.matrix.budget import guest_memory_mib
from harness.matrix.exact import cell_of, changed_inputs, difference_from, witness
from harness.matrix.guests import Guests
from harness.matrix.run import Bench
from harness.qemu.probe import Qemu
from harness.report.json import load_report
from harness.report.terminal import make_console
from harness.verdict import CellResult, Verdict

__all__ = ["chosen", "replay"]

BESIDE = ("--modules", "--initrd", "--vmlinux", "--config")


@click.command()
@click.argument("report", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("cell", required=False)
@click.option("--offline", is_flag=True, help="Take only kernels that are in the cache.")
def replay(report: Path, cell: str | None, offline: bool) -> None:
    """Run cells of a report.json again and compare: console, the guest's answers and findings, to the byte.

    For cells of `granule smoke --deterministic` and `--explore`; CELL is an id, all of them without it.

    Exit status: 0 identical, 1 different, 2 not comparable because QEMU, the kernel, granule or its guest
    programs are not those of the report.
    """
    cells = chosen(load_report(report).cells, cell, report)
    cache, console, progress = Cache(), make_console(sys.stdout), KernelProgress()
    store = KernelStore(cache, offline=offline, progress=progress)
    qemu = Qemu.find()
    with Guests(cache, qemu, cold=True, total_mib=guest_memory_mib()) as guests:
        guest = MicroGuest(cache, offline=offline, progress=progress)
        bench = Bench(qemu=qemu, cache=cache, guest=guest, guests=guests)
        # Every kernel first: what cannot be compared is told before anything runs.
        kernels = [_kernel(result, record, store, bench) for result, record in cells]
        found = [
            _replayed(result, record, kernel, bench, console)
            for (result, record), kernel in zip(cells, kernels, strict=True)
        ]
    click.get_current_context().exit(max(found))


def chosen(
    cells: tuple[CellResult, ...], wanted: str | None, report: Path
) -> tuple[tuple[CellResult, RunRecord], ...]:
    """The cells to run again, with their records; raises UsageError when there is none."""
    found = tuple((cell, cell.exact) for cell in cells if cell.exact is not None)
    if not found:
        raise UsageError(
            f"{report} has no cell whose run repeats: run `granule smoke --deterministic`, or --explore"
        )
    picked = tuple(pair for pair in found if wanted is None or pair[0].id == wanted)
    if not picked:
        ids = ", ".join(result.id for result, _ in found[:20])
        raise UsageError(f"{report} has no cell '{wanted}' whose run repeats; it has {ids}")
    return picked


def _kernel(result: CellResult, record: RunRecord, store: KernelStore, bench: Bench) -> Kernel:
    recipe = record.recipe
    words = recipe.kernel_options
    given = dict(zip(words[::2], words[1::2], strict=False))
    modules, initrd, vmlinux, config = (Path(given[name]) if name in given else None for name in BESIDE)
    beside = Beside(modules=modules, initrd=initrd, vmlinux=vmlinux, config=config)
    is_file = is_path(recipe.kernel, store.catalogue)
    kernel = store.get(recipe.kernel, beside=beside if is_file and given else None)
    size = result.page_size_asked
    bench.guest.prepare(kernel.running(size))
    changed = changed_inputs(record, kernel, size, bench)
    if changed:
        raise UsageError(f"{result.id} cannot be compared with its report: {'; '.join(changed)}")
    return kernel


def _replayed(
    result: CellResult, record: RunRecord, kernel: Kernel, bench: Bench, console: Console
) -> ExitStatus:
    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    again = witness(cell_of(result, record), kernel, bench, lambda _check: None)
    differences = difference_from(result, record, again)
    now = again.result
    said = f"{now.verdict.value}{', ' + now.reason if now.reason else ''}"
    if now.verdict is Verdict.INFRA and differences:
        say(f"{result.id}: could not be run: {now.reason}")
        return ExitStatus.INFRA
    if not differences:
        sizes = ", ".join(f"{one.name} {one.size_bytes} bytes" for one in record.streams)
        say(f"{result.id}: identical ({sizes}): {said}")
        return ExitStatus.PASSED
    say(f"{result.id}: DIFFERENT from its report: {said}")
    if record.difference:
        say(f"  (its own two runs were not identical either: {record.difference.splitlines()[0]})")
    for difference in differences:
        say(difference)
    return ExitStatus.FAILED
