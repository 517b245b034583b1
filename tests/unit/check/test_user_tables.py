"""A process's tables against its kernel's words, on built tables: what must be seen, and where.

The rules of harness.check.user_pages, user_rules and user_groups are tested through it: each fault is planted
in a process that is sound otherwise, at each granule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.check.user_tables import (
    Backing,
    Captured,
    Held,
    HeldMapping,
    Observed,
    Process,
    UserTables,
    ask_walker,
    capture,
    check_answers,
    check_user_tables,
)
from harness.linux.kpageflags import PageFlag
from harness.linux.maps import Vma
from harness.linux.pagemap import Pages
from harness.linux.smaps import Smap
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

ARENA_PA, FRAMES_PA = 0x4100_0000, 0x4400_0000
PRESENT, FILE, SWAPPED = 1 << 63, 1 << 61, 1 << 62
PXN_TABLE, CONTIGUOUS = 1 << 59, 1 << 52
NORMAL, DEVICE, TAGGED = 0, 1, 2
MAIR = 0xFF | 0x00 << 8 | 0xF0 << 16

READ = leaf_attributes(ap=0b11, pxn=True, uxn=True, ng=True)
WRITE = leaf_attributes(ap=0b01, pxn=True, uxn=True, ng=True, dbm=True)
CODE = leaf_attributes(ap=0b11, pxn=True, ng=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A mapping of the sound process."""

    va: int
    prot: str
    attributes: int
    pages: int = 4
    level: int = 3
    contiguous: bool = False
    flags: int = int(PageFlag.ANON)
    vm_flags: frozenset[str] = frozenset()
    backing: Backing = Backing.PAGE


@dataclass
class Guest:
    """A process that is sound until somebody spoils it."""

    builder: TableBuilder
    rows: dict[str, Row]
    frames: dict[str, int]
    smaps: list[Smap] = field(default_factory=list)
    words: dict[int, tuple[int, int]] = field(default_factory=dict)
    later: dict[int, tuple[int, int]] | None = None
    table_flags: int = int(PageFlag.PGTABLE)

    @property
    def page(self) -> int:
        """Bytes of a page."""
        return 1 << self.builder.regime.geometry.granule_log2

    def process(self) -> Process:
        """As the kernel tells of it."""
        regime = self.builder.regime
        frames = {link.table.next_pa >> regime.geometry.granule_log2 for link in self.captured().links}
        return Process(
            held=Held(
                pid=1,
                mappings=tuple(
                    HeldMapping(
                        name=name,
                        start_va=row.va,
                        size_bytes=row.pages * self.page,
                        protection=row.prot,
                        backing=row.backing,
                    )
                    for name, row in self.rows.items()
                ),
                absent=(),
            ),
            before=Observed(smaps=tuple(self.smaps), pages=_pages(self.words)),
            after=Observed(
                smaps=tuple(self.smaps), pages=_pages(self.words if self.later is None else self.later)
            ),
            table_flags=dict.fromkeys(frames, self.table_flags),
            tables_are_pxn=True,
            folds=True,
        )

    def captured(self) -> Captured:
        """Its tables."""
        return capture(self.builder.regime, self.builder.read)

    def check(self) -> UserTables:
        """The check."""
        return check_user_tables(self.captured(), self.process())

    def said(self) -> list[str]:
        """Findings as text."""
        return [str(finding) for finding in self.check().findings]

    def entry(self, name: str, number: int = 0) -> tuple[int, int, int]:
        """Address, level and word of one of a mapping's descriptors."""
        row, geometry = self.rows[name], self.builder.regime.geometry
        va = row.va + (number << geometry.size_log2(row.level))
        found = walk(self.builder.regime, self.builder.read, va)
        assert found.chain[-1].word is not None
        return va, row.level, found.chain[-1].word

    def change(self, name: str, change: Callable[[int], int], number: int = 0) -> int:
        """Change a descriptor; returns its address."""
        va, level, word = self.entry(name, number)
        self.builder.plant(va, level, change(word))
        return va


def _pages(words: dict[int, tuple[int, int]]) -> Pages:
    vas = sorted(words)
    return Pages(
        va=np.array(vas, np.uint64),
        word=np.array([words[va][0] for va in vas], np.uint64),
        flags=np.array([words[va][1] for va in vas], np.uint64),
    )


