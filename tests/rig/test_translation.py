"""The model against QEMU's MMU and QEMU's debugger, on tables of our making, with no kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.check.disagreement import Faulted, Mapped
from harness.check.ledger import Ledger
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.qemu.probe import Qemu
from harness.rig.job import Job, Shape
from harness.rig.layout import ARENA_PA
from harness.rig.payload import build_payload
from harness.rig.plan import CPUS
from harness.rig.query import FETCHES, Operation, Query
from harness.rig.rig import Rig
from harness.rig.run import Tally, run_cpu
from harness.rig.scenario import make_job
from harness.vmsa import VaRange

SEED = 1
"""Any other finds as much; to be changed where a failure is to be looked for further."""
SHOWN = 20
FEWEST_ASKED = 2_000
"""Of each CPU model: one that was asked little shows nothing."""
PLAIN = Shape(12, 25, False, VaRange.LOWER)


@pytest.fixture(scope="module")
def payload() -> Path:
    """The rig's payload, from the cache."""
    with Cache() as cache:
        return build_payload(Toolchain.find(), cache)


def test_model_agrees_and_ledger_is_not_stale(payload: Path, qemu: Qemu) -> None:
    """On every CPU model of the plan, every answer is the model's or explained, and every entry explains one.

    One test, because whether an entry is stale can only be said after all of the answers.
    """
    ledger = Ledger.load()
    total = Tally()
    asked: dict[str, int] = {}
    for cpu in CPUS:
        found = run_cpu(payload, qemu, cpu, SEED, ledger)
        asked[cpu] = found.asked
        total.add(found)
    shown = "\n".join(total.unexplained[:SHOWN])
    assert not total.unexplained, f"QEMU {qemu.version_text}: {total}\n{shown}"
    stale = [entry.id for entry in ledger.stale(qemu.version, total.explained)]
    assert not stale, f"QEMU {qemu.version_text}: these entries of the ledger explain nothing: {stale}"
    assert min(asked.values()) > FEWEST_ASKED, asked
    assert total.asked > 50_000


def test_one_machine_takes_many_commands(payload: Path, qemu: Qemu) -> None:
    """Regimes follow each other in one machine: both ranges, both byte orders, and the first one again."""
    with Rig(payload, qemu, cpu="cortex-a57", deadline=Deadline.after(30)) as rig:
        jobs = [
            make_job(replace(PLAIN, va_range=va_range), rig.id_registers, seed)
            for seed in range(12)
            for va_range in VaRange
        ]
        assert {job.is_big_endian for job in jobs} == {False, True}
        first = [rig.run([job])[0] for job in jobs]
        assert [rig.run([job])[0] for job in jobs] == first


def test_faults_reach_the_host(payload: Path, qemu: Qemu) -> None:
    """A table that is not there is reported as the exception it is, with the walk's level; EL0 is EL0."""
    with Rig(payload, qemu, cpu="cortex-a57", deadline=Deadline.after(30)) as rig:
        job = _any_job(rig)
        asked = (Query(0, Operation.S1E1R), Query(0, Operation.FETCH_EL0), Query(0, Operation.FETCH_EL1))
        (answers,) = rig.run([replace(job, arena=bytes(len(job.arena)), queries=asked)])
        start = job.regime.start_level  # type: ignore[union-attr]
        code = 0b000100 | start  # Arm ARM D24.2, PAR_EL1.FST: translation fault
        assert answers == (Faulted(fsc=code), Faulted(fsc=code, taken=True), Faulted(fsc=code, taken=True))


def test_payload_that_is_stuck(payload: Path, qemu: Qemu, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose code is not mapped ends in an error that says where the payload is, and why."""
    with Rig(payload, qemu, cpu="cortex-a57", deadline=Deadline.after(30)) as rig:
        job = _any_job(rig)
        monkeypatch.setattr("harness.rig.job.home_ttbr", lambda **_: ARENA_PA + 0x80_0000)
        with pytest.raises(DeadlineExceeded, match=r"job 1 of 1: pc 0x.*ESR_EL1 0x86"):
            rig.run([job], Deadline.after(1))


def test_fetches_find_an_instruction(payload: Path, qemu: Qemu) -> None:
    """Fetches succeed, at both exception levels, and so do tell execute permission from its absence."""
    with Rig(payload, qemu, cpu="neoverse-n1", deadline=Deadline.after(30)) as rig:
        jobs = [make_job(PLAIN, rig.id_registers, seed) for seed in range(8)]
        answered = [
            (query.operation, answer)
            for job in jobs
            for query, answer in zip(job.queries, rig.run([job])[0], strict=True)
        ]
    found = {operation for operation, answer in answered if answer == Mapped(pa=None)}
    assert found == set(FETCHES)


def _any_job(rig: Rig) -> Job:
    return make_job(PLAIN, rig.id_registers, SEED)
