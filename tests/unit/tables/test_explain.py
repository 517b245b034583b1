"""Tests of harness.tables.explain, refusal and story: what is said, against the manual's rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import UsageError
from harness.tables.explain import AccessInWords, Explanation, explain
from harness.tables.half import view_of
from harness.vmsa import leaf_attributes
from harness.vmsa.registers import Sctlr, Tcr

MakeGuest = Callable[..., Any]
HOLE = 0x4000_0000


def _explain(guest: Any, va: int) -> Explanation:
    return explain(view_of(guest.snapshot()), va)


def _access(explained: Explanation, el: int, kind: str, *, pan: bool = False) -> AccessInWords:
    return next(one for one in explained.accesses if (one.el, one.kind, one.pan) == (el, kind, pan))


@pytest.mark.parametrize("granule_log2", [12, 14, 16])
def test_every_step(make_guest: MakeGuest, granule_log2: int) -> None:
    """A step names the table, the entry and the descriptor, and each leads to the next."""
    guest = make_guest(granule_log2)
    explained = _explain(guest, guest.image_va + 0x123)
    regime = guest.builder.regime
    assert explained.is_mapped
    assert [step.level for step in explained.steps] == list(range(regime.start_level, 4))
    assert explained.steps[0].table_pa == regime.table_pa
    for step, below in zip(explained.steps, explained.steps[1:], strict=False):
        assert f"at {below.table_pa:#x}" in step.kind
    for step in explained.steps:
        assert step.pa == step.table_pa + 8 * step.index
        assert step.pa == guest.builder.descriptor_pa(guest.image_va, step.level)
    offset = f"+ 0x123: bits {granule_log2 - 1}:0"
    assert any(offset in line for line in explained.result)


def test_contiguous_group(make_guest: MakeGuest) -> None:
    """Within a contiguous group the address gives more bits than the leaf's."""
    guest = make_guest()
    va = guest.linear_va + (1 << 30)
    guest.builder.map(va, 0x6000_0000, 1 << 16, level=3, contiguous=True)
    explained = _explain(guest, va + 0x5678)
    assert any("0x60000000 + 0x5678" in line and "group" in line for line in explained.result)


def test_a_hole(make_guest: MakeGuest) -> None:
    """What is not mapped is a fault with its level and code."""
    guest = make_guest()
    explained = _explain(guest, guest.linear_va + HOLE)
    assert not explained.is_mapped
    assert "translation fault at level 1" in explained.result[0]
    assert "0x05" in explained.result[0]  # 0b0001LL, Arm ARM D24.2 ESR_EL1
    assert not explained.accesses


def test_a_table_outside_memory(make_guest: MakeGuest) -> None:
    """A table that is not in memory is said to be so, where it happens."""
    guest = make_guest()
    guest.builder.plant(guest.linear_va + (1 << 39), 0, 0x7_0000_0003)
    explained = _explain(guest, guest.linear_va + (1 << 39))
    assert "external abort on a table walk at level 1" in explained.result[0]
    assert explained.steps[-1].word is None


def test_outside_of_the_range(make_guest: MakeGuest) -> None:
    """An address between the ranges faults before any descriptor is read."""
    explained = _explain(make_guest(), 0xFFF0_0000_0000_0000)
    assert not explained.steps
    assert "before any descriptor was read" in explained.result[0]


def test_a_range_that_faults_whole(make_guest: MakeGuest) -> None:
    """A TxSZ that is out of bounds explains every address of the range."""
    tcr = make_guest().snapshot().vcpus[0].registers["TCR_EL1"]
    snapshot = make_guest().snapshot(TCR_EL1=Tcr.t1sz.into(tcr, 3))
    explained = explain(view_of(snapshot), 0xFFFF_0000_0000_0000)
    assert "TxSZ is 3" in explained.result[0]