def _rows(regime: Regime) -> dict[str, Row]:
    geometry = regime.geometry
    block = 1 << geometry.size_log2(2)
    group = 1 << geometry.contiguous_log2(3)
    per_block = block >> geometry.granule_log2
    large = int(PageFlag.ANON | PageFlag.COMPOUND_HEAD | PageFlag.THP)
    huge = int(PageFlag.HUGE | PageFlag.COMPOUND_HEAD)
    hugetlb = frozenset({"ht"})
    return {
        "code": Row(va=2 * block, prot="r-x", attributes=CODE),
        "data": Row(va=3 * block, prot="rw-", attributes=WRITE),
        "read": Row(va=4 * block, prot="r--", attributes=READ),
        "zero": Row(
            va=5 * block, prot="rw-", attributes=READ, flags=int(PageFlag.ZERO_PAGE), backing=Backing.ZERO
        ),
        "folio": Row(
            va=6 * block, prot="rw-", attributes=WRITE, pages=group, contiguous=True, flags=large,
            backing=Backing.CONT_PTE,
        ),
        "hugetlb": Row(
            va=7 * block, prot="rw-", attributes=WRITE, pages=group, contiguous=True, flags=huge,
            vm_flags=hugetlb, backing=Backing.CONT_PTE,
        ),
        "huge": Row(
            va=8 * block, prot="rw-", attributes=WRITE, pages=per_block, level=2, flags=large,
            backing=Backing.PMD,
        ),
        "hidden": Row(va=9 * block, prot="---", attributes=READ, pages=1, backing=Backing.HIDDEN),
        "empty": Row(va=10 * block, prot="---", attributes=READ, backing=Backing.EMPTY),
        "guarded": Row(
            va=11 * block, prot="r-x", attributes=CODE | 1 << 50, vm_flags=frozenset({"bt"})
        ),
        "tagged": Row(
            va=12 * block, prot="rw-", attributes=WRITE | TAGGED << 2, vm_flags=frozenset({"mt"})
        ),
    }  # fmt: skip


def _smap(row: Row, page: int) -> Smap:
    size = row.pages * page
    return Smap(
        vma=Vma(
            start_va=row.va,
            end_va=row.va + size,
            readable="r" in row.prot,
            writable="w" in row.prot,
            executable="x" in row.prot,
            shared=False,
            offset_bytes=0,
            inode=0,
            name="",
        ),
        sizes_bytes={
            "KernelPageSize": size if "ht" in row.vm_flags else page,
            "AnonHugePages": size if row.level == 2 else 0,
        },
        flags=row.vm_flags,
    )


