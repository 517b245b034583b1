"""A live guest, its saved snapshot, and the cores and dumps that QEMU writes of it, are walked alike."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from harness.bulk import Leaves, Reads, walk_all
from harness.deadline import Deadline
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.frozen import Frozen
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.snapshot import Snapshot, is_trampoline, kernel_regime, load, open_snapshot, save, user_regime
from harness.spec import Accel
from harness.vmsa import Regime, Registers, VaRange, derive

DOC = Path(__file__).parents[2] / "docs" / "snapshots.md"
DUMP_S = 120.0
TRIES = 200
TTBR_BADDR = (1 << 48) - 2


@contextmanager
def _in_kernel(subject: Subject) -> Iterator[tuple[Frozen, Snapshot]]:
    """The guest, stopped while vCPU 0 was not in EL0."""
    for _ in range(TRIES):
        with subject.machine.frozen() as frozen:
            snapshot = frozen.snapshot("live")
            if snapshot.vcpus[0].el != 0:
                yield frozen, snapshot
                return
    raise AssertionError(f"vCPU 0 was in EL0 {TRIES} times")


def _kernel_leaves(snapshot: Snapshot) -> Leaves:
    leaves = walk_all(kernel_regime(snapshot), snapshot.tables())
    assert len(leaves) > 1000
    return leaves


def _same(one: Leaves, other: Leaves) -> None:
    """Equal leaves and equally odd: addresses, levels, descriptors and what tables hand down."""
    assert len(one.anomalies) == len(other.anomalies)
    for column in ("va", "pa", "level", "word", "inherited"):
        assert np.array_equal(getattr(one, column), getattr(other, column)), column


def test_saved_and_loaded(subject: Subject, tmp_path: Path) -> None:
    """A saved snapshot has the registers of the live guest and maps what it maps, in both halves."""
    path = tmp_path / "guest.snapshot"
    with _in_kernel(subject) as (_, live):
        kernel = _kernel_leaves(live)
        process = walk_all(user_regime(live), live.tables())
        by_reads = walk_all(kernel_regime(live), Reads(live.read))
        save(live, path)
    _same(kernel, by_reads)
    with load(path, verify_memory=True) as loaded:
        assert [dict(one.registers) for one in loaded.vcpus] == [dict(one.registers) for one in live.vcpus]
        _same(_kernel_leaves(loaded), kernel)
        _same(walk_all(user_regime(loaded), loaded.tables()), process)
    assert path.stat().st_blocks * 512 < subject.machine.spec.memory_mib << 20


def test_core_and_flat_dump(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of QEMU's core and flat dump, which have no system registers, the kernel maps what it maps live."""
    core, flat = tmp_path / "guest.core", tmp_path / "guest.flat"
    with _in_kernel(subject) as (frozen, live):
        kernel, regime = _kernel_leaves(live), kernel_regime(live)
        pcs = [one.registers["pc"] for one in live.vcpus]
        ram_bytes = subject.machine.spec.memory_mib << 20
        frozen.qmp.execute("dump-guest-memory", Deadline.after(DUMP_S), paging=False, protocol=f"file:{core}")
        frozen.qmp.execute(
            "pmemsave", Deadline.after(DUMP_S), val=RAM_BASE_PA, size=ram_bytes, filename=str(flat)
        )
    for path in (core, flat):
        with open_snapshot(path) as dumped:
            _same(_kernel_leaves(dumped), kernel)
            found = kernel_regime(dumped)
            assert (found.mair & (1 << 40) - 1, found.iasize_bits, found.ha) == (
                regime.mair & (1 << 40) - 1, regime.iasize_bits, regime.ha
            )  # fmt: skip
    flat.unlink()
    with open_snapshot(core) as dumped:
        assert [one.registers["pc"] for one in dumped.vcpus] == pcs
        assert [one.el for one in dumped.vcpus] == [one.el for one in live.vcpus]
    (code,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})  # noqa: S102 - our own documentation
    assert printed.getvalue().startswith("Translation(")
    core.unlink()


def _stopped_everywhere(subject: Subject, evidence: Evidence) -> None:
    """The kernel's tables are found in a guest with KPTI while every vCPU is in EL0."""
    with _in_kernel(subject) as (_, live):
        # The reference: what the kernel itself runs on.
        swapper_pa = live.vcpus[0].registers["TTBR1_EL1"] & TTBR_BADDR
    subject.sh("for i in 1 2 3 4; do (while :; do :; done) & done")
    for _ in range(TRIES):
        with subject.machine.frozen() as frozen:
            snapshot = frozen.snapshot()
            if any(one.el != 0 for one in snapshot.vcpus):
                continue
            for one in snapshot.vcpus:
                own = derive(Registers.from_names(one.registers), VaRange.UPPER)
                assert isinstance(own, Regime)
                evidence.holds(
                    "TTBR1 in EL0", is_trampoline(own, snapshot), wanted="tramp_pg_dir", seen=f"{own}"
                )
            evidence.equal("swapper_pg_dir", swapper_pa, kernel_regime(snapshot).table_pa)
            evidence.holds("leaves", len(_kernel_leaves(snapshot)) > 1000, wanted="many", seen="few")
            notes = kernel_regime(snapshot).notes
            said = any("trampoline" in note for note in notes)
            evidence.holds("notes", said, wanted="the trampoline named", seen=f"{notes}")
            return
    evidence.holds("vCPUs", False, wanted="all in EL0 at once", seen=f"never in {TRIES} stops")


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k"])
def test_stopped_in_user_space_under_kpti(
    granule_bench: Bench, granule_kernels: KernelStore, kernel: str
) -> None:
    """With every vCPU on the trampoline's tables the kernel's are found, and are those it runs on."""
    check = Check(run=_stopped_everywhere)
    request = Request(kernels=(kernel,), accel=Accel.TCG, checks=(check,), cmdline="kpti=on")
    (cell,) = plan(request, granule_kernels, granule_bench.qemu).cells
    result = run_cell(cell, granule_kernels.get(kernel), granule_bench, lambda _: None)
    assert result.verdict.is_pass, result
    assert result.checks[0].expectations >= 4
