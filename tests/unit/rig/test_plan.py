"""Tests of harness.rig.plan: that the plan is complete, by the manual's tables."""

from __future__ import annotations

import pytest

from harness.rig.layout import ARENA_PA, RAM_END_PA
from harness.rig.plan import batches, shapes_of
from harness.rig.rig import BATCH_LIMIT
from harness.vmsa import AddressFormat, Regime, Registers, VaRange

# Arm ARM DDI 0487, D8.2.4 to D8.2.10, stage 1 with FEAT_TTST and 52-bit addresses: start levels of a granule
# without and with DS (4K and 16K), and with FEAT_LVA (64K).
START_LEVELS = {
    (12, False): {0, 1, 2, 3},
    (12, True): {-1, 0, 1, 2, 3},
    (14, False): {0, 1, 2, 3},
    (14, True): {0, 1, 2, 3},
    (16, False): {1, 2, 3},
}
LEGAL_TXSZ = {
    (12, False): range(16, 49),
    (12, True): range(12, 49),
    (14, False): range(16, 49),
    (14, True): range(12, 49),
    (16, False): range(12, 48),
}


@pytest.mark.parametrize("va_range", VaRange)
@pytest.mark.parametrize(("granule_log2", "ds"), START_LEVELS)
def test_every_legal_size_on_max(max_cpu: Registers, granule_log2: int, ds: bool, va_range: VaRange) -> None:
    """On the model with every feature, every legal TxSZ is tested, and one beyond each end."""
    sizes = {
        shape.txsz
        for shape in shapes_of(max_cpu, exhaustive=True)
        if (shape.granule_log2, shape.ds, shape.va_range) == (granule_log2, ds, va_range)
    }
    legal = LEGAL_TXSZ[granule_log2, ds]
    assert sizes == {legal.start - 1, *legal, legal.stop}


@pytest.mark.parametrize("exhaustive", [True, False])
def test_every_start_level_and_format(max_cpu: Registers, exhaustive: bool) -> None:
    """Every start level and output address format of each granule is tested in both ranges."""
    shapes = shapes_of(max_cpu, exhaustive=exhaustive)
    jobs = [job for batch in batches(shapes, max_cpu, 1) for job in batch]
    levels: dict[tuple[int, bool, VaRange], set[int]] = {}
    formats = set()
    for job in jobs:
        regime = job.regime
        if isinstance(regime, Regime):
            key = (job.shape.granule_log2, job.shape.ds, job.shape.va_range)
            levels.setdefault(key, set()).add(regime.start_level)
            formats.add((job.shape.granule_log2, regime.address_format, job.shape.va_range))
    assert levels == {(*key, va_range): found for key, found in START_LEVELS.items() for va_range in VaRange}
    wide = {12: AddressFormat.LPA2, 14: AddressFormat.LPA2, 16: AddressFormat.LPA}
    narrow = {(granule, AddressFormat.PA48) for granule in (12, 14)}  # with LPA, 64K has one format
    assert formats == {(*one, va_range) for one in {*wide.items(), *narrow} for va_range in VaRange}


def test_a_cpu_without_16k(a57: Registers) -> None:
    """A CPU is asked for its granules only, within its sizes, with DS too, which it ignores."""
    shapes = shapes_of(a57, exhaustive=True)
    assert {shape.granule_log2 for shape in shapes} == {12, 16}
    assert {shape.txsz for shape in shapes} == set(range(15, 41))
    assert {shape.ds for shape in shapes} == {False, True}


def test_batches_fit(max_cpu: Registers) -> None:
    """Every shape has its job, in order, and no batch is too long, too large or overlaps itself."""
    shapes = shapes_of(max_cpu, exhaustive=False)
    made = list(batches(shapes, max_cpu, 3))
    assert [job.shape for batch in made for job in batch] == list(shapes)
    for batch in made:
        assert len(batch) <= BATCH_LIMIT
        end_pa = ARENA_PA
        for job in batch:
            assert job.arena_pa >= end_pa
            end_pa = job.arena_pa + len(job.arena)
        assert end_pa <= RAM_END_PA
