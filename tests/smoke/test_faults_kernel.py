"""The table of planted faults: class, place and detector, each in a live kernel's tables at every page size.

One guest per page size is stopped for each fault in turn: the fault is written into its memory, the check is
made, and what was there is written back before the guest goes on. docs/page-tables.md has the same table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from harness.check.half import KernelHalf, inside
from harness.check.kernel_tables import KernelTables, check_kernel_tables
from harness.check.vmalloc import stable_areas
from harness.linux.iomem import Iomem
from harness.linux.layout import KernelLayout
from harness.linux.vmallocinfo import VmallocArea
from harness.qemu.frozen import Frozen
from harness.smoke.guest_words import GuestWords, guest_view, read_words, reread
from harness.smoke.subject import Subject
from harness.snapshot import kernel_regime
from harness.vmsa import Right, walk
from harness.vmsa.fault import Step

AP1, AP2, PXN, UXN, NG, CONTIGUOUS, VALID = 1 << 6, 1 << 7, 1 << 53, 1 << 54, 1 << 11, 1 << 52, 1
ATTR_INDX, NON_CACHEABLE, DEVICE = 0b111 << 2, 2 << 2, 4 << 2
PXN_TABLE = 1 << 59
NO_RAM_PA = 0xF_0000_0000
"""No RAM of ours, and within the 40 bits that every CPU model has."""

Words = dict[int, int]
"""Descriptors to be written, by physical address."""


Walks = list[tuple[Step, ...]]
"""Of each address the descriptors that were read, the last of them the leaf, or what is in its place."""

Change = Callable[[KernelHalf, Walks], Words]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row of the table."""

    name: str
    place: Callable[[KernelHalf], list[int]]
    """The virtual addresses concerned: the finding must name the first."""
    change: Change
    """From the walks of those addresses to what is planted."""
    seen_by: str
    """What of the finding that must be there."""
    above: bool = False
    """The fault is in the table above the leaf: findings name the first address of that table's."""
    in_dump: bool = False
    """The kernel's own dump tells what the fault changed."""


def _layout(half: KernelHalf) -> KernelLayout:
    assert half.layout is not None
    return half.layout


def _iomem(half: KernelHalf) -> Iomem:
    assert half.view.iomem is not None
    return half.view.iomem


