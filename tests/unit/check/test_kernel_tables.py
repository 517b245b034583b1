"""Tests of harness.check.kernel_tables: every rule on a kernel of our making, and who was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.check.kernel_tables import RULES, KernelTables, check_kernel_tables, rules_for
from harness.check.vmalloc import vmalloc_guard_pages_are_unmapped
from harness.check.walkers import ask
from harness.verdict import Finding
from harness.vmsa import Translation, leaf_attributes, walk

# The fixture's Kernel: tests have no package to import it from.
Kernel = Any

DATA = leaf_attributes(pxn=True, uxn=True)
IO = leaf_attributes(attr_indx=1, pxn=True, uxn=True)
RODATA = leaf_attributes(ap=0b10, pxn=True, uxn=True)
TEXT = leaf_attributes(ap=0b10, uxn=True)
IO_TEXT = leaf_attributes(ap=0b10, attr_indx=1, uxn=True)
NO_RAM_PA = 0x7000_0000


def _said(kernel: Kernel, **view: object) -> list[str]:
    return [str(finding) for finding in check_kernel_tables(kernel.half(**view)).findings]


def test_a_sound_kernel_has_no_finding(kernel: Kernel) -> None:
    """Every rule holds for a kernel that is laid out as memory.h says."""
    found = check_kernel_tables(kernel.half())
    assert found.findings == ()
    assert found.leaves == 512 + 128 + 4 + 2 + 8


def _damage(kernel: Kernel, name: str) -> tuple[int, int]:
    """An address, and the descriptor that is planted there."""
    last_data = kernel.data_va + 63 * kernel.page
    return {
        "text writable": (kernel.text_va, kernel.leaf(leaf_attributes(uxn=True), kernel.pa(128))),
        "alias writable": (kernel.alias_va, kernel.leaf(DATA, kernel.pa(128))),
        "rodata writable": (kernel.text_va + 40 * kernel.page, kernel.leaf(DATA, kernel.pa(168))),
        "text through vmalloc": (kernel.area_va, kernel.leaf(DATA, kernel.pa(129))),
        "EL0 reads": (kernel.linear_va, kernel.leaf(DATA | 1 << 6, kernel.pa(20))),
        "EL0 executes": (kernel.linear_va, kernel.leaf(leaf_attributes(pxn=True), kernel.pa(20))),
        "linear map elsewhere": (kernel.linear_va, kernel.leaf(DATA, kernel.pa(21))),
        "linear map executable": (kernel.linear_va, kernel.leaf(TEXT, kernel.pa(20))),
        "linear hole": (kernel.linear_va, 0),
        "linear device": (kernel.linear_va, kernel.leaf(IO, kernel.pa(20))),
        "linear not RAM": (kernel.linear_va, kernel.leaf(DATA, NO_RAM_PA)),
        "image elsewhere": (kernel.data_va, kernel.leaf(DATA, kernel.pa(385))),
        "image hole": (last_data, 0),
        "data read-only": (kernel.data_va, kernel.leaf(RODATA, kernel.pa(384))),
        "device elsewhere": (kernel.device_va, kernel.leaf(IO, 0x0900_0000 + 3 * kernel.page)),
        "device nowhere": (kernel.device_va, kernel.leaf(IO, NO_RAM_PA)),
        "device cacheable": (kernel.device_va, kernel.leaf(DATA, 0x0900_0000)),
        "device executable": (kernel.device_va, kernel.leaf(IO_TEXT, 0x0900_0000)),
        "area hole": (kernel.area_va + kernel.page, 0),
        "guard mapped": (kernel.area_va + 4 * kernel.page, kernel.leaf(DATA, kernel.pa(12))),
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("text writable", "kernel leaves: writable and executable"),
        ("text writable", "kernel text and rodata: writable through an alias"),
        ("alias writable", "kernel text and rodata: writable through an alias"),
        ("rodata writable", "kernel text and rodata: writable through an alias"),
        ("text through vmalloc", "kernel text and rodata: writable through an alias"),
        ("EL0 reads", "kernel leaves: open to EL0"),
        ("EL0 executes", "kernel leaves: open to EL0"),
        ("EL0 executes", "kernel leaves: without UXN"),
        ("linear map elsewhere", "linear map: output address"),
        ("linear map executable", "linear map: executable"),
        ("linear hole", "linear map: covers System RAM"),
        ("linear device", "linear map: memory type"),
        ("linear device", "kernel leaves: RAM that is not Normal memory"),
        ("linear not RAM", "linear map: leads to"),
        ("linear not RAM", "kernel leaves: Normal memory outside RAM"),
        ("image elsewhere", "kernel image: output address"),
        ("image hole", "kernel image: mapped"),
        ("data read-only", "kernel data: rights of EL1"),
        ("device elsewhere", "vmalloc: output address of device memory"),
        ("device nowhere", "kernel leaves: neither RAM nor a device"),
        ("device cacheable", "kernel leaves: Normal memory outside RAM"),
        ("device executable", "kernel leaves: executable Device memory"),
        ("area hole", "vmalloc: pages of an area"),
        ("guard mapped", "vmalloc: guard pages"),
    ],
)
def test_a_broken_rule_is_found_at_its_address(kernel: Kernel, damage: str, rule: str) -> None:
    """The rule that the damage breaks says so, counts one, and names the address and the descriptor."""
    va, word = _damage(kernel, damage)
    kernel.tables.plant(va, 3, word)
    (said,) = [each for each in _said(kernel) if each.startswith(rule)]
    assert f"saw 1: {va:#x}" in said or f"saw 1 holes: {va:#x}" in said
    outcome = walk(kernel.tables.regime, kernel.tables.read, va)
    assert f" at {outcome.chain[-1].pa:#x}, level 3" in said


def test_a_leaf_without_pxn_below_a_table_with_it(kernel: Kernel) -> None:
    """A leaf of the linear map that only its tables keep from execution is still told."""
    regime = kernel.tables.regime
    step = walk(regime, kernel.tables.read, kernel.linear_va).chain[-2]
    assert step.word is not None
    kernel.tables.plant(kernel.linear_va, 2, step.word | 1 << 59)
    kernel.tables.plant(kernel.linear_va, 3, kernel.leaf(leaf_attributes(uxn=True), kernel.pa(20)))
    said = _said(kernel)
    assert any(each.startswith("linear map: leaves without PXN") for each in said)
    assert not any("executable" in each for each in said)


def test_a_table_outside_memory_is_found(kernel: Kernel) -> None:
    """A table descriptor that points to nothing is told with its own address, and the rest is checked."""
    step = walk(kernel.tables.regime, kernel.tables.read, kernel.linear_va).chain[-2]
    kernel.tables.plant(kernel.linear_va, 2, NO_RAM_PA | 0b11)
    said = _said(kernel)
    assert any("the table is not in memory (0x70000000" in one and f"{step.pa:#x}" in one for one in said)
    assert any(each.startswith("linear map: covers System RAM") for each in said)


def test_blocks_where_pages_are_wanted(kernel: Kernel) -> None:
    """With rodata=full the linear map is by pages: a contiguous mark is told, where settings are known."""
    kernel.tables.plant(kernel.linear_va, 3, kernel.leaf(DATA | 1 << 52, kernel.pa(20)))
    rule = "linear map: blocks or contiguous groups"
    assert any(each.startswith(rule) for each in _said(kernel))
    assert not any(each.startswith(rule) for each in _said(kernel, config=None))
    assert not any(each.startswith(rule) for each in _said(kernel, cmdline="rodata=on"))


def test_pages_where_blocks_are_wanted(kernel: Kernel) -> None:
    """With rodata=on and no KFENCE, pages that could have been contiguous groups are told."""
    said = _said(kernel, cmdline="quiet rodata=on")
    assert any(each.startswith("linear map: smaller leaves than fit") for each in said)
    config = {"RODATA_FULL_DEFAULT_ENABLED": "y", "KFENCE": "y"}
    assert _said(kernel, cmdline="quiet rodata=on", config=config) == []


def test_rodata_off_asks_for_writable_text(kernel: Kernel) -> None:
    """What `rodata=off` asks for is no finding: text that is writable, in the image too."""
    kernel.tables.plant(*_at_level_3(_damage(kernel, "alias writable")))
    kernel.tables.plant(*_at_level_3(_damage(kernel, "text writable")))
    assert _said(kernel, cmdline="rodata=off", config=None) == []


def _at_level_3(damage: tuple[int, int]) -> tuple[int, int, int]:
    return damage[0], 3, damage[1]


def test_kfence_may_leave_holes_in_its_pool_only(kernel: Kernel) -> None:
    """A hole within KFENCE's pool is excused; the same hole elsewhere is not."""
    kernel.tables.plant(kernel.linear_va, 3, 0)
    pool = range(kernel.linear_va - kernel.page, kernel.linear_va + kernel.page)
    assert _said(kernel, kfence_pool=pool) == []
    assert _said(kernel, kfence_pool=range(pool.start, kernel.linear_va)) != []