def _make(granule_log2: int) -> Guest:
    registers = registers_for(granule_log2=granule_log2, txsz=16, mair=MAIR, tcr=0b11 << 39)
    regime = derive(registers, VaRange.LOWER)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, ARENA_PA)
    guest = Guest(builder=builder, rows=_rows(regime), frames={})
    block = 1 << regime.geometry.size_log2(2)
    pa = -(-FRAMES_PA // block) * block
    for name, row in guest.rows.items():
        size = row.pages * guest.page
        guest.smaps.append(_smap(row, guest.page))
        guest.frames[name] = pa
        if row.backing is Backing.EMPTY:
            continue
        builder.map(row.va, pa, size, attributes=row.attributes, level=row.level, contiguous=row.contiguous)
        for at in range(0, size, guest.page):
            guest.words[row.va + at] = (PRESENT | (pa + at) // guest.page, row.flags)
        if row.backing is Backing.HIDDEN:
            guest.change(name, lambda word: word & ~1)
        pa += block
    for row in guest.rows.values():
        if row.backing is not Backing.EMPTY:
            for level in range(regime.start_level, row.level):
                builder.add_table_bits(row.va, level, PXN_TABLE)
    return guest


@pytest.fixture(params=[12, 14, 16])
def guest(request: pytest.FixtureRequest) -> Guest:
    """A sound process, at each granule."""
    return _make(request.param)


def test_a_sound_process_has_no_finding(guest: Guest) -> None:
    """Every leaf and page is counted, and nothing is found."""
    found = guest.check()
    assert found.findings == ()
    assert found.pages == len(guest.words)
    assert found.leaves == len(guest.words) - 1 - (guest.rows["huge"].pages - 1)
    assert found.unstable == 0


def _set(bits: int) -> Callable[[int], int]:
    return lambda word: word | bits


def _clear(bits: int) -> Callable[[int], int]:
    return lambda word: word & ~bits


def _device(word: int) -> int:
    return word & ~(0b111 << 2) | DEVICE << 2


FAULTS = (
    ("data", 0, _clear(1 << 53), "PXN clear"),
    ("huge", 0, _clear(1 << 53), "PXN clear"),
    ("data", 1, _clear(1 << 54), "executable in a range that is not"),
    ("code", 1, _set(1 << 54), "not executable in a range that is"),
    ("read", 2, _clear(1 << 7), "writable in a range that is not"),
    ("read", 2, _set(1 << 51), "writable in a range that is not"),
    ("zero", 2, _clear(1 << 7), "the zero page, writable"),
    ("data", 3, _clear(1 << 6), "not accessible to EL0 in a range that is"),
    ("hidden", 0, _set(1), "mapped without a right to it"),
    ("hidden", 0, _set(1), "accessible to EL0 in a range that is not"),
    ("hidden", 0, lambda word: word ^ 1 << 25, "the descriptor is not its page's"),
    ("data", 1, _clear(1), "present to the kernel and not mapped"),
    ("huge", 0, _clear(1), "present to the kernel and not mapped"),
    ("data", 1, lambda word: word ^ 1 << 20, "output address that is not the page's"),
    ("data", 1, lambda word: word ^ 1 << 26, "output address that is not the page's"),
    ("read", 0, _clear(1 << 6), "not accessible to EL0 in a range that is"),
    ("folio", 3, lambda word: word ^ 1 << 24, "output address that is not the page's"),
    ("folio", 3, lambda word: word ^ 1 << 24, "broken contiguous group"),
    ("folio", 3, _clear(1), "broken contiguous group"),
    ("folio", 0, _clear(CONTIGUOUS), "broken contiguous group"),
    ("hugetlb", 3, _device, "broken contiguous group"),
    ("hugetlb", 3, _clear(CONTIGUOUS), "size that is not hugetlb's KernelPageSize"),
    ("data", 0, _set(CONTIGUOUS), "mapped as part of something large, and alone"),
    ("data", 0, _device, "memory type that is not Normal write-back"),
    ("data", 0, lambda word: word | TAGGED << 2, "tagged (MTE) unlike their range"),
    ("tagged", 0, _clear(0b111 << 2), "tagged (MTE) unlike their range"),
    ("data", 0, _clear(0b11 << 8), "not inner shareable"),
    ("data", 0, _set(1 << 50), "guarded (BTI) unlike their range"),
    ("guarded", 0, _clear(1 << 50), "guarded (BTI) unlike their range"),
    ("data", 0, _clear(1 << 11), "global (nG clear)"),
)


@pytest.mark.parametrize(("name", "number", "change", "what"), FAULTS)
def test_a_fault_is_found_at_its_address(
    guest: Guest, name: str, number: int, change: Callable[[int], int], what: str
) -> None:
    """A descriptor that is wrong is told by the rule that is there for it, with its address and its value."""
    va = guest.change(name, change, number)
    _, _, word = guest.entry(name, number)
    said = [each for each in guest.said() if what in each]
    assert said
    assert all(f"{va:#x}" in each for each in said)
    assert all(f"{word:#x}" in each for each in said)


@pytest.mark.parametrize("what", ["broken contiguous group", "output address that is not the page's"])
def test_a_member_elsewhere_in_its_group(guest: Guest, what: str) -> None:
    """An address that is wrong within its group only is told, though hardware may not use it."""
    va = guest.change("folio", lambda word: word ^ guest.page, 3)
    assert any(what in each and f"{va:#x}" in each for each in guest.said())


@pytest.mark.parametrize("level", [1, 2])
def test_pxntable_counts_at_each_level(guest: Guest, level: int) -> None:
    """A table descriptor without PXNTable is told though another above or below it has the bit."""
    row = guest.rows["data"]
    step = walk(guest.builder.regime, guest.builder.read, row.va).chain[level - 4]
    assert step.word is not None
    guest.builder.plant(row.va, step.level, step.word & ~PXN_TABLE)
    (said,) = guest.said()
    assert "PXNTable clear" in said
    assert f"{step.word & ~PXN_TABLE:#x} at {step.pa:#x}" in said


def test_older_kernels_leave_pxntable_out(guest: Guest) -> None:
    """Before 5.13 PXNTable was not set above user addresses, and that is no finding."""
    row = guest.rows["data"]
    va_level = guest.builder.regime.start_level
    guest.builder.plant(row.va, va_level, _top(guest, row.va) & ~PXN_TABLE)
    process = replace(guest.process(), tables_are_pxn=False)
    assert check_user_tables(guest.captured(), process).findings == ()


def _top(guest: Guest, va: int) -> int:
    word = walk(guest.builder.regime, guest.builder.read, va).chain[0].word
    assert word is not None
    return word


def test_a_mapping_without_a_range_is_found(guest: Guest) -> None:
    """A leaf where /proc/PID/maps has nothing is told, at its address."""
    va = guest.rows["data"].va + 8 * guest.page
    guest.builder.plant(va, 3, guest.entry("data")[2])
    said = guest.said()
    assert any("mapped where /proc/PID/maps has no range" in each and f"{va:#x}" in each for each in said)


def test_a_mapping_of_an_absent_page_is_found(guest: Guest) -> None:
    """A leaf in a range whose page the kernel does not have is told, and so is what lies in swap."""
    va = guest.rows["data"].va + guest.page
    del guest.words[va]
    assert any("mapped and not present to the kernel" in each and f"{va:#x}" in each for each in guest.said())
    guest.words[va] = (SWAPPED | 5 << 5, 0)
    assert any("in swap, and mapped" in each and f"{va:#x}" in each for each in guest.said())


def test_huge_pages_that_smaps_does_not_have(guest: Guest) -> None:
    """A block where smaps counts no huge page is told, and so is the reverse."""
    wrong = [
        replace(one, sizes_bytes={**one.sizes_bytes, "AnonHugePages": 0}) if one.pmd_mapped_bytes else one
        for one in guest.smaps
    ]
    guest.smaps = wrong
    (said,) = guest.said()
    assert "huge pages unlike smaps" in said
    assert f"{guest.rows['huge'].va:#x}" in said


def test_tables_that_are_none_to_the_kernel(guest: Guest) -> None:
    """Frames of tables without KPF_PGTABLE are told."""
    guest.table_flags = 0
    (said,) = guest.said()
    assert "KPF_PGTABLE" in said


def test_kpageflags_and_maps_disagree_on_hugetlb(guest: Guest) -> None:
    """A frame of hugetlb in a range that is not hugetlb's is told."""
    va = guest.rows["data"].va
    guest.words[va] = (guest.words[va][0], int(PageFlag.HUGE))
    (said,) = guest.said()
    assert "of hugetlb in maps or in kpageflags" in said
    assert f"{va:#x}" in said


def test_what_changed_meanwhile_is_not_compared(guest: Guest) -> None:
    """A page that moved between the two readings is counted and not held against the tables."""
    va = guest.rows["data"].va
    guest.later = {**guest.words, va: (PRESENT | 7, 0)}
    found = guest.check()
    assert found.findings == ()
    assert found.unstable == 1


def test_too_much_change_is_a_finding(guest: Guest) -> None:
    """When a large share of the pages changed, nothing was shown."""
    guest.later = {va: (word ^ 1, flags) for va, (word, flags) in guest.words.items()}
    assert any("changed while they were looked at" in each for each in guest.said())


def test_dirty_state_and_access_flags_may_differ_in_a_group(guest: Guest) -> None:
    """AF, and with DBM the read-only bit, are hardware's to write to one member of a group."""
    guest.change("folio", _clear(1 << 10), 1)
    guest.change("folio", _set(1 << 7), 2)
    guest.change("folio", _set(1 << 55), 3)
    assert guest.said() == []


def test_backing_is_judged(guest: Guest) -> None:
    """A mapping that should be a contiguous group and is pages is told; older kernels do not fold folios."""
    row = guest.rows["folio"]
    for number in range(row.pages):
        guest.change("folio", _clear(CONTIGUOUS), number)
    (said,) = guest.said()
    assert "backing of 'folio'" in said
    assert f"{row.va:#x}" in said
    assert check_user_tables(guest.captured(), replace(guest.process(), folds=False)).findings == ()


@pytest.mark.parametrize("number", [0, 4])
def test_a_kernel_of_which_it_is_not_known_whether_it_folds(guest: Guest, number: int) -> None:
    """Folios in contiguous groups are as good as folios in pages where no configuration tells."""
    for one in range(number and guest.rows["folio"].pages):
        guest.change("folio", _clear(CONTIGUOUS), one)
    assert check_user_tables(guest.captured(), replace(guest.process(), folds=None)).findings == ()


def test_tables_that_the_kernel_was_silent_about(guest: Guest) -> None:
    """Frames of tables that kpageflags did not answer for are told: nobody looked at them."""
    found = check_user_tables(guest.captured(), replace(guest.process(), table_flags={}))
    (finding,) = found.findings
    assert "kpageflags said nothing" in finding.what


def test_nothing_is_no_pass(guest: Guest) -> None:
    """A process without leaves is a finding: something else was read."""
    regime = guest.builder.regime
    empty = capture(regime, TableBuilder(regime, ARENA_PA).read)
    found = check_user_tables(empty, guest.process())
    assert any("leaves and pages" in str(finding) for finding in found.findings)


def test_answers_of_a_second_walker(guest: Guest) -> None:
    """A walker that agrees is no finding, and each address on which it differs is one."""
    captured = guest.captured()

    def model(vas: Sequence[int]) -> list[int | None]:
        found = [walk(guest.builder.regime, guest.builder.read, va) for va in vas]
        return [one.pa if isinstance(one, Translation) else None for one in found]

    answers = ask_walker(captured, model)
    assert len(answers) > 20
    assert list(check_answers(captured, answers)) == []
    wrong = tuple((va, None if pa is not None else 0x1000) for va, pa in answers)
    assert len(list(check_answers(captured, wrong))) == len(answers)


def test_a_page_that_nobody_has_looked_at(guest: Guest) -> None:
    """Where software sets the access flag a walker that leaves it alone translates a page without it."""
    va = guest.change("data", _clear(1 << 10))
    captured = guest.captured()
    captured = replace(captured, regime=replace(captured.regime, ha=False, hd=False))
    pa = guest.words[va][0] % (1 << 55) * guest.page
    assert list(check_answers(captured, ((va, pa),))) == []
    (said,) = check_answers(captured, ((va, None),))
    assert said.wanted == f"{pa:#x}"


@settings(max_examples=60, deadline=None)
@given(
    granule=st.sampled_from([12, 14, 16]),
    noise=st.lists(
        st.tuples(
            st.sampled_from(["data", "folio", "huge", "hidden", "hugetlb"]),
            st.integers(0, 3),
            st.integers(0, (1 << 64) - 1),
        ),
        max_size=6,
    ),
    words=st.dictionaries(
        st.integers(0, (1 << 64) - 1),
        st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)),
        max_size=8,
    ),
    start=st.integers(0, (1 << 64) - 1),
)
def test_total(
    granule: int, noise: list[tuple[str, int, int]], words: dict[int, tuple[int, int]], start: int
) -> None:
    """Whatever the tables hold and the kernel says, there is an answer."""
    guest = _make(granule)
    for name, level, word in noise:
        if level < guest.builder.regime.start_level:
            continue
        pa = walk(guest.builder.regime, guest.builder.read, guest.rows[name].va).chain[-1].pa
        at = pa - guest.builder.arena_pa
        guest.builder._arena[at : at + 8] = word.to_bytes(8, "little")
    guest.words |= words
    vma = replace(guest.smaps[0].vma, start_va=start, end_va=min(start + 4096, (1 << 64) - 1))
    guest.smaps.append(Smap(vma=vma))
    guest.check()