def _linear_page(half: KernelHalf) -> list[int]:
    """Two pages in a row in the middle of the linear map, far from the kernel."""
    mine = inside(half.leaves.va, half.leaves.size_bytes, [_layout(half).linear_map])
    pages = np.flatnonzero(mine & (half.leaves.level == 3))
    middle = int(pages[2 * len(pages) // 3])
    return [half.leaves[middle].va, half.leaves[middle + 1].va]


def _alias_of_text(half: KernelHalf) -> list[int]:
    code = _iomem(half).kernel_code
    assert code is not None
    assert half.memstart_pa is not None
    return [_layout(half).linear_va(code.start, half.memstart_pa)]


def _text(half: KernelHalf) -> list[int]:
    assert half.kimage is not None
    mine = inside(half.leaves.va, half.leaves.size_bytes, [half.kimage.whole_va])
    return [half.leaves[int(np.flatnonzero(mine & half.rights.privileged_may(Right.EXECUTE))[0])].va]


def _rodata(half: KernelHalf) -> list[int]:
    """The last leaf of rodata."""
    assert half.kimage is not None
    va = half.kimage.va(half.kimage.code_pa).stop - 1
    return [half.leaves[int(np.searchsorted(half.leaves.va, np.uint64(va), side="right")) - 1].va]


def _data(half: KernelHalf) -> list[int]:
    assert half.kimage is not None
    mine = inside(half.leaves.va, half.leaves.size_bytes, [half.kimage.va(half.kimage.data_pa)])
    first = int(np.flatnonzero(mine)[0])
    return [half.leaves[first].va, half.leaves[first + 1].va]


def _grouped(half: KernelHalf) -> list[int]:
    """The third leaf of a contiguous group."""
    grouped = np.flatnonzero(half.leaves.group_log2 > half.leaves.size_log2)
    assert len(grouped), "this kernel has no contiguous group"
    return [half.leaves[int(grouped[2])].va]


def _device_area(half: KernelHalf) -> list[int]:
    return [next(area.va.start for area in stable_areas(half) if "ioremap" in area.kind)]


def _vmalloc_page(half: KernelHalf) -> list[int]:
    return [next(area.va.start for area in stable_areas(half) if area.pages)]


def _guard_page(half: KernelHalf) -> list[int]:
    """A guard page, and the page before it."""
    page = 1 << half.regime.geometry.granule_log2
    end = next(area.va.stop for area in stable_areas(half) if area.pages)
    return [end - page, end - 2 * page]


def _last_page(half: KernelHalf) -> list[int]:
    """The last page of an area that has several: one of which all is unmapped came and went."""
    page = 1 << half.regime.geometry.granule_log2
    end = next(area.va.stop for area in stable_areas(half) if (area.pages or 0) > 1 or _is_wide(area, page))
    return [end - 2 * page]


def _is_wide(area: VmallocArea, page_bytes: int) -> bool:
    return area.pa is not None and len(area.va) > 2 * page_bytes


def _bits(clear: int = 0, set_: int = 0) -> Change:
    """Clear and set bits of the first leaf."""

    def change(_: KernelHalf, walks: Walks) -> Words:
        leaf = walks[0][-1]
        return {leaf.pa: _word(leaf) & ~clear | set_}

    return change


def _leading_to(pa: Callable[[KernelHalf], int], *, above: bool = False) -> Change:
    """Give the first leaf, or the table descriptor above it, another address."""

    def change(half: KernelHalf, walks: Walks) -> Words:
        step, form = walks[0][-2 if above else -1], half.regime.address_format
        return {step.pa: _word(step) & ~form.mask(half.regime.geometry.granule_log2) | form.encode(pa(half))}

    return change


def _swapped(_: KernelHalf, walks: Walks) -> Words:
    return {walks[0][-1].pa: _word(walks[1][-1]), walks[1][-1].pa: _word(walks[0][-1])}


def _copied(_: KernelHalf, walks: Walks) -> Words:
    return {walks[0][-1].pa: _word(walks[1][-1])}


def _executable(_: KernelHalf, walks: Walks) -> Words:
    """Clear PXN of the leaf and PXNTable of every table above."""
    *tables, leaf = walks[0]
    return {leaf.pa: _word(leaf) & ~PXN} | {step.pa: _word(step) & ~PXN_TABLE for step in tables}


def _unchanged(_: KernelHalf, walks: Walks) -> Words:
    return {walks[0][-1].pa: _word(walks[0][-1])}


def _word(step: Step) -> int:
    assert step.word is not None
    return step.word


def _text_pa(half: KernelHalf) -> int:
    code = _iomem(half).kernel_code
    assert code is not None
    return code.start


def _no_ram(_: KernelHalf) -> int:
    return NO_RAM_PA


WX, ALIAS = "writable and executable", "kernel text and rodata: writable through an alias"
FAULTS = (
    Fault(name="text writable", place=_text, change=_bits(AP2), seen_by=WX, in_dump=True),
    Fault(name="text writable, by its alias rule", place=_text, change=_bits(AP2), seen_by=ALIAS),
    Fault(name="rodata writable", place=_rodata, change=_bits(AP2), seen_by=ALIAS, in_dump=True),
    Fault(name="text writable in the linear map", place=_alias_of_text, change=_bits(AP2), seen_by=ALIAS,
          in_dump=True),
    Fault(name="text writable through vmalloc", place=_vmalloc_page, change=_leading_to(_text_pa),
          seen_by=ALIAS),
    Fault(name="linear map: two pages swapped", place=_linear_page, change=_swapped,
          seen_by="linear map: output address"),
    Fault(name="linear map: a page mapped twice", place=_linear_page, change=_copied,
          seen_by="linear map: output address"),
    Fault(name="kernel image: two pages swapped", place=_data, change=_swapped,
          seen_by="kernel image: output address"),
    Fault(name="device area: another address", place=_device_area, change=_leading_to(lambda _: 0x0900_0000),
          seen_by="vmalloc: output address of device memory"),
    Fault(name="group: one without the bit", place=_grouped, change=_bits(CONTIGUOUS),
          seen_by="contiguous groups: incomplete", in_dump=True),
    Fault(name="group: one that is invalid", place=_grouped, change=_bits(VALID),
          seen_by="contiguous groups: incomplete", in_dump=True),
    Fault(name="group: one with other attributes", place=_grouped, change=_bits(0, DEVICE),
          seen_by="contiguous groups: attributes", in_dump=True),
    Fault(name="group: one that leads elsewhere", place=_grouped, change=_leading_to(_text_pa),
          seen_by="contiguous groups: output address"),
    Fault(name="linear map: page invalid", place=_linear_page, change=_bits(VALID),
          seen_by="linear map: covers System RAM", in_dump=True),
    Fault(name="linear map: alias of text invalid", place=_alias_of_text, change=_bits(VALID),
          seen_by="linear map: covers System RAM", in_dump=True),
    Fault(name="kernel image: data invalid", place=_data, change=_bits(VALID),
          seen_by="kernel image: mapped", in_dump=True),
    Fault(name="vmalloc: page invalid", place=_last_page, change=_bits(VALID),
          seen_by="vmalloc: pages of an area"),
    Fault(name="vmalloc: guard page mapped", place=_guard_page, change=_copied,
          seen_by="vmalloc: guard pages"),
    Fault(name="linear map: device memory type", place=_linear_page, change=_bits(ATTR_INDX, DEVICE),
          seen_by="linear map: memory type", in_dump=True),
    Fault(name="linear map: non-cacheable", place=_linear_page, change=_bits(ATTR_INDX, NON_CACHEABLE),
          seen_by="linear map: memory type", in_dump=True),
    Fault(name="RAM as device memory", place=_vmalloc_page, change=_bits(ATTR_INDX, DEVICE),
          seen_by="RAM that is not Normal memory"),
    Fault(name="device as cacheable memory", place=_device_area, change=_bits(ATTR_INDX),
          seen_by="Normal memory outside RAM", in_dump=True),
    Fault(name="leaf outside RAM", place=_linear_page, change=_leading_to(_no_ram),
          seen_by="Normal memory outside RAM"),
    Fault(name="device leaf to nowhere", place=_device_area, change=_leading_to(_no_ram),
          seen_by="neither RAM nor a device"),
    Fault(name="table outside RAM", place=_linear_page, change=_leading_to(_no_ram, above=True),
          above=True, seen_by="kernel page tables, level"),
    Fault(name="linear map: open to EL0", place=_linear_page, change=_bits(0, AP1),
          seen_by="open to EL0", in_dump=True),
    Fault(name="text without UXN, UXNTable left", place=_text, change=_bits(UXN), seen_by="without UXN",
          in_dump=True),
    Fault(name="linear map: executable", place=_linear_page, change=_executable,
          seen_by="linear map: executable", in_dump=True),
    Fault(name="linear map: writable and executable", place=_linear_page, change=_executable, seen_by=WX),
    Fault(name="linear map: PXN cleared, PXNTable left", place=_linear_page, change=_bits(PXN),
          seen_by="linear map: leaves without PXN", in_dump=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guest:
    """A guest and what it said of itself, twice."""

    subject: Subject
    before: GuestWords
    after: GuestWords


_GUESTS: dict[int, _Guest] = {}


@pytest.fixture
def guest(subject: Subject) -> _Guest:
    """The guest of a cell with its words, which are read once."""
    if id(subject) not in _GUESTS:
        before = read_words(subject)
        _GUESTS[id(subject)] = _Guest(subject=subject, before=before, after=reread(subject, before))
    return _GUESTS[id(subject)]


@contextlib.contextmanager
def _half_of(guest: _Guest) -> Iterator[tuple[Frozen, KernelHalf]]:
    """The guest's kernel half, while it is stopped."""
    with guest.subject.machine.frozen() as frozen:
        snapshot = frozen.snapshot()
        note = guest.before.note_of(frozen.memory.read)
        view = guest_view(guest.subject, guest.before, guest.after, note)
        devices = frozen.device_ranges()
        regime = kernel_regime(snapshot)
        yield frozen, KernelHalf.of(regime, frozen.memory.read, snapshot.ram, devices=devices, view=view)


@contextlib.contextmanager
def _planted(frozen: Frozen, half: KernelHalf, words: Words) -> Iterator[KernelHalf]:
    """Write descriptors, look at the tables again, and write back what was there."""
    memory = frozen.memory
    kept = {pa: memory.read(pa, 8) for pa in words}
    try:
        for pa, word in words.items():
            memory.write(pa, word.to_bytes(8, "little"))
        yield KernelHalf.of(half.regime, memory.read, half.ram, devices=half.devices, view=half.view)
    finally:
        for pa, data in kept.items():
            memory.write(pa, data)


def _found(guest: _Guest, fault: Fault) -> tuple[KernelTables, int]:
    """What the check finds with the fault planted, and the address at which it must."""
    with _half_of(guest) as (frozen, half):
        addresses = fault.place(half)
        walks = [walk(half.regime, frozen.memory.read, va).chain for va in addresses]
        where = addresses[0]
        if fault.above:
            where &= -(1 << half.regime.geometry.size_log2(walks[0][-2].level))
        with _planted(frozen, half, fault.change(half, walks)) as corrupted:
            return check_kernel_tables(corrupted), where


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_is_seen_where_it_is(guest: _Guest, fault: Fault) -> None:
    """The detector that the table names finds the fault at its address, and so does the kernel's dump."""
    found, where = _found(guest, fault)
    said = [str(finding) for finding in found.findings]
    assert any(fault.seen_by in each and f"{where:#x}" in each for each in said), (hex(where), said)
    if fault.in_dump and guest.subject.option("PTDUMP_DEBUGFS") == "y":
        assert any(each.startswith(f"kernel_page_tables at {where:#x}") for each in said), (hex(where), said)


def test_nothing_planted_is_nothing_found(guest: _Guest) -> None:
    """The control: a descriptor written back as it was is no fault, to any detector."""
    control = Fault(name="none", place=_linear_page, change=_unchanged, seen_by="")
    found, _ = _found(guest, control)
    assert [str(finding) for finding in found.findings] == []
    assert found.compared > 30
    assert found.leaves > 5000