def test_an_area_that_went_and_one_that_is_new_are_passed_over(kernel: Kernel) -> None:
    """Only areas that are the same before and after are looked at, and none that maps nothing at all."""
    for number in range(4):
        kernel.tables.plant(kernel.area_va + number * kernel.page, 3, 0)
    assert _said(kernel) == []
    before, _ = kernel.view.areas
    kernel.tables.plant(kernel.device_va, 3, 0)
    assert _said(kernel, areas=(before, before[:1])) == []
    assert any(each.startswith("vmalloc: pages of an area") for each in _said(kernel))


def test_rules_need_nothing_of_the_guest(kernel: Kernel) -> None:
    """Without the guest's words the rules that need them say nothing, and the others still hold."""
    half = kernel.half(iomem=None, vmcoreinfo=None, note={}, areas=None, config=None)
    assert [finding for rule in RULES for finding in rule(half)] == []


@pytest.mark.parametrize(
    ("missing", "rule"),
    [
        ({"iomem": None}, "kernel text read only through every alias"),
        ({"vmcoreinfo": None}, "linear map is not executable"),
        ({"note": {}}, "linear map obeys arithmetic"),
        ({"areas": None}, "vmalloc guard pages are unmapped"),
    ],
)
def test_rules_that_could_not_be_asked_are_named(kernel: Kernel, missing: Any, rule: str) -> None:
    """A rule that had nothing to go by is no evidence, and is said not to have been asked."""
    assert check_kernel_tables(kernel.half()).unasked == ()
    found = check_kernel_tables(kernel.half(**missing))
    assert rule in found.unasked
    assert rule in found.evidence.partition("not asked: ")[2]


