"""Tests of harness.check.kernel_tables on built tables: what it must see, and where."""

from __future__ import annotations

import pytest

from harness.check.kernel_tables import KernelTables, Walker, check_kernel_tables
from harness.vmsa import (
    Regime,
    TableBuilder,
    Translation,
    VaRange,
    derive,
    leaf_attributes,
    registers_for,
    walk,
)

RAM = range(0x4000_0000, 0x5000_0000)
ARENA_PA = 0x4100_0000
TEXT_VA, DATA_VA = 0xFFFF_8000_8000_0000, 0xFFFF_0000_0000_0000
TEXT = leaf_attributes(ap=0b10, uxn=True)  # read-only, executable by EL1
DATA = leaf_attributes(ap=0b00, pxn=True, uxn=True)


@pytest.fixture(params=[12, 14, 16])
def tables(request: pytest.FixtureRequest) -> TableBuilder:
    """A kernel half with text and data, at each granule."""
    regime = derive(registers_for(granule_log2=request.param, txsz=16), VaRange.UPPER)
    assert isinstance(regime, Regime)
    built = TableBuilder(regime, ARENA_PA)
    page = 1 << request.param
    built.map(TEXT_VA, 0x4200_0000, 8 * page, attributes=TEXT, level=3)
    built.map(DATA_VA, 0x4400_0000, 8 * page, attributes=DATA, level=3)
    return built


def _page(tables: TableBuilder) -> int:
    return 1 << tables.regime.geometry.granule_log2


def _agreeing(tables: TableBuilder) -> Walker:
    def walker(va: int) -> int | None:
        found = walk(tables.regime, tables.read, va)
        return found.pa if isinstance(found, Translation) else None

    return walker


def _check(tables: TableBuilder, walker: Walker | None = None) -> KernelTables:
    return check_kernel_tables(tables.regime, tables.read, walker or _agreeing(tables), RAM)


def _said(tables: TableBuilder, walker: Walker | None = None) -> list[str]:
    return [str(finding) for finding in _check(tables, walker).findings]


def test_sound_tables_have_no_finding(tables: TableBuilder) -> None:
    """Sixteen leaves keep every rule, and both walkers agree within them and at their edges."""
    found = _check(tables)
    assert found.findings == ()
    assert found.leaves == 16
    assert found.compared == 16 + 2 * 16


def test_no_second_walker(tables: TableBuilder) -> None:
    """Without a second walker the rules remain, and nothing is said to have been compared."""
    found = check_kernel_tables(tables.regime, tables.read, None, RAM)
    assert (found.leaves, found.compared, found.findings) == (16, 0, ())


@pytest.mark.parametrize(
    ("va", "word", "what"),
    [
        (TEXT_VA, 0x4200_0000 | leaf_attributes(ap=0b00, uxn=True) | 0b11, "writable and executable"),
        (DATA_VA, 0x4400_0000 | leaf_attributes(ap=0b11, pxn=True, uxn=True) | 0b11, "open to EL0"),
        (DATA_VA, 0x4400_0000 | leaf_attributes(ap=0b00, pxn=True) | 0b11, "open to EL0"),
        (DATA_VA, 0x6000_0000 | DATA | 0b11, "Normal memory outside RAM"),
    ],
)
def test_a_broken_rule_is_found_at_its_address(tables: TableBuilder, va: int, word: int, what: str) -> None:
    """A leaf that breaks a rule is named with its address, alone among the others."""
    tables.plant(va, 3, word)
    (said,) = _said(tables)
    assert what in said
    assert f"saw 1: {va:#x} -> " in said


def test_device_memory_may_be_anywhere() -> None:
    """A device's registers outside RAM are no finding."""
    regime = derive(registers_for(granule_log2=12, txsz=16, mair=0xFF00), VaRange.UPPER)
    assert isinstance(regime, Regime)
    built = TableBuilder(regime, ARENA_PA)
    built.map(DATA_VA, 0x0900_0000, 4096, attributes=DATA)  # index 0 is Device-nGnRnE here
    assert _check(built).findings == ()


def test_a_table_outside_memory_is_found(tables: TableBuilder) -> None:
    """A table descriptor that points to nothing is a finding, and the rest is still checked."""
    tables.plant(DATA_VA, 2, 0x7000_0000 | 0b11)
    said = _said(tables)
    assert any("the table is not in memory (0x70000000)" in each for each in said)


@pytest.mark.parametrize("wrong", [None, 0x4242_4242])
def test_a_walker_that_disagrees(tables: TableBuilder, wrong: int | None) -> None:
    """Each address on which the walkers differ is a finding with both answers."""
    page = _page(tables)

    def walker(va: int) -> int | None:
        return wrong if TEXT_VA <= va < TEXT_VA + page else _agreeing(tables)(va)

    said = _said(tables, walker)
    assert said
    assert all("by the model and by QEMU" in each for each in said)
    assert all(("saw unmapped" if wrong is None else "saw 0x42424242") in each for each in said)


def test_empty_tables_are_no_pass() -> None:
    """A kernel half without a leaf is a finding: something else was read."""
    regime = derive(registers_for(granule_log2=12, txsz=16), VaRange.UPPER)
    assert isinstance(regime, Regime)
    built = TableBuilder(regime, ARENA_PA)
    assert [str(each) for each in _check(built).findings] == ["kernel page tables: wanted leaves, saw none"]
