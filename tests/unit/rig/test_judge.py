"""Tests of harness.rig.judge: what counts as the same answer."""

from __future__ import annotations

import pytest

from harness.check.disagreement import Answer, Died, Faulted, Mapped, Unmapped
from harness.rig.judge import agrees
from harness.vmsa import (
    Access,
    AccessKind,
    Regime,
    TableBuilder,
    VaRange,
    derive,
    leaf_attributes,
    registers_for,
    walk,
)

VA, PA = 0x1234_5678, 0x4000_0678
MAIR = 0x40_F0_44_04_FF
LOAD, FETCH = Access(kind=AccessKind.READ, el=1), Access(kind=AccessKind.EXECUTE, el=1)


def _agrees(
    answer: Answer, *, attr_indx: int = 0, sh: int = 3, valid: bool = True, access: Access = LOAD
) -> bool:
    regime = derive(registers_for(granule_log2=12, txsz=25, mair=MAIR), VaRange.LOWER)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, 0x8000_0000)
    if valid:
        attributes = leaf_attributes(attr_indx=attr_indx, sh=sh)
        builder.map(VA & ~0xFFF, PA & ~0xFFF, 4096, attributes=attributes)
    return agrees(regime, walk(builder.regime, builder.read, VA, access), access, answer)


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        (Mapped(pa=0x4000_0000, attr=0xFF, sh=3), True),
        (Mapped(pa=0x4000_1000, attr=0xFF, sh=3), False),
        (Mapped(pa=0x4000_0000, attr=0x44, sh=3), False),
        (Mapped(pa=0x4000_0000, attr=0xFF, sh=2), False),
        (Mapped(pa=PA), True),
        (Mapped(pa=PA - 1), False),
        (Mapped(pa=None), True),
        (Unmapped(), False),
        (Faulted(fsc=0x07), False),
        (Died("so long"), False),
    ],
)
def test_a_translation(answer: Answer, same: bool) -> None:
    """The page of PAR_EL1, the whole address of a debug walk, and the attributes where they are told."""
    assert _agrees(answer) is same


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        (Faulted(fsc=0x05), True),
        (Faulted(fsc=0x06), False),
        (Faulted(fsc=0x05, taken=True), False),
        (Unmapped(), True),
        (Mapped(pa=None), False),
        (Died("so long"), False),
    ],
)
def test_a_fault(answer: Answer, same: bool) -> None:
    """Kind and level by the code, level 1 here, reported and not taken."""
    assert _agrees(answer, valid=False) is same


def test_a_fetch_takes_its_fault() -> None:
    """What AT reports, a fetch meets as an exception."""
    assert _agrees(Faulted(fsc=0x05, taken=True), valid=False, access=FETCH)
    assert not _agrees(Faulted(fsc=0x05), valid=False, access=FETCH)


@pytest.mark.parametrize(("attr_indx", "wanted"), [(0, 0), (1, 2), (2, 2), (3, 0), (4, 2)])
def test_shareability(attr_indx: int, wanted: int) -> None:
    """Device and Non-cacheable memory is outer shareable whatever is written, other memory as written."""
    attr = MAIR >> 8 * attr_indx & 0xFF
    for sh in range(4):
        answer = Mapped(pa=0x4000_0000, attr=attr, sh=sh)
        assert _agrees(answer, attr_indx=attr_indx, sh=0) is (sh == wanted)


def test_reserved_shareability() -> None:
    """SH of 0b01 is reserved: any answer will do."""
    assert all(_agrees(Mapped(pa=0x4000_0000, attr=0xFF, sh=sh), sh=1) for sh in range(4))
