"""A run of the rig on one CPU model: every job, asked and judged against the model and the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.check.disagreement import Answer, Died, Disagreement, Oracle
from harness.check.ledger import Ledger
from harness.deadline import Deadline
from harness.errors import QemuDied
from harness.qemu.probe import Qemu
from harness.rig.job import Job
from harness.rig.judge import agrees
from harness.rig.plan import EXHAUSTIVE_CPU, batches, shapes_of
from harness.rig.query import Operation, Query
from harness.rig.rig import Rig
from harness.rig.scenario import has_top_level, top_block_job
from harness.vmsa import Fault, Regime

__all__ = ["Tally", "run_cpu"]

DEBUG_WALKED: Final = 16
"""Jobs of a run whose tables QEMU's debugger walks, too; each of its answers takes a millisecond."""
BLOCK_AT_TOP: Final = "illegal_block_above_level_0_kills"
DEADLINE_S: Final = 600.0
"""Ends what hangs; a run takes seconds."""


@dataclass(slots=True)
class Tally:
    """What a run asked and found; grows as it goes."""

    asked: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    """Disagreements by the id of the ledger's entry that explains them."""
    unexplained: list[str] = field(default_factory=list)
    """The others, in words, with what makes the job again."""

    def add(self, other: Tally) -> None:
        """Take in what another run found."""
        self.asked += other.asked
        self.explained += other.explained
        self.unexplained += other.unexplained

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.explained.most_common()) or "none"
        return f"{self.asked} answers, {len(self.unexplained)} unexplained; explained: {counts}"


def run_cpu(payload: Path, qemu: Qemu, cpu: str, seed: int, ledger: Ledger) -> Tally:
    """Put every shape that suits a CPU model to the test; raises as `Rig` does."""
    judge = _Judge(cpu, qemu, ledger)
    deadline = Deadline.after(DEADLINE_S)
    with Rig(payload, qemu, cpu=cpu, deadline=deadline) as rig:
        shapes = shapes_of(rig.id_registers, exhaustive=cpu == EXHAUSTIVE_CPU)
        walked = {shapes[index] for index in range(0, len(shapes), max(1, len(shapes) // DEBUG_WALKED))}
        spare_top = not ledger.covers(BLOCK_AT_TOP, qemu.version)
        for batch in batches(shapes, rig.id_registers, seed, blocks_at_top=spare_top):
            for job, answers in zip(batch, rig.run(batch), strict=True):
                judge.take(job, job.queries, answers, Oracle.MMU)
            for job in batch:
                if job.shape in walked:
                    judge.take(job, _as_debugger(job), rig.debug_walk(job), Oracle.DEBUG_WALK)
        has_top = has_top_level(rig.id_registers)
        top = top_block_job(rig.id_registers, seed) if has_top else None
    if top is not None:
        judge.take(top, top.queries, _risky(payload, qemu, cpu, top, deadline), Oracle.MMU)
    return judge.tally


def _as_debugger(job: Job) -> Sequence[Query]:
    """A debug walk is judged as a load by the vCPU as it is, at EL1, and asked once for each address."""
    return [Query(va, Operation.S1E1R) for va in dict.fromkeys(query.va for query in job.queries)]


def _risky(payload: Path, qemu: Qemu, cpu: str, job: Job, deadline: Deadline) -> Sequence[Answer]:
    """The answers to a job that may be the end of its QEMU."""
    with Rig(payload, qemu, cpu=cpu, deadline=deadline) as rig:
        try:
            return rig.run([job])[0]
        except QemuDied as error:
            return [Died(str(error))] * len(job.queries)


class _Judge:
    def __init__(self, cpu: str, qemu: Qemu, ledger: Ledger) -> None:
        self.tally = Tally()
        self._cpu, self._qemu, self._ledger = cpu, qemu, ledger

    def take(self, job: Job, queries: Sequence[Query], answers: Iterable[Answer], oracle: Oracle) -> None:
        regime = job.regime
        for query, answer in zip(queries, answers, strict=True):
            self.tally.asked += 1
            self._judge(job, regime, query, answer, oracle)

    def _judge(self, job: Job, regime: Regime | Fault, query: Query, answer: Answer, oracle: Oracle) -> None:
        access = query.operation.access
        outcome = job.outcome(query, regime)
        if agrees(regime, outcome, access, answer):
            return
        case = Disagreement(
            va=query.va, access=access, registers=job.registers, regime=regime, outcome=outcome,
            answer=answer, oracle=oracle,
        )  # fmt: skip
        known = self._ledger.explain(case, self._qemu.version)
        if known is None:
            self.tally.unexplained.append(f"-cpu {self._cpu}, {job}: {case}")
        else:
            self.tally.explained[known.id] += 1
