"""Faults planted in a live process's tables are found, each by the detector that is there for it.

The table is `FAULTS`: class, place, what is done to the descriptor, and what must say so. All are planted one
after the other while the guest is stopped, looked at, and taken back before it goes on: the guest's own view
of its memory, which some detectors need, is that of a sound process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.check.user_tables import Captured, capture, check_user_tables
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.smoke.user_tables import Caught, catch, holding, observe, settle
from harness.spec import Accel
from harness.verdict import Finding
from harness.vmsa import Fault as WalkFault
from harness.vmsa import Regime, walk

USER, READ_ONLY, AF, NG = 1 << 6, 1 << 7, 1 << 10, 1 << 11
GP, DBM, CONTIGUOUS, PXN, UXN, PXN_TABLE = 1 << 50, 1 << 51, 1 << 52, 1 << 53, 1 << 54, 1 << 59

LACKING = {
    "debian-4k": {"guarded"},
    "debian-16k": {"hugetlb-cont-pmd"},
    "trimmed-64k": {"hugetlb-cont-pmd", "hugetlb-pmd", "folio-pmd"},
}
"""What a guest cannot have: a Neoverse N1 lacks BTI, and memory is less than such pages want."""

CELLS = (("debian-4k", "neoverse-n1"), ("debian-16k", "max"), ("trimmed-64k", "max"))


def _clear(bits: int) -> Callable[[int, Regime, int], int]:
    return lambda word, regime, level: word & ~bits


def _set(bits: int) -> Callable[[int, Regime, int], int]:
    return lambda word, regime, level: word | bits


def _flip(bits: int) -> Callable[[int, Regime, int], int]:
    return lambda word, regime, level: word ^ bits


def _memory_type(index: int) -> Callable[[int, Regime, int], int]:
    return lambda word, regime, level: word & ~(0b111 << 2) | index << 2


def _elsewhere(word: int, regime: Regime, level: int) -> int:
    """The next page or block."""
    return word ^ 1 << regime.geometry.size_log2(level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One fault: a row of the table."""

    kind: str
    place: str
    """The mapping, by the name that `probe hold` gives it; `hole` is an address that has no range."""
    change: Callable[[int, Regime, int], int]
    """The new descriptor, from the old one, the regime and the level."""
    detector: str
    """What must say so: part of the finding's text."""
    entry: int = 0
    """Which of the mapping's descriptors; the fault must be told at its address."""
    up: int = 0
    """How many levels above the leaf: 1 is the table descriptor that leads to its table."""
    whole_group: bool = False
    """In all descriptors of the contiguous group that starts there."""
    alone: bool = True
    """Every finding names this address; a table's fault may show in all that is below it."""


