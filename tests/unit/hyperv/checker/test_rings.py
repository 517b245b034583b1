"""Tests of harness.hyperv.checker.rings and synic: each rule broken by a driver that makes the mistake."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from harness.hyperv.violation import Rule

# The fixture's maker of Watched guests: tests have no package to import it from.
Watch = Callable[..., Any]

HV = 4096
PAGES = pytest.mark.parametrize("page", [4096, 16384, 65536])
LARGE = pytest.mark.parametrize("page", [16384, 65536])
DRIVERS = pytest.mark.parametrize("driver", ["hv_utils", "storvsc", "netvsc"])
RING_RULES = {
    "vmbus.pages", "synic.pages", "gpadl.split", "gpadl.bytes", "gpadl.ram", "ring.downstream", "ring.steps",
    "ring.alignment", "ring.header",
}  # fmt: skip


@PAGES
@DRIVERS
def test_a_good_driver(watch: Watch, driver: str, page: int) -> None:
    """Rings as Linux makes them break nothing, and each rule that is due has compared something."""
    watched = watch(driver, page)
    watched.open()
    assert watched.broken == set()
    for name in RING_RULES | {f"{driver.removeprefix('hv_')}.ring"}:
        assert watched.compared(name) > 0, name


@LARGE
@pytest.mark.parametrize("driver", ["storvsc", "netvsc"])
def test_the_header_gap_is_forgotten(watch: Watch, driver: str, page: int) -> None:
    """hv_ring_gpadl_send_hvpgoffset() without the gap: the second ring is looked for where it is not."""
    watched = watch(driver, page)
    watched.open_badly(downstream=lambda ring: ring // HV)
    assert watched.broken == {"ring.downstream", "ring.header"}


@LARGE
def test_the_padding_is_shown(watch: Watch, page: int) -> None:
    """hv_gpadl_hvpfn() without the gap: the host's data begin in the header's padding."""
    watched = watch("storvsc", page)
    watched.open_badly(number=lambda pa, _ring, index: pa // HV + index)
    assert watched.broken == {"ring.steps", "ring.alignment", "ring.header"}


@LARGE
def test_the_second_gap_is_forgotten(watch: Watch, page: int) -> None:
    """hv_gpadl_hvpfn() with `<` for `<=`: one page too early for the second gap."""
    watched = watch("storvsc", page)
    gap = page - HV

    def number(pa: int, ring: int, index: int) -> int:
        split = (ring - gap) // HV
        gaps = 0 if index == 0 else gap if index < split else 2 * gap
        return (pa + gaps + index * HV) // HV

    watched.open_badly(number=number)
    assert {"ring.steps", "ring.alignment"} <= watched.broken


@LARGE
def test_page_numbers_of_the_guest(watch: Watch, page: int) -> None:
    """virt_to_hvpfn() that shifts by PAGE_SHIFT names pages that are not RAM."""
    watched = watch("storvsc", page)
    watched.open_badly(number=lambda pa, _ring, index: (pa + index * HV) // page)
    assert watched.broken == {"gpadl.ram"}


@LARGE
@DRIVERS
def test_a_ring_of_another_size(watch: Watch, driver: str, page: int) -> None:
    """A ring whose size was not made by VMBUS_RING_SIZE is not what the model wants."""
    watched = watch(driver, page)
    size = {"hv_utils": 12 << 10, "storvsc": 128 << 10, "netvsc": 128 * page}[driver]
    watched.open_badly(ring=-(-size // page) * page + (page if driver == "storvsc" and page == 16384 else 0))
    assert f"{driver.removeprefix('hv_')}.ring" in watched.broken


@LARGE
def test_a_ring_off_its_boundary(watch: Watch, page: int) -> None:
    """A ring that begins within a page of the guest's."""
    watched = watch("storvsc", page)
    watched.open_badly(shift=HV)
    assert watched.broken == {"ring.alignment"}


