"""Tests of harness.rig.scenario and harness.rig.tables: what a random job holds."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from harness.rig.job import Job, Shape
from harness.rig.layout import HOLE_PA, SVC_BYTES, SVC_PA
from harness.rig.query import FETCHES, Operation, Query
from harness.rig.scenario import has_top_level, make_job, top_block_job
from harness.vmsa import Fault, FaultKind, Regime, Registers, Translation, VaRange

SHAPES = [
    Shape(granule_log2, txsz, ds, va_range)
    for granule_log2, txsz, ds in (
        (12, 12, True),
        (12, 25, False),
        (14, 48, False),
        (14, 13, True),
        (16, 12, False),
    )
    for va_range in VaRange
]
SEEDS = range(5)
Outcomes = tuple[tuple[Job, Query, Translation | Fault], ...]


@functools.cache
def _outcomes(cpu: Registers) -> Outcomes:
    """Every query of a few jobs of every shape, and what the model answers."""
    made = [make_job(shape, cpu, seed) for shape in SHAPES for seed in SEEDS]
    return tuple(
        (job, query, job.outcome(query, regime))
        for job, regime in ((job, job.regime) for job in made)
        for query in job.queries
    )


def test_same_seed_same_job(max_cpu: Registers) -> None:
    """A seed makes the same job again; another seed another."""
    assert make_job(SHAPES[0], max_cpu, 7) == make_job(SHAPES[0], max_cpu, 7)
    assert make_job(SHAPES[0], max_cpu, 7).arena != make_job(SHAPES[0], max_cpu, 8).arena


def test_every_outcome_is_met(max_cpu: Registers) -> None:
    """Jobs meet every kind of fault that stage 1 has, translations at every level, and each operation."""
    kinds: Counter[FaultKind] = Counter()
    levels: Counter[tuple[int, int]] = Counter()
    operations: Counter[Operation] = Counter()
    for job, query, outcome in _outcomes(max_cpu):
        operations[query.operation] += 1
        if isinstance(outcome, Fault):
            kinds[outcome.kind] += 1
        else:
            levels[job.shape.granule_log2, outcome.level] += 1
    assert set(kinds) == set(FaultKind) - {FaultKind.ALIGNMENT}
    legal = {(12, 0), (12, 1), (12, 2), (12, 3), (14, 1), (14, 2), (14, 3), (16, 1), (16, 2), (16, 3)}
    assert set(levels) == legal
    assert set(operations) == set(Operation)


def test_nothing_walks_into_a_device(max_cpu: Registers) -> None:
    """Every descriptor address of the model's walks is in the job's tables or where nothing is."""
    for job, _, outcome in _outcomes(max_cpu):
        for step in outcome.chain:
            assert step.pa >= HOLE_PA or job.memory(step.pa, 8) is not None


def test_fetches_that_succeed_find_an_svc(max_cpu: Registers) -> None:
    """What the model says can be executed is an SVC: nothing else of the guest's memory is run."""
    fetched = 0
    for _, query, outcome in _outcomes(max_cpu):
        if query.operation in FETCHES and isinstance(outcome, Translation):
            assert SVC_PA <= outcome.pa < SVC_PA + SVC_BYTES
            fetched += 1
    assert fetched > 50


def test_queries_are_of_the_range_under_test(max_cpu: Registers) -> None:
    """No query is for the other range, which is the payload's own."""
    for job, query, _ in _outcomes(max_cpu):
        assert VaRange.of(query.va) is job.shape.va_range


def test_small_start_tables_move(max_cpu: Registers) -> None:
    """First tables smaller than a page are found at many places within one."""
    offsets = {
        regime.table_pa % 4096
        for seed in SEEDS
        if isinstance(regime := make_job(SHAPES[0], max_cpu, seed).regime, Regime)
    }
    assert len(offsets) > 1


def test_blocks_at_the_top_can_be_left_out(max_cpu: Registers) -> None:
    """On request no block is at level -1, and the job made for that has one."""
    shape = Shape(12, 12, True, VaRange.LOWER)

    def has_block(job: Job) -> bool:
        regime = job.regime
        chains = (job.outcome(query, regime).chain for query in job.queries)
        return any(chain[0].word is not None and chain[0].word & 3 == 1 for chain in chains if chain)

    seeds = range(3)
    assert any(has_block(make_job(shape, max_cpu, seed)) for seed in seeds)
    assert not any(has_block(make_job(shape, max_cpu, seed, blocks_at_top=False)) for seed in seeds)
    assert has_block(top_block_job(max_cpu, 1))


def test_levels_of_a_cpu_without_lpa2(max_cpu: Registers, a57: Registers) -> None:
    """Only FEAT_LPA2 gives tables a level -1."""
    assert has_top_level(max_cpu)
    assert not has_top_level(a57)
    with pytest.raises(ValueError, match="level -1"):
        top_block_job(a57, 1)