MAPPED, VMA, GROUP = "present to the kernel and not mapped", "in a range that is not", "contiguous group"
FAULTS = (
    *(
        Planted(kind="executable at EL1, by the leaf", place=place, change=_clear(PXN), detector="PXN clear")
        for place in ("private", "executable", "file", "zero", "stack", "folio-pmd", "hugetlb-cont-pte")
    ),
    *(
        Planted(
            kind="executable at EL1, by its tables", place=place, change=_clear(PXN_TABLE), up=up,
            detector="PXNTable clear",
        )
        for place, up in (("private", 1), ("hugetlb-cont-pte", 1), ("private", 2), ("stack", 2))
    ),
    *(
        Planted(
            kind="wrong output address", place=place, change=_elsewhere, entry=entry,
            detector="output address",
        )
        for place, entry in (
            ("private", 1), ("memfd", 2), ("zero", 3), ("folio-cont-pte", 3), ("folio-pmd", 0),
            ("hugetlb-pmd", 0), ("hugetlb-cont-pmd", 5),
        )
    ),
    *(
        Planted(kind="valid bit cleared", place=place, change=_clear(1), entry=1, detector=MAPPED)
        for place in ("private", "read", "executable", "file", "folio-cont-pte", "hugetlb-cont-pmd")
    ),
    *(
        Planted(kind="valid bit cleared", place=place, change=_clear(1), detector=MAPPED)
        for place in ("folio-pmd", "hugetlb-pmd")
    ),
    *(
        Planted(
            kind="read-only page writable", place=place, change=_clear(READ_ONLY), detector="writable " + VMA
        )
        for place in ("read", "executable", "memfd-read", "file")
    ),
    Planted(
        kind="read-only page writable, by DBM", place="read", change=_set(DBM), detector="writable " + VMA
    ),
    Planted(
        kind="zero page writable", place="zero", change=_clear(READ_ONLY), detector="the zero page, writable"
    ),
    *(
        Planted(kind="data executable", place=place, change=_clear(UXN), detector="executable " + VMA)
        for place in ("private", "stack", "read", "folio-pmd")
    ),
    Planted(
        kind="inaccessible page accessible", place="guard", change=_set(USER | 0b11),
        detector="accessible to EL0 " + VMA,
    ),
    Planted(
        kind="inaccessible page accessible", place="guard", change=_set(USER | 0b11),
        detector="mapped without a right to it",
    ),
    Planted(
        kind="page closed to EL0", place="private", change=_clear(USER),
        detector="not accessible to EL0 in a range that is",
    ),
    *(
        Planted(kind=f"memory type {what}", place=place, change=_memory_type(index), detector="memory type")
        for what, index in (("Device-nGnRnE", 3), ("Normal Non-cacheable", 2))
        for place in ("private", "folio-pmd", "hugetlb-cont-pte")
    ),
    Planted(kind="guarded page", place="private", change=_flip(GP), detector="guarded (BTI)"),
    Planted(kind="guarded page", place="guarded", change=_flip(GP), detector="guarded (BTI)"),
    Planted(kind="global page", place="private", change=_clear(NG), detector="global (nG clear)"),
    *(
        Planted(kind=f"contiguous group: {what}", place=place, change=change, entry=3, detector=GROUP)
        for what, change in (
            ("a member without the bit", _clear(CONTIGUOUS)),
            ("a member elsewhere", _elsewhere),
            ("a member missing", _clear(1)),
            ("a member unlike the others", _memory_type(2)),
        )
        for place in ("folio-cont-pte", "hugetlb-cont-pte", "hugetlb-cont-pmd")
    ),
    *(
        Planted(
            kind="page size: a group taken apart", place=place, change=_clear(CONTIGUOUS), whole_group=True,
            detector=detector,
        )
        for place, detector in (
            ("hugetlb-cont-pte", "hugetlb's KernelPageSize"),
            ("hugetlb-cont-pmd", "hugetlb's KernelPageSize"),
            ("folio-cont-pte", "backing of 'folio-cont-pte'"),
        )
    ),
    Planted(
        kind="page size: a group made of a page", place="hugetlb-pmd", change=_set(CONTIGUOUS),
        detector="hugetlb's KernelPageSize", alone=False,
    ),
    Planted(
        kind="page size: a group made of a page", place="private", change=_set(CONTIGUOUS),
        detector="part of something large, and alone", alone=False,
    ),
    Planted(
        kind="page size: a block in place of a table", place="private", change=_clear(0b10), up=1,
        detector="has no range", alone=False,
    ),
    Planted(
        kind="mapping where there is no range", place="hole", change=_set(0),
        detector="/proc/PID/maps has no range",
    ),
    Planted(
        kind="mapping of a page that is not there", place="inaccessible", change=_set(0),
        detector="mapped and not present",
    ),
    Planted(
        kind="table that is none", place="private", change=_set(0), up=1, detector="KPF_PGTABLE", alone=False
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the check said of a planted fault."""

    va: int
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Planter:
    """Plants faults in the tables of a process that was caught."""

    caught: Caught
    places: dict[str, int]

    def descriptor(self, va: int, up: int) -> tuple[int, int, int]:
        """Where the descriptor of an address is, what it is, and its level."""
        found = walk(self.caught.regime, self.caught.frozen.memory.read, va)
        step = found.chain[-1 - up]
        assert step.word is not None
        return step.pa, step.word, step.level

    def write(self, pa: int, word: int) -> None:
        """Store a descriptor."""
        self.caught.frozen.memory.write(pa, word.to_bytes(8, "little"))

    def plant(self, fault: Planted) -> tuple[int, Captured] | None:
        """The tables with the fault, and where it is; None where the process lacks the place."""
        if fault.place not in self.places or not self._possible(fault):
            return None
        regime = self.caught.regime
        _, _, leaf_level = self.descriptor(self.places[fault.place], 0)
        step = 1 << regime.geometry.size_log2(leaf_level)
        undo: list[tuple[int, int]] = []
        start = self.places[fault.place] + fault.entry * step
        count = 1 << regime.geometry.contiguous_log2(leaf_level) if fault.whole_group else 1
        for number in range(count):
            pa, word, level = self.descriptor(start + number * step, fault.up)
            undo.append((pa, word))
            self.write(pa, fault.change(self._word(fault, word), regime, level))
            if number == 0 and fault.up:
                start &= -(1 << regime.geometry.size_log2(level))
        captured = capture(regime, self.caught.frozen.memory.read)
        for pa, word in undo:
            self.write(pa, word)
        return start, captured

    def _possible(self, fault: Planted) -> bool:
        """Three levels of tables are the least that a process has; two lead to a table above the last."""
        regime = self.caught.regime
        return fault.up < 4 - regime.start_level and (fault.detector != "writable " + VMA or regime.hd)

    def _word(self, fault: Planted, word: int) -> int:
        """The descriptor to start from: of another page where there is none at the place."""
        if fault.place in ("hole", "inaccessible"):
            return self.descriptor(self.places["private"], 0)[1]
        if fault.kind == "table that is none":
            form, lo = self.caught.regime.address_format, self.caught.regime.geometry.granule_log2
            page = self.descriptor(self.places["memfd"], 0)[1]
            return word & ~form.mask(lo) | page & form.mask(lo)
        return word


def _hole(
    regime: Regime, read: Callable[[int, int], bytes], process_ends: list[int], starts: set[int]
) -> int:
    """An address that no range has, with a table for it all the same."""
    for va in process_ends:
        found = walk(regime, read, va)
        if va not in starts and isinstance(found, WalkFault) and found.level == 3:
            return va
    raise AssertionError("no hole has a table of its own")


def _examine(subject: Subject) -> tuple[dict[Planted, Told], Told]:
    """Plant every fault; what was said of each, and of the sound tables after all of them."""
    with holding(subject) as (held, nonce):
        assert held is not None, nonce
        before = observe(subject, held)
        with catch(subject, held, nonce) as caught:
            assert isinstance(caught, Caught), caught
            read = caught.frozen.memory.read
            clean = capture(caught.regime, read)
            places = {one.name: one.start_va for one in held.mappings}
            vmas = [one.vma for one in before.smaps]
            places["hole"] = _hole(
                caught.regime, read, [vma.end_va for vma in vmas], {vma.start_va for vma in vmas}
            )
            planter = Planter(caught=caught, places=places)
            planted = {fault: planter.plant(fault) for fault in FAULTS}
            assert capture(caught.regime, read).tables == clean.tables, "a fault was not taken back"
        found = {fault: one for fault, one in planted.items() if one is not None}
        process = settle(subject, held, before, [clean, *(captured for _, captured in found.values())])
    told = {
        fault: Told(va=va, findings=check_user_tables(captured, process).findings)
        for fault, (va, captured) in found.items()
    }
    return told, Told(va=0, findings=check_user_tables(clean, process).findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One guest, in which every fault was planted."""

    kernel: str
    told: dict[Planted, Told]
    sound: Told


@pytest.fixture(scope="module", params=CELLS, ids=lambda cell: "-".join(cell))
def examined(request: pytest.FixtureRequest, granule_bench: Bench, granule_kernels: KernelStore) -> Examined:
    """One guest per page size, in which every fault was planted."""
    kernel, cpu = request.param
    if not granule_kernels.available(kernel):
        pytest.skip(f"{kernel} is not in the cache: granule kernels fetch {kernel}")
    outcome: list[tuple[dict[Planted, Told], Told]] = []

    def check(subject: Subject, evidence: Evidence) -> None:
        """Faults in a process's tables."""
        outcome.append(_examine(subject))
        evidence.checked(1)

    asked = Request(kernels=(kernel,), cpus=(cpu,), accel=Accel.TCG, checks=(Check(run=check),))
    (cell,) = plan(asked, granule_kernels, granule_bench.qemu).cells
    result = run_cell(cell, granule_kernels.get(kernel), granule_bench, lambda _: None)
    assert outcome, result.reason
    # Nothing that was planted is left: the guest ends as others do.
    assert result.verdict.is_pass, result.reason
    told, sound = outcome[0]
    return Examined(kernel=kernel, told=told, sound=sound)


def _name(fault: Planted) -> str:
    above = f", {fault.up} up" if fault.up else ""
    return f"{fault.kind} @ {fault.place}{above}".replace("-", "_").replace(" ", "-")


@pytest.mark.parametrize("fault", FAULTS, ids=_name)
def test_a_planted_fault_is_found(examined: Examined, fault: Planted) -> None:
    """The detector that is there for a fault tells of it, at its address."""
    told = examined.told
    if fault not in told:
        assert fault.place in LACKING[examined.kernel] or fault.up, f"the process holds no {fault.place}"
        pytest.skip(f"there is no {fault.place} in this cell, or no level for the fault")
    one = told[fault]
    assert any(
        fault.detector in finding.what and f"{one.va:#x}" in finding.seen for finding in one.findings
    ), "\n".join(map(str, (f"planted at {one.va:#x}", *one.findings)))
    if fault.alone:
        elsewhere = [str(finding) for finding in one.findings if f"{one.va:#x}" not in finding.seen]
        assert not elsewhere, "\n".join(elsewhere)


def test_the_sound_process_has_no_finding(examined: Examined) -> None:
    """The control: with every fault taken back nothing is found."""
    assert examined.sound.findings == ()
