"""Tests of harness.rig.job, home and layout: what the payload is given."""

from __future__ import annotations

import itertools
import struct
from dataclasses import replace

import pytest

from harness.rig.home import UPPER_ALIAS, home_tables
from harness.rig.job import Job, Shape, sctlr_word
from harness.rig.layout import CODE_PA, DATA_BYTES, DATA_PA, DEFINES, MAILBOX_PA, JobRecord
from harness.rig.query import Query
from harness.rig.scenario import make_job
from harness.vmsa import Access, AccessKind, Bank, Registers, Translation, VaRange, derive_both, walk
from harness.vmsa.regime import Regimes

QUERIES_PA, RESULTS_PA = DATA_PA + 0x2_0000, DATA_PA + 0x3_0000


def _jobs(cpu: Registers, va_range: VaRange, *, big_endian: bool) -> list[Job]:
    made = (make_job(Shape(14, 48, False, va_range), cpu, seed) for seed in itertools.count())
    return list(itertools.islice((job for job in made if job.is_big_endian is big_endian), 3))


def _regimes(job: Job, record: JobRecord, *, entry: bool) -> Regimes:
    bank = Bank(
        tcr=record.entry_tcr if entry else record.tcr,
        ttbr0=record.entry_ttbr0 if entry else record.ttbr0,
        ttbr1=record.entry_ttbr1 if entry else record.ttbr1,
        mair=record.mair,
        sctlr=record.sctlr,
    )
    regimes = derive_both(replace(job.registers, el1=bank))
    assert isinstance(regimes, Regimes)
    return regimes


def _home(pa: int, size_bytes: int) -> bytes | None:
    for base, data in home_tables():
        if 0 <= pa - base <= len(data) - size_bytes:
            return data[pa - base : pa - base + size_bytes]
    return None


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("va_range", VaRange)
def test_home_maps_the_payload(max_cpu: Registers, va_range: VaRange, big_endian: bool) -> None:
    """Code can be run and not written, data be read and written, at EL1, on entry and under test alike."""
    jobs = _jobs(max_cpu, va_range, big_endian=big_endian)
    wanted = {CODE_PA + 0x8_0000: {"READ", "EXECUTE"}, MAILBOX_PA: {"READ", "WRITE"},
              DATA_PA + DATA_BYTES - 8: {"READ", "WRITE"}}  # fmt: skip
    for job in jobs:
        record = job.record(QUERIES_PA, RESULTS_PA)
        for entry in (True, False):
            regimes = _regimes(job, record, entry=entry)
            for pa, rights in wanted.items():
                for kind in AccessKind:
                    outcome = walk(regimes, _home, record.alias | pa, Access(kind=kind, el=1, pan=True))
                    assert (isinstance(outcome, Translation) and outcome.pa == pa) is (kind.name in rights)


@pytest.mark.parametrize("va_range", VaRange)
def test_both_ranges_are_homes_on_entry(max_cpu: Registers, va_range: VaRange) -> None:
    """The MMU is turned on and off where the code's addresses are physical ones, whatever is under test."""
    for job in _jobs(max_cpu, va_range, big_endian=False):
        regimes = _regimes(job, job.record(QUERIES_PA, RESULTS_PA), entry=True)
        fetch = Access(kind=AccessKind.EXECUTE, el=1)
        outcome = walk(regimes, _home, CODE_PA, fetch)
        assert isinstance(outcome, Translation)
        assert outcome.pa == CODE_PA


@pytest.mark.parametrize("va_range", VaRange)
def test_what_is_under_test_is_the_jobs(max_cpu: Registers, va_range: VaRange) -> None:
    """The range under test is ruled by the registers that the model is given."""
    for job in _jobs(max_cpu, va_range, big_endian=False):
        regimes = _regimes(job, job.record(QUERIES_PA, RESULTS_PA), entry=False)
        assert (regimes.lower if va_range is VaRange.LOWER else regimes.upper) == job.regime


def test_the_alias_is_of_the_home(max_cpu: Registers) -> None:
    """Addresses that the payload uses under test are the home's: upper where the lower range is tested."""
    for va_range, alias in ((VaRange.LOWER, UPPER_ALIAS), (VaRange.UPPER, 0)):
        record = make_job(Shape(12, 25, False, va_range), max_cpu, 1).record(QUERIES_PA, RESULTS_PA)
        assert (record.alias, record.queries, record.results) == (
            alias,
            alias | QUERIES_PA,
            alias | RESULTS_PA,
        )


def test_a_record_is_where_the_payload_reads_it() -> None:
    """Each field is at the offset that the payload is assembled with."""
    names = tuple(JobRecord.__dataclass_fields__)
    data = JobRecord(**{name: number for number, name in enumerate(names)}).pack()
    assert len(data) == DEFINES["JOB_BYTES"]
    for number, name in enumerate(names):
        assert struct.unpack_from("<Q", data, DEFINES[f"JOB_{name.upper()}"]) == (number,)


@pytest.mark.parametrize(("big_endian", "order"), [(False, "little"), (True, "big")])
def test_queries_and_results_have_the_regimes_order(max_cpu: Registers, big_endian: bool, order: str) -> None:
    """SCTLR_EL1.EE turns data around as well as tables."""
    job = _jobs(max_cpu, VaRange.LOWER, big_endian=big_endian)[0]
    job = replace(job, queries=job.queries[:1])
    (query,) = job.queries
    data = job.packed_queries()
    assert isinstance(query, Query)
    assert data[:8] == query.va.to_bytes(8, order)  # type: ignore[arg-type]
    assert job.unpacked_results(data) == ((query.va, query.operation.value),)


def test_sctlr() -> None:
    """The MMU, caches and SPAN are on; WXN, EPAN and EE are where the manual puts them."""
    assert sctlr_word() & (1 << 23 | 1 << 12 | 1 << 2 | 1) == (1 << 23 | 1 << 12 | 1 << 2 | 1)
    assert sctlr_word(wxn=True, epan=True, big_endian=True) ^ sctlr_word() == 1 << 19 | 1 << 57 | 1 << 25