def test_zero_is_an_address(kernel: Kernel) -> None:
    """RAM that starts at the physical address 0 is as well known as any."""
    half = kernel.half(note={**kernel.view.note, "NUMBER(PHYS_OFFSET)": "0x0"})
    assert rules_for(half) == RULES


def test_a_rule_that_yields_nothing_was_not_asked(kernel: Kernel) -> None:
    """Each rule that is broken by some damage is silent about it exactly where it says it cannot be asked."""
    kernel.tables.plant(kernel.area_va + 4 * kernel.page, 3, kernel.leaf(DATA, kernel.pa(12)))
    half = kernel.half(areas=None)
    asked = rules_for(half)
    assert vmalloc_guard_pages_are_unmapped not in asked
    assert not [finding for rule in RULES if rule not in asked for finding in rule(half)]


def _model(kernel: Kernel, va: int) -> int | None:
    found = walk(kernel.tables.regime, kernel.tables.read, va)
    return found.pa if isinstance(found, Translation) else None


def test_witnesses_are_counted_and_the_absent_named(kernel: Kernel) -> None:
    """Who was asked what is told in one line; who could not be asked, with the reason."""
    half = kernel.half(absent={"ptdump": "the kernel has no PTDUMP_DEBUGFS"})
    found = check_kernel_tables(half, ask(half.leaves, lambda vas: [_model(kernel, va) for va in vas]))
    assert found.evidence == (
        "model 654 leaves, gva2gpa 300 addresses, no ptdump (the kernel has no PTDUMP_DEBUGFS), "
        "vmcoreinfo 8 facts, iomem 3 resources, vmallocinfo 2 areas"
    )
    assert found.compared == 300 + 8 + 3 + 2
    assert found.findings == ()