def test_no_address(make_guest: MakeGuest) -> None:
    """More than 64 bits are refused."""
    with pytest.raises((ValueError, UsageError)):
        _explain(make_guest(), 1 << 64)


def test_registers_in_words(make_guest: MakeGuest) -> None:
    """The story names the fields: TG1, T1SZ, TTBR1 and what is switched on."""
    guest = make_guest(14, tcr=Tcr.ha.mask, sctlr=Sctlr.wxn.mask)
    story = "\n".join(_explain(guest, guest.image_va).which)
    assert "bit 55 is 1: the upper range" in story
    assert "TG1 = 1, a granule of 16K; T1SZ = 17, so 47 bits" in story
    assert f"the first table is at {guest.builder.regime.table_pa:#x}" in story
    assert "WXN" in story
    assert "(HA)" in story


def _mapped(make_guest: MakeGuest, attributes: int, tables: int = 0, **settings: Any) -> Explanation:
    """A page with some attributes, below a table with some bits."""
    guest = make_guest(**settings)
    va = guest.linear_va + (1 << 30)
    guest.builder.map(va, 0x6000_0000, 4096, attributes=attributes, level=3)
    if tables:
        guest.builder.add_table_bits(va, 2, tables)
    return _explain(guest, va)


@pytest.mark.parametrize(
    ("attributes", "tables", "settings", "el", "kind", "why"),
    [
        (leaf_attributes(ap=0b10), 0, {}, 1, "write", "AP[2] = 1 (read-only)"),
        (leaf_attributes(), 0, {}, 0, "read", "AP[1] = 0 (not EL0's)"),
        (leaf_attributes(ap=0b10), 0, {}, 0, "write", "AP[2] = 1 (read-only) and AP[1] = 0 (not EL0's)"),
        (leaf_attributes(pxn=True), 0, {}, 1, "execute", "PXN of the leaf"),
        (leaf_attributes(uxn=True), 0, {}, 0, "execute", "UXN of the leaf"),
        (leaf_attributes(), 1 << 59, {}, 1, "execute", "PXNTable of level 2"),
        (leaf_attributes(), 1 << 60, {}, 0, "execute", "UXNTable of level 2"),
        (leaf_attributes(ap=0b01), 1 << 61, {}, 0, "read", "APTable[0] (no EL0) of level 2"),
        (leaf_attributes(), 1 << 62, {}, 1, "write", "APTable[1] (no writes) of level 2"),
        (leaf_attributes(ap=0b01), 0, {}, 1, "execute", "EL0's right to write"),
        (leaf_attributes(), 0, {"sctlr": Sctlr.wxn.mask}, 1, "execute", "SCTLR.WXN"),
    ],
)
def test_who_refuses(
    make_guest: MakeGuest,
    attributes: int,
    tables: int,
    settings: dict[str, int],
    el: int,
    kind: str,
    why: str,
) -> None:
    """The control that refuses is named: the one without which the access would be granted."""
    access = _access(_mapped(make_guest, attributes, tables, **settings), el, kind)
    assert access.fault is not None
    assert access.fault.fsc == 0x0F
    assert (access.refused_by or "").startswith(why)


def test_pan(make_guest: MakeGuest) -> None:
    """PAN refuses EL1 what EL0 may use, and says so; without PAN there is no talk of it."""
    explained = _mapped(make_guest, leaf_attributes(ap=0b01))
    assert _access(explained, 1, "read").fault is None
    refused = _access(explained, 1, "read", pan=True)
    assert "PSTATE.PAN" in (refused.refused_by or "")
    assert any("with PSTATE.PAN set: EL1 --" in line for line in explained.result)
    assert not any(one.pan for one in _mapped(make_guest, leaf_attributes(ap=0b01), pan=0).accesses)


def test_granted(make_guest: MakeGuest) -> None:
    """What is granted has no reason."""
    access = _access(_mapped(make_guest, leaf_attributes()), 1, "write")
    assert (access.fault, access.refused_by) == (None, None)