@PAGES
def test_a_header_that_was_not_initialised(watch: Watch, page: int) -> None:
    """Feature bits that are not set, or indices that are not 0, where the host looks."""
    watched = watch("storvsc", page)
    guest = watched.guest
    free = guest._free_pa - 0x4000_0000
    guest.ram[free : free + (2 << 20)] = b"\xfe" * (2 << 20)
    watched.open_badly()
    assert watched.broken == {"ring.header"}


@PAGES
def test_messages_split_otherwise(watch: Watch, page: int) -> None:
    """A list that is sent in smaller pieces than create_gpadl_header() makes."""
    watched = watch("storvsc", page)
    numbers = list(range(0x40100, 0x40100 + 40))
    head = struct.pack("<IIIIHHII", 8, 0, watched.relid, 0x900, 8 + 8 * 40, 1, 40 * HV, 0)
    watched.guest.post(head + struct.pack("<20Q", *numbers[:20]))
    watched.guest.post(struct.pack("<IIII", 9, 0, 0, 0x900) + struct.pack("<20Q", *numbers[20:]))
    assert watched.broken == {"gpadl.split"}


@LARGE
def test_bytes_that_count_the_guests_way(watch: Watch, page: int) -> None:
    """hv_gpadl_size() without the gap: a byte count for more pages than are listed."""
    watched = watch("storvsc", page)
    numbers = list(range(0x40100, 0x40100 + 16))
    size = 16 * HV + 2 * (page - HV)
    head = struct.pack("<IIIIHHII", 8, 0, watched.relid, 0x900, 8 + 8 * 16, 1, size, 0)
    watched.guest.post(head + struct.pack("<16Q", *numbers))
    assert "gpadl.bytes" in watched.broken
    assert watched.guest.log.counts[Rule.GPADL] == 1


@LARGE
@pytest.mark.parametrize("mistake", ["scattered", "odd", "off", "one of each"])
def test_a_buffer_of_other_pages(watch: Watch, page: int, mistake: str) -> None:
    """A buffer that is no sequence of whole guest pages, where netvsc shares one."""
    watched = watch("netvsc", page)
    watched.open()
    each = page // HV
    base = watched.guest.alloc(16 * page) // HV
    good = [base + index for index in range(8 * each)]
    assert watched.share(good)
    assert (watched.broken, watched.compared("buffer.runs")) == (set(), 1)
    numbers = {
        "scattered": [*good[:1], *reversed(good[1:])],
        "odd": good[:-1],
        "off": [number + 1 for number in good],
        "one of each": [base + index * each for index in range(8)] * 1,
    }[mistake]
    watched.share(numbers)
    assert watched.broken == {"buffer.runs"}


@PAGES
def test_trailers(watch: Watch, page: int) -> None:
    """A trailer that says another offset than the packet's: the ends disagree about the ring's size."""
    watched = watch("hv_utils", page)
    watched.open()
    watched.send(bytes(40))
    watched.send(bytes(40))
    assert (watched.broken, watched.compared("ring.trailer")) == (set(), 2)
    out = watched.opened.out
    old = out.word(0)
    raw = watched.build_packet(bytes(40))
    out.put(old, raw + struct.pack("<Q", old + page << 32))
    out.set_word(0, (old + len(raw) + 8) % out.size)
    watched.guest.signal(watched.connection)
    watched.guest.serve()
    assert watched.broken == {"ring.trailer"}


@LARGE
def test_utils_that_answer_with_a_guest_page(watch: Watch, page: int) -> None:
    """An IC answer of PAGE_SIZE where 4 KiB were meant."""
    watched = watch("hv_utils", page)
    watched.open()
    watched.send(bytes(4096))
    assert watched.broken == set()
    watched.send(bytes(5000))
    assert watched.broken == {"utils.packet"}


