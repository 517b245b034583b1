"""Tests of harness.hyperv.checker.storage: each rule broken by a storvsc that makes the mistake."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.disk import ScsiDisk

Watch = Callable[..., Any]

HV = 4096
PAGES = pytest.mark.parametrize("page", [4096, 16384, 65536])
LARGE = pytest.mark.parametrize("page", [16384, 65536])
RULES = {"range", "offset", "count", "ram", "distinct", "blocks", "limit"}


class Stor:
    """storvsc_queuecommand() on a watched guest, once with each mistake that it is told to make."""

    def __init__(self, watched: Any) -> None:
        self.watched = watched
        self.buffer_pa = watched.guest.alloc(1 << 20)

    def request(
        self, *, offset: int = 512, length: int = 3 * 16384, opcode: int = 0x28,
        numbers: list[int] | None = None, range_offset: int | None = None,
        range_length: int | None = None, blocks: int | None = None, pad: bytes = b"", split: bool = False,
    ) -> None:  # fmt: skip
        start = self.buffer_pa + offset
        if numbers is None:
            numbers = list(range(start // HV, (start + length + HV - 1) // HV))
        cdb = struct.pack(">BBIBHB", opcode, 0, 0, 0, length // 512 if blocks is None else blocks, 0)
        srb = struct.pack("<HBBBBBBBBBBI16s20x", 52, 0, 0, 0, 0, 0, 0, 10, 20, 1, 0, length, cdb)
        size = length if range_length is None else range_length
        where = offset % HV if range_offset is None else range_offset
        ranges = [(size, where, numbers)]
        if split:
            ranges = [(HV - where, where, numbers[:1]), (size - HV + where, 0, numbers[1:])]
        self.watched.send(struct.pack("<III", 3, 1, 0) + srb, ranges, pad)

    @property
    def broken(self) -> set[str]:
        return {name.removeprefix("storvsc.") for name in self.watched.broken}


@pytest.fixture
def stor(watch: Watch) -> Callable[[int], Stor]:
    def make(page: int) -> Stor:
        watched = watch("storvsc", page)
        watched.open()
        return Stor(watched)

    return make


@pytest.fixture
def on_a_disk(watch: Watch) -> Iterator[Callable[[int], Stor]]:
    """The same before the real device, with 64 KiB a request."""
    with Backing(1 << 20) as backing:

        def make(page: int) -> Stor:
            watched = watch("storvsc", page, Storvsc(ScsiDisk(backing), max_transfer_bytes=64 << 10))
            watched.open()
            return Stor(watched)

        yield make


@PAGES
def test_a_good_driver(on_a_disk: Callable[[int], Stor], page: int) -> None:
    """Requests at any offset, read and written, break nothing, and every rule has compared something."""
    stor = on_a_disk(page)
    for offset in (0, 512, 4096, 4608, 16384 + 3584):
        for length in (512, 4096, 16384, 65536 - 4096):
            for opcode in (0x28, 0x2A):
                stor.request(offset=offset, length=length, opcode=opcode)
    assert stor.broken == set()
    for name in RULES:
        assert stor.watched.compared(f"storvsc.{name}") >= 20, name


@LARGE
def test_offset_in_the_guests_page(stor: Callable[[int], Stor], page: int) -> None:
    """offset_in_page() for offset_in_hvpage(): there is room for more numbers than are filled in."""
    made = stor(page)
    first = made.buffer_pa // HV + 3
    made.request(offset=3 * HV, length=HV, range_offset=3 * HV, numbers=[first, 0, 0, 0])
    assert made.broken == {"offset", "count", "ram", "distinct"}


@LARGE
def test_numbers_of_the_guests_pages(stor: Callable[[int], Stor], page: int) -> None:
    """PHYS_PFN() for HVPFN_DOWN(): none of them is RAM."""
    made = stor(page)
    first = made.buffer_pa // page
    made.request(offset=0, length=4 * HV, numbers=[first + index for index in range(4)])
    assert made.broken == {"ram"}


@LARGE
def test_numbers_that_are_not_filled_in(stor: Callable[[int], Stor], page: int) -> None:
    """One number a guest page, the rest left at 0."""
    made = stor(page)
    first = made.buffer_pa // HV
    made.request(offset=0, length=4 * HV, numbers=[first, 0, 0, 0])
    assert made.broken == {"ram", "distinct"}


@LARGE
def test_a_number_that_does_not_advance(stor: Callable[[int], Stor], page: int) -> None:
    """The first 4 KiB of a guest page for all of it: found where it is read, not where it is written."""
    made = stor(page)
    first = made.buffer_pa // HV
    made.request(offset=0, length=4 * HV, numbers=[first] * 4, opcode=0x2A)
    assert made.broken == set()
    made.request(offset=0, length=4 * HV, numbers=[first] * 4)
    assert made.broken == {"distinct"}


@LARGE
def test_room_for_guest_pages(stor: Callable[[int], Stor], page: int) -> None:
    """A payload sized by PFN_UP() in pages of the guest's: room that is not filled."""
    made = stor(page)
    made.request(pad=bytes(16))
    assert made.broken == {"count"}


@PAGES
def test_a_length_rounded_to_pages(stor: Callable[[int], Stor], page: int) -> None:
    """A range that is rounded up to whole pages, or a command for other blocks than it."""
    made = stor(page)
    made.request(offset=0, length=512, range_length=HV)
    assert made.broken == {"range", "blocks"}
    made = stor(page)
    made.request(offset=0, length=HV, blocks=9)
    assert made.broken == {"blocks"}


@PAGES
def test_a_range_for_each_piece(stor: Callable[[int], Stor], page: int) -> None:
    """Two ranges where the host takes one."""
    made = stor(page)
    made.request(split=True)
    assert "range" in made.broken


@PAGES
def test_over_the_hosts_limit(on_a_disk: Callable[[int], Stor], page: int) -> None:
    """A request larger than the host said it takes."""
    stor = on_a_disk(page)
    stor.request(offset=0, length=64 << 10)
    assert stor.broken == set()
    stor.request(offset=0, length=68 << 10)
    assert stor.broken == {"limit"}
