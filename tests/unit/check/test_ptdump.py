"""Tests of harness.check.ptdump: note_page over built tables, against regions worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.check.half import KernelHalf
from harness.check.ptdump import compare_ptdump, regions_of
from harness.linux.ptdump import Dump, Region, parse_ptdump
from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for

# The fixture's Kernel: tests have no package to import it from.
Kernel = Any

BASE, END = 0xFFFF_0000_0000_0000, 1 << 64
DATA = leaf_attributes(pxn=True, uxn=True)
PGD, P4D, PUD, PMD, PTE = range(5)

# What Linux prints of the tables below, line by line: widths as in `note_page` of v6.12.
DUMP = """\
---[ Linear Mapping start ]---
0xffff000000000000-0xffff000000001000           4K PTE       RW NX SHD AF            UXN    MEM/NORMAL
0xffff000000001000-0xffff000000200000        2044K PTE
0xffff000000200000-0xffff000000400000           2M PMD       RW NX SHD AF        BLK UXN    MEM/NORMAL
0xffff000000400000-0xffff000040000000        1020M PMD
0xffff000040000000-0xffff008000000000         511G PUD
0xffff008000000000-0x0000000000000000      261632G PGD
"""


def _tables() -> TableBuilder:
    regime = derive(registers_for(granule_log2=12, txsz=16), VaRange.UPPER)
    assert isinstance(regime, Regime)
    built = TableBuilder(regime, 0x9000_0000)
    built.map(BASE, 0x4000_0000, 4096, attributes=DATA, level=3)
    built.map(BASE + (2 << 20), 0x4020_0000, 2 << 20, attributes=DATA, level=2)
    return built


def test_regions_of_tables() -> None:
    """Holes are noted at the level of the entry that is empty, and the first level is PGD."""
    tables = _tables()
    dump = parse_ptdump(DUMP)
    assert dump.problem == ""
    assert regions_of(tables.regime, tables.read) == dump.regions
    assert [region.level for region in dump.regions] == [PTE, PTE, PMD, PMD, PUD, PGD]


def test_output_addresses_do_not_part_regions() -> None:
    """note_page compares attributes and level only: pages of scattered memory are one region."""
    tables = _tables()
    tables.map(BASE + 4096, 0x7000_0000, 4096, attributes=DATA, level=3)
    first = regions_of(tables.regime, tables.read)[0]
    assert (first.start_va, first.stop_va) == (BASE, BASE + 8192)


def test_an_invalid_entry_that_is_not_empty() -> None:
    """An invalid page is told with what is left of it; above the last level it is passed over."""
    tables = _tables()
    tables.plant(BASE, 3, 0x4000_0000 | DATA | 0b10)
    first = regions_of(tables.regime, tables.read)[0]
    assert first.attributes == (DATA | 0b10) & 0x0074_0000_0000_0FDF
    tables.plant(BASE + (2 << 20), 2, 0x4020_0000 | DATA)
    assert all(region.start_va != BASE + (2 << 20) for region in regions_of(tables.regime, tables.read))


def _dump(half: KernelHalf) -> Dump:
    return Dump(regions=regions_of(half.regime, half.memory))


def test_the_same_tables_agree(kernel: Kernel) -> None:
    """A dump of the very tables differs nowhere, and all of it was compared."""
    half = kernel.half()
    found = compare_ptdump(half, _dump(half), _dump(half))
    assert found.findings == ()
    assert found.stretches == found.regions == len(_dump(half).regions) > 8
    assert found.passed_over == 0


def test_an_attribute_that_differs_is_found_at_its_address(kernel: Kernel) -> None:
    """One page whose attributes the kernel tells otherwise is a finding that names it, and it alone."""
    dump = _dump(kernel.half())
    kernel.tables.plant(kernel.linear_va, 3, kernel.leaf(DATA | 1 << 7, kernel.pa(20)))
    (finding,) = compare_ptdump(kernel.half(), dump, dump).findings
    assert finding.what == f"kernel_page_tables at {kernel.linear_va:#x} (1 such)"
    assert "PTE ro" in finding.wanted
    assert "PTE RW" in finding.seen


def test_what_changes_between_the_readings_is_passed_over(kernel: Kernel) -> None:
    """A page that the two readings tell differently is not compared, whatever it is now."""
    before = _dump(kernel.half())
    kernel.tables.plant(kernel.linear_va, 3, 0)
    after = _dump(kernel.half())
    kernel.tables.plant(kernel.linear_va, 3, kernel.leaf(DATA | 1 << 7, kernel.pa(20)))
    found = compare_ptdump(kernel.half(), before, after)
    assert found.findings == ()
    assert found.passed_over == 1


def test_two_dumps_that_have_nothing_in_common(kernel: Kernel) -> None:
    """A dump whose mappings were all told otherwise the second time has shown nothing, and is told so."""
    half = kernel.half()
    before = _dump(half)
    other = [replace(one, attributes=one.attributes and one.attributes ^ 1 << 7) for one in before.regions]
    found = compare_ptdump(half, before, replace(before, regions=tuple(other)))
    (finding,) = found.findings
    assert finding.what == "kernel_page_tables: mapped, and compared"
    assert finding.seen.startswith("0 of ")


def test_what_comes_and_goes_is_passed_over_in_vmalloc_only(kernel: Kernel) -> None:
    """A vmalloc page may have been unmapped in between; a page of the linear map or the image may not."""
    dump = _dump(kernel.half())
    kernel.tables.plant(kernel.area_va, 3, 0)
    assert compare_ptdump(kernel.half(), dump, dump).findings == ()
    for va in (kernel.linear_va, kernel.data_va):
        kernel.tables.plant(va, 3, 0)
        assert any(f"{va:#x}" in one.what for one in compare_ptdump(kernel.half(), dump, dump).findings)


def test_vmalloc_attributes_must_agree(kernel: Kernel) -> None:
    """A vmalloc page that is mapped throughout has to have the attributes that the kernel tells."""
    dump = _dump(kernel.half())
    kernel.tables.plant(kernel.area_va, 3, kernel.leaf(DATA | 1 << 7, kernel.pa(8)))
    (finding,) = compare_ptdump(kernel.half(), dump, dump).findings
    assert f"{kernel.area_va:#x}" in finding.what


def test_a_broken_dump_is_a_finding(kernel: Kernel) -> None:
    """Half a dump, or one of other tables, is told as such, and nothing is said to have been compared."""
    half = kernel.half()
    whole = _dump(half)
    for broken in (replace(whole, problem="cut"), Dump(regions=()), Dump(regions=(Region(0, END, PGD, 0),))):
        found = compare_ptdump(half, broken, whole if broken.problem else broken)
        assert (len(found.findings), found.stretches) == (1, 0)