@LARGE
def test_pages_of_the_synic(watch: Watch, page: int) -> None:
    """SIMP by the guest's page number is not RAM, and two registers with one page are not two."""
    watched = watch("storvsc", page)
    assert watched.compared("synic.pages") == 2
    guest = watched.guest
    guest.set_register(0xA0013, (guest.simp[0] // page << 12) | 1)
    assert watched.broken == {"synic.pages"}
    assert not guest.memory.has_page(guest.simp[0] // page)
    before = len(watched.report.findings)
    guest.set_register(0xA0013, guest.siefp[0] | 1)
    assert len(watched.report.findings) == before + 1


@LARGE
@pytest.mark.parametrize("mistake", ["within a page", "the same", "not RAM"])
def test_pages_of_the_bus(watch: Watch, page: int, mistake: str) -> None:
    """Monitor pages that are not pages of the guest's own."""
    watched = watch("storvsc", page)
    first = watched.guest.alloc(page)
    pages = {
        "within a page": (first, first + HV),
        "the same": (first, first),
        "not RAM": (first, 0x1000),
    }[mistake]
    assert watched.broken == set()
    watched.contact(*pages)
    assert watched.broken == {"vmbus.pages"}


@pytest.mark.parametrize(("offset", "size", "broken"), [(0, 4096, False), (0, 16384, True), (8, 100, True)])
def test_crash_reports(watch: Watch, offset: int, size: int, broken: bool) -> None:
    """A report of more than one page of Hyper-V's, or not at the beginning of one."""
    watched = watch("storvsc", 16384)
    pa = watched.guest.alloc(16384) + offset
    watched.guest.set_register(0x213, pa)
    watched.guest.set_register(0x214, size)
    watched.guest.set_register(0x215, 3 << 62)
    assert watched.compared("crash.page") == 1
    assert ("crash.page" in watched.broken) == broken


def test_a_finding_says_all(watch: Watch) -> None:
    """Driver, rule, where in the source, what was seen and wanted: in the finding and in the log."""
    watched = watch("storvsc", 16384)
    watched.open_badly(downstream=lambda ring: ring // HV)
    said = str(watched.report.findings[0])
    for part in (
        "hv_vmbus breaks ring.downstream", "storvsc (channel 8)", "it is 0x20, and 0x1d was wanted",
        "drivers/hv/channel.c:68,712",
    ):  # fmt: skip
        assert part in said
    assert watched.guest.log.counts[Rule.PAGE_SIZE] == 2
    assert said in {violation.what for violation in watched.guest.log.violations}


def test_nothing_compared_is_no_pass(watch: Watch) -> None:
    """Without a channel's packets the rules of its driver are silent, and the report does not pass."""
    watched = watch("storvsc", 16384)
    watched.open()
    silent = {rule.name for rule in watched.report.silent}
    assert silent == {
        "storvsc.range", "storvsc.offset", "storvsc.count", "storvsc.ram", "storvsc.distinct",
        "storvsc.blocks", "storvsc.limit",
    }  # fmt: skip
    assert not watched.report.passed
    verdicts = {result.rule.name: result.verdict for result in watched.report.results}
    assert (verdicts["ring.steps"], verdicts["storvsc.ram"]) == ("passed", "nothing compared")


def test_other_violations_are_no_pass(watch: Watch) -> None:
    """What the bus itself refuses is counted, and the report does not pass."""
    watched = watch("hv_utils", 16384)
    watched.open()
    assert watched.report.silent == ()
    before = watched.report.other_violations
    watched.guest.post(struct.pack("<II", 3, 0))
    assert watched.report.other_violations == before + 1
    assert not watched.report.passed


def test_module_parameters(sim: Any) -> None:
    """With another ring size as module parameter, the model is told of it."""
    from harness.hyperv.checker import WireChecker

    device = sim.Recorder()
    guest = sim.guest(device, page=16384, size=32 << 20)
    (offer,) = guest.connect()
    checker = WireChecker(guest.log, guest.memory, 16384, payloads={"storvsc": 256 << 10})
    offer = offer[:8] + bytes.fromhex("d96361baa104294db60572e2ffb1dc7f") + offer[24:]
    checker.message(offer, from_guest=False)
    guest.open(offer, 256 << 10)
    assert checker.report().findings == ()
    (result,) = [each for each in checker.report().results if each.rule.name == "storvsc.ring"]
    assert result.comparisons == 1
