"""The figures of scripts/bench tables: whole tables, taken side by side in one run because machines drift.

kernel_table_ms            every leaf of a table like the kernel's in a 4K guest of 512 MiB: 131,000 leaves
million_leaves_ms          every leaf of a linear map of a million pages
scattered_leaves_ms        the same number of leaves in half-empty tables, mapped anywhere
leaves_per_s               leaves of the second by its time
bulk_translations_per_s    translations of random addresses in the first table
scattered_translations_per_s   the same in the third, where every leaf is a segment of its own
spec_leaves_per_s          leaves of the first table by `harness.vmsa.mappings`
spec_translations_per_s    translations in the first table by `harness.vmsa.walk`
drgn_translations_per_s    the same addresses by drgn from Python, where `pip install drgn` was done
addrxlat_translations_per_s    by libaddrxlat from C, where libkdumpfile-dev is installed
crosscheck_s               seconds that the two checks of page tables take in a cell, by kernel: with --live

All are medians. Tables are synthetic, and answers are compared with the specification's before they count.

What bounds a whole table is memory, not arithmetic: a leaf is 8 bytes read and 27 written, and passes over
descriptors in a cache take a nanosecond or so each. Writing to pages that are new to the process cost more
than all else before the columns shared one block that is large enough for huge pages, and it still is why the
first table of a process takes two to three times as long as the next. Half-empty tables cost what their
entries do. Translations are bounded by the binary search: among a hundred segments it stays in the
first-level cache, among a million it misses all of them.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.output import as_json, printed
from benchmarks.peers import Sample, addrxlat_per_s, drgn_per_s
from harness.build.guest import MicroGuest
from harness.bulk import Leaves, Ram, segments, walk_all
from harness.cache import Cache
from harness.kernels.store import KernelStore
from harness.matrix.budget import guest_memory_mib
from harness.matrix.cell import Request
from harness.matrix.guests import Guests
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.qemu.probe import Qemu
from harness.smoke import CHECKS
from harness.spec import Accel
from harness.vmsa import (
    Mapping,
    Regime,
    TableBuilder,
    Translation,
    VaRange,
    derive,
    leaf_attributes,
    mappings,
    registers_for,
    walk,
)

ARENA_PA = 0x4000_0000
RAM_PA = 0x4000_0000
PAGE, BLOCK = 1 << 12, 1 << 21
KERNEL_PAGES = 512 << 20 >> 12
MILLION = 1_000_000
TRANSLATIONS, SPEC_TRANSLATIONS, PEER_TRANSLATIONS = 1_000_000, 2_000, 50_000
KERNEL = leaf_attributes(uxn=True)
CROSSCHECK = ("user-tables", "kernel-tables")
LIVE_RUNS = 3


def median_s(runs: int, work: Callable[[], object]) -> float:
    """Seconds that some work takes, the first time left out."""
    times = []
    for _ in range(runs + 1):
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times[1:])


def linear_map(pages: int, *, pages_per_table: int = 512) -> TableBuilder:
    """A builder with the tables of that many pages at the start of the upper range, still without pages."""
    regime = derive(registers_for(granule_log2=12, txsz=16), VaRange.UPPER)
    if not isinstance(regime, Regime):
        raise SystemExit(f"scripts/bench tables: there is no such regime: {regime}")
    builder = TableBuilder(regime, ARENA_PA)
    for number in range(-(-pages // pages_per_table)):
        builder.descriptor_pa(builder.regime.lowest_va + number * BLOCK, 3)
    return builder


def last_level(builder: TableBuilder, tables: int) -> NDArray[np.intp]:
    """The places in the arena of the entries of its first last-level tables."""
    starts = [
        builder.descriptor_pa(builder.regime.lowest_va + number * BLOCK, 3) - ARENA_PA
        for number in range(tables)
    ]
    return (np.array(starts)[:, None] // 8 + np.arange(512)).reshape(-1)


def filled(builder: TableBuilder, pages: int) -> bytes:
    """The builder's memory with a linear map of that many pages."""
    arena = np.frombuffer(builder.arena, "<u8").copy()
    places = last_level(builder, -(-pages // 512))[:pages]
    arena[places] = RAM_PA + np.arange(pages, dtype=np.uint64) * np.uint64(PAGE) | np.uint64(KERNEL | 3)
    return arena.tobytes()


def kernel_table() -> tuple[Regime, bytes]:
    """Like a kernel's table: all RAM by pages, and blocks and small mappings elsewhere."""
    builder = linear_map(KERNEL_PAGES)
    high = builder.regime.lowest_va + (1 << 46)
    for number in range(16):
        builder.map(high + number * 37 * PAGE, 0x5000_0000 + number * 99 * PAGE, (1 + number % 5) * PAGE)
    builder.map(high + (1 << 32), 0x6000_0000, 8 * BLOCK, level=2)
    return builder.regime, filled(builder, KERNEL_PAGES)


def million_leaves() -> tuple[Regime, bytes]:
    """A linear map of a million pages."""
    builder = linear_map(MILLION)
    return builder.regime, filled(builder, MILLION)


def scattered_leaves() -> tuple[Regime, bytes]:
    """As many pages, in any half of the entries of twice the tables, to anywhere."""
    builder = linear_map(MILLION, pages_per_table=256)
    arena = np.frombuffer(builder.arena, "<u8").copy()
    rng = np.random.default_rng(1)
    places = last_level(builder, -(-MILLION // 256))
    places = np.sort(rng.permutation(places)[:MILLION])
    arena[places] = rng.integers(1 << 32, size=MILLION, dtype=np.uint64) * np.uint64(PAGE) | np.uint64(
        KERNEL | 3
    )
    return builder.regime, arena.tobytes()


def reader(memory: bytes) -> Callable[[int, int], bytes]:
    """The same memory, for the specification."""
    return lambda pa, size_bytes: memory[pa - ARENA_PA : pa - ARENA_PA + size_bytes]


def checked(regime: Regime, memory: bytes) -> tuple[Leaves, float]:
    """A table's leaves and the specification's seconds for them; ends the program where they differ."""
    start_s = time.perf_counter()
    spec = list(mappings(regime, reader(memory)))
    seconds = time.perf_counter() - start_s
    leaves = walk_all(regime, Ram(memory, ARENA_PA))
    if list(leaves) != [one for one in spec if isinstance(one, Mapping)] or len(leaves) != len(spec):
        raise SystemExit("scripts/bench tables: the leaves are not the specification's")
    return leaves, seconds


def random_addresses(leaves: Leaves, count: int) -> NDArray[np.uint64]:
    """Addresses anywhere in the pages of a table."""
    rng = np.random.default_rng(2)
    at = rng.integers(len(leaves), size=count)
    return leaves.va[at] + rng.integers(PAGE, size=count, dtype=np.uint64)


def sample_for_peers(regime: Regime, memory: bytes, leaves: Leaves) -> Sample:
    """Addresses whose pages hold the tables themselves: physical memory that a peer can read."""
    rng = np.random.default_rng(3)
    pas = np.uint64(ARENA_PA) + rng.integers(
        (len(memory) - PAGE) // 8, size=PEER_TRANSLATIONS, dtype=np.uint64
    ) * np.uint64(8)
    vas = np.uint64(regime.lowest_va) + (pas - np.uint64(RAM_PA))
    found, there = segments(leaves).translate(vas)
    if not there.all() or not np.array_equal(found, pas):
        raise SystemExit("scripts/bench tables: the linear map of the sample is not linear")
    return Sample(regime=regime, memory=memory, base_pa=ARENA_PA, vas=vas, pas=pas)


def translations(regime: Regime, memory: bytes, leaves: Leaves, runs: int) -> tuple[float, float]:
    """Translations per second in bulk, segments included, and by the specification."""
    vas = random_addresses(leaves, TRANSLATIONS)
    some = vas[:SPEC_TRANSLATIONS].tolist()
    read = reader(memory)
    outcomes = [walk(regime, read, va) for va in some]
    pas, found = segments(leaves).translate(some)
    wanted = [outcome.pa for outcome in outcomes if isinstance(outcome, Translation)]
    if not found.all() or pas.tolist() != wanted:
        raise SystemExit("scripts/bench tables: the translations are not the specification's")
    bulk_s = median_s(runs, lambda: segments(leaves).translate(vas))
    spec_s = median_s(min(runs, 5), lambda: [walk(regime, read, va) for va in some])
    return TRANSLATIONS / bulk_s, SPEC_TRANSLATIONS / spec_s


def crosscheck_s(kernels: tuple[str, ...]) -> dict[str, float]:
    """Seconds that the cross-check of both halves adds to a cell of each kernel, one cell after another."""
    checks = tuple(check for check in CHECKS if check.name in CROSSCHECK)
    seconds: dict[str, float] = {}
    with Cache() as cache:
        qemu, store = Qemu.find(), KernelStore(cache)
        with Guests(cache, qemu, cold=False, total_mib=guest_memory_mib()) as guests:
            bench = Bench(qemu=qemu, cache=cache, guest=MicroGuest(cache), guests=guests)
            for cell in plan(Request(kernels=kernels, accel=Accel.TCG, checks=checks), store, qemu).cells:
                times = []
                for _ in range(LIVE_RUNS):
                    result = run_cell(cell, store.get(cell.kernel), bench, lambda _: None)
                    if not result.verdict.is_pass:
                        found = f"{cell.id}: {result.verdict.value}: {result.reason}"
                        raise SystemExit(f"scripts/bench tables: {found}")
                    times.append(sum(one.duration_s for one in result.checks if one.name in CROSSCHECK))
                seconds[cell.kernel] = round(statistics.median(times), 3)
    return seconds


def measure(runs: int, live: tuple[str, ...]) -> dict[str, Any]:
    """All figures."""
    regime, memory = kernel_table()
    leaves, spec_s = checked(regime, memory)
    kernel_ram = Ram(memory, ARENA_PA)
    kernel_s = median_s(runs, lambda: walk_all(regime, kernel_ram))
    per_s, spec_per_s = translations(regime, memory, leaves, runs)
    peers = sample_for_peers(regime, memory, leaves)

    large, large_memory = million_leaves()
    large_ram = Ram(large_memory, ARENA_PA)
    large_s = median_s(runs, lambda: walk_all(large, large_ram))
    scattered, scattered_memory = scattered_leaves()
    scattered_ram = Ram(scattered_memory, ARENA_PA)
    scattered_s = median_s(runs, lambda: walk_all(scattered, scattered_ram))
    scattered_found = walk_all(scattered, scattered_ram)
    scattered_per_s, _ = translations(scattered, scattered_memory, scattered_found, min(runs, 5))
    return {
        "machine": f"{os.uname().machine}, {len(os.sched_getaffinity(0))} cores, NumPy {np.__version__}",
        "runs": runs,
        "kernel_leaves": len(leaves),
        "kernel_table_ms": round(kernel_s * 1e3, 3),
        "million_leaves_ms": round(large_s * 1e3, 2),
        "scattered_leaves_ms": round(scattered_s * 1e3, 2),
        "leaves_per_s": round(MILLION / large_s),
        "spec_leaves_per_s": round(len(leaves) / spec_s),
        "bulk_translations_per_s": round(per_s),
        "scattered_translations_per_s": round(scattered_per_s),
        "spec_translations_per_s": round(spec_per_s),
        "drgn_translations_per_s": _rounded(drgn_per_s(peers)),
        "addrxlat_translations_per_s": _rounded(addrxlat_per_s(peers)),
        "crosscheck_s": crosscheck_s(live) if live else None,
    }


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    table = Table(box=None, title=f"{figures['machine']}; medians of {figures['runs']}", title_justify="left")
    for title in ("", "in bulk", "by the specification", "times"):
        table.add_column(title, justify="right" if title else "left")
    for what, kind in (("leaves per second", "leaves"), ("translations per second", "translations")):
        bulk = figures["leaves_per_s" if kind == "leaves" else f"bulk_{kind}_per_s"]
        spec = figures[f"spec_{kind}_per_s"]
        table.add_row(what, f"{bulk:,}", f"{spec:,}", f"{bulk / spec:,.0f}")
    console = Console()
    console.print(table)
    kernel = f"a kernel's table of {figures['kernel_leaves']:,} leaves"
    console.print(f"{kernel}: {figures['kernel_table_ms']} ms")
    scattered = f"scattered over half-empty tables: {figures['scattered_leaves_ms']} ms"
    console.print(f"a million leaves: {figures['million_leaves_ms']} ms; {scattered}")
    console.print(f"translations of scattered leaves per second: {figures['scattered_translations_per_s']:,}")
    for peer, how in (("drgn", "pip install drgn"), ("addrxlat", "apt-get install libkdumpfile-dev")):
        per_s = figures[f"{peer}_translations_per_s"]
        if per_s is None:
            console.print(f"{peer}: not installed ({how})")
        else:
            times = figures["bulk_translations_per_s"] / per_s
            console.print(
                f"{peer}: {per_s:,} translations per second; in bulk we do {times:,.0f} times as many"
            )
    for kernel, seconds in (figures["crosscheck_s"] or {}).items():
        console.print(f"cross-check of a cell, {kernel}: {seconds} s")


@click.command()
@click.option("--runs", type=click.IntRange(min=1), default=15, show_default=True, help="Runs of each kind.")
@click.option("--live", default="", metavar="KERNEL,…", help="Boot these, for crosscheck_s.")
@as_json
def tables(runs: int, live: str, as_json: bool) -> None:
    """Whole translation tables in bulk, beside one at a time; drgn and libaddrxlat where installed."""
    printed(measure(runs, tuple(name for name in live.split(",") if name)), show, as_json)
