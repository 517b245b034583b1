"""Benchmarks of real kernels: they count the same each time, and find what a patch costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.bench.compare import Comparison, compare
from harness.bench.files import build_plugin, guest_files
from harness.bench.guest_output import EMPTY, Outcome
from harness.bench.held import HELD_VA
from harness.bench.measure import KERNEL_WORDS, Guest, run_guest
from harness.bench.reasons import reasons_for
from harness.bench.result import Result, load_results
from harness.bench.run import Plan, measure_all
from harness.bench.shape import due_shape
from harness.cli.bench import bench as bench_command
from harness.determinism.conditions import Conditions
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.kernels.trees.patches import read_series
from harness.matrix.cell import Request
from harness.matrix.plan import plan
from harness.matrix.run import Bench
from harness.spec import Accel, PageSize

HERE = Path(__file__).parent
FORK_MORE = 200
CALLS = ("getpid", "dup", "clock_gettime", "signal")


@pytest.fixture(autouse=True)
def _repeating_qemu(granule_bench: Bench) -> None:
    """Skips with a QEMU under which runs part after the first stop: see docs/determinism.md."""
    if granule_bench.qemu.version[0] > 7:
        pytest.skip(f"runs do not repeat with QEMU {granule_bench.qemu.version_text}: QEMU 7.2 is needed")


def _guest(
    name: str, kernel: Kernel, bench: Bench, store: KernelStore, benchmarks: tuple[str, ...] = ()
) -> Guest:
    request = Request(
        kernels=(name,), accel=Accel.TCG, vcpus=1, checks=(), exact=(Conditions.of(None),),
        cmdline=KERNEL_WORDS,
    )  # fmt: skip
    (cell,) = plan(request, store, bench.qemu).cells
    return Guest(cell=cell, kernel=kernel, files=guest_files(bench.cache), names=benchmarks)


def _measured(guests: tuple[Guest, ...], bench: Bench) -> tuple[Result, ...]:
    wanted = Plan(guests=guests, plugin=build_plugin(bench.cache))
    return measure_all(wanted, bench, jobs=2, say=lambda _line: None)


@pytest.mark.parametrize("kernel", ["trimmed-4k", "trimmed-16k", "trimmed-64k"])
def test_three_runs_count_the_same(granule_bench: Bench, granule_kernels: KernelStore, kernel: str) -> None:
    """Three runs give the same counts for every sample of every benchmark, one of them under the plugin."""
    guest = _guest(kernel, granule_kernels.get(kernel), granule_bench, granule_kernels)
    (result,) = _measured((guest,), granule_bench)
    assert result.verified
    reasons = {row.samples.name: row.no_number for row in result.rows if row.no_number}
    # A huge page of one PMD entry is 32 MiB at 16K, and 512 MiB at 64K.
    allowed = {"fault-thp"} if result.page_size is PageSize.K64 else set()
    assert reasons.keys() <= allowed, reasons
    again = {one.name: one for one in run_guest(guest, granule_bench).output.benchmarks}
    assert again == {row.samples.name: row.samples for row in result.rows}
    assert result.shape == due_shape(result.page_size, HELD_VA, result.large_bytes)
    # The plugin saw what the counter counted, but for instructions that were repeated after a fault.
    for row in result.rows:
        if row.samples.outcome is Outcome.OK:
            assert row.profile is not None
            assert row.profile.kernel > 0 or row.samples.name in (EMPTY, "clock_gettime")


@pytest.fixture(scope="module")
def patched(granule_bench: Bench, granule_kernels: KernelStore) -> tuple[Comparison, Comparison]:
    """The 64K kernel with 200 instructions more for a fork, and with a comment more, against it as it is."""
    name = "trimmed-64k"
    tree = granule_kernels.source_of(name).path
    base = _guest(name, granule_kernels.get(name), granule_bench, granule_kernels)
    guests = [base]
    for patch in ("fork-200.patch", "fork-0.patch"):
        made = granule_kernels.build_tree(name, tree, read_series(HERE / patch)).kernel
        guests.append(_guest(str(made.image), made, granule_bench, granule_kernels))
    results = _measured(tuple(guests), granule_bench)
    return compare(results[0], results[1]), compare(results[0], results[2])


@pytest.mark.parametrize("kernel", ["trimmed-64k"])
def test_a_patch_is_counted(patched: tuple[Comparison, Comparison], kernel: str) -> None:
    """200 instructions more in each fork are 200 more of a fork, in the function that they are in."""
    assert kernel == patched[0].base.label
    assert patched[0].headlines == (), "one compiler, one configuration"
    more = {one.name: one.more for one in patched[0].differences}
    assert more["fork"] == FORK_MORE
    reasons = reasons_for(patched[0].base, patched[0].other, "fork")
    assert reasons is not None
    assert [(part.name, part.more) for part in reasons.functions] == [("kernel_clone", FORK_MORE)]
    assert {name: more[name] for name in CALLS} == dict.fromkeys(CALLS, 0)


@pytest.mark.parametrize("kernel", ["trimmed-64k"])
def test_no_change_is_no_difference(patched: tuple[Comparison, Comparison], kernel: str) -> None:
    """A kernel that was built again with a comment more differs in no benchmark, by not one instruction."""
    assert kernel == patched[1].base.label
    assert patched[1].headlines == ()
    differing = {one.name: one.more for one in patched[1].differences if one.more}
    assert differing == {}


@pytest.mark.parametrize("kernel", ["trimmed-64k"])
def test_the_command(kernel: str, tmp_path: Path) -> None:
    """`granule bench` writes its report, prints numbers, and keeps them for `trend`."""
    history = tmp_path / "history"
    words = ["--kernel", kernel, "--only", "getpid", "--no-functions", "--report", str(tmp_path / "report")]
    done = CliRunner().invoke(bench_command, [*words, "--history", str(history)])
    assert done.exit_code == 0, done.output
    assert "Instructions, not time" in done.output
    (result,) = load_results(tmp_path / "report/bench.json")
    assert result.names == ("getpid",)
    assert "<script" not in (tmp_path / "report/bench.html").read_text()
    assert json.loads(history.read_text())["values"] == {"getpid": result.value("getpid")}
    trend = CliRunner().invoke(bench_command, ["trend", str(history)])
    assert trend.exit_code == 0
    assert "getpid" in trend.output