def _without_witness(kernel: Kernel) -> KernelTables:
    return check_kernel_tables(kernel.half(iomem=None, vmcoreinfo=None, note={}, areas=None))


def test_words_that_should_be_there_are_a_finding(kernel: Kernel) -> None:
    """A guest that did not say what every kernel says has not passed, whoever else was asked."""
    half = kernel.half(iomem=None, broken={"iomem": "/proc/iomem holds no address"})
    found = check_kernel_tables(half, ask(half.leaves, lambda vas: [_model(kernel, va) for va in vas]))
    assert [str(finding) for finding in found.findings] == [
        "the guest's own words: iomem: wanted to be read, saw /proc/iomem holds no address"
    ]
    assert "no iomem (/proc/iomem holds no address)" in found.evidence


def test_registers_that_no_kernel_has(kernel: Kernel) -> None:
    """Fewer bits of addresses than Linux can be built for: no layout, a finding, and no exception."""
    half = kernel.half()
    regime = replace(half.regime, iasize_bits=34)
    half = replace(half, regime=regime)
    assert half.layout is None
    assert any("TCR_EL1_T1SZ" in str(one) for one in check_kernel_tables(half).findings)


def test_no_witness_is_a_finding(kernel: Kernel) -> None:
    """Tables that nobody but they themselves spoke for have not passed."""
    (finding,) = _without_witness(kernel).findings
    assert finding == Finding(
        what="kernel page tables", wanted="a witness beside the tables", seen=finding.seen
    )
    assert "no gva2gpa" in finding.seen


@pytest.mark.parametrize("wrong", [None, 0x4242_4242])
def test_a_walker_that_disagrees(kernel: Kernel, wrong: int | None) -> None:
    """Each address on which the walkers differ is a finding with both answers and the descriptor."""
    half = kernel.half()
    text = range(kernel.text_va, kernel.text_va + 32 * kernel.page)
    answers = ask(half.leaves, lambda vas: [wrong if va in text else _model(kernel, va) for va in vas])
    said = [str(finding) for finding in check_kernel_tables(half, answers).findings]
    assert said
    assert all("by the model and by QEMU" in each and ", level 3" in each for each in said)
    assert all(("saw unmapped" if wrong is None else "saw 0x42424242") in each for each in said)


def test_empty_tables_are_no_pass(kernel: Kernel) -> None:
    """A kernel half without a leaf is a finding: something else was read."""
    for level_0_va in (0xFFFF_0000_0000_0000, 0xFFFF_8000_8000_0000, 0xFFFF_FF7F_C000_0000):
        if kernel.tables.regime.start_level < 3:
            kernel.tables.plant(level_0_va, kernel.tables.regime.start_level, 0)
    for va in (0xFFFF_FDFF_C000_0000, 0xFFFF_FFDF_C000_0000):
        kernel.tables.plant(va, kernel.tables.regime.start_level, 0)
    assert any("wanted leaves, saw none" in each for each in _said(kernel))
