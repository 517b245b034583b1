"""A guest whose drivers make one mistake each, and the checker that watches it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from harness.hyperv.channel import Channel, Offer
from harness.hyperv.checker import CheckReport, WireChecker
from harness.hyperv.wire.numbers import GuidOf
from harness.hyperv.wire.packets import Packet

HV = 4096


class Quiet:
    """A device of any interface type that answers nothing."""

    name = "quiet"

    def __init__(self, kind: UUID) -> None:
        self.kind = kind
        self.channel: Channel | None = None

    def offer(self) -> Offer:
        return Offer(interface_type=self.kind, instance=UUID(int=7))

    def opened(self, channel: Channel) -> None:
        self.channel = channel

    def packet(self, channel: Channel, packet: Packet) -> None:
        """Nothing."""

    def tick(self, now_s: float) -> None:
        """Nothing."""

    def closed(self) -> None:
        self.channel = None


KINDS = {
    "hv_utils": GuidOf.HEARTBEAT,
    "storvsc": GuidOf.SCSI,
    "netvsc": GuidOf.NETWORK,
    "hv_balloon": GuidOf.BALLOON,
}
PAYLOADS = {"hv_utils": 12 << 10, "storvsc": 128 << 10, "netvsc": 512 << 10, "hv_balloon": 16 << 10}


class Watched:
    """A guest with one channel, watched. What is opened is as Linux does it, unless told otherwise."""

    def __init__(self, sim: Any, driver: str, page: int, device: Any = None) -> None:
        self.driver, self.page = driver, page
        self.device = device or Quiet(KINDS[driver])
        self.guest = sim.guest(self.device, page=page, size=64 << 20)
        self.checker = WireChecker(self.guest.log, self.guest.memory, page)
        self.build_packet = sim.packet
        self.guest.enable_synic()
        self.contact(*(self.guest.alloc(page) for _ in range(2)))
        (self.offer,) = self.guest.offers()
        self.relid, _, _, _, self.connection = struct.unpack("<IBBHI", self.offer[184:])
        self.opened: Any = None
        self.handle = 0x100

    def contact(self, *monitor_pages: int) -> None:
        """INITIATE_CONTACT for 5.3 with these pages."""
        self.guest.post(struct.pack("<IIIIQQQ", 14, 0, 0x50003, 0, 2, *monitor_pages))
        self.guest.take_messages()

    @property
    def report(self) -> CheckReport:
        return self.checker.report()

    @property
    def broken(self) -> set[str]:
        return {finding.rule.name for finding in self.report.findings}

    def compared(self, name: str) -> int:
        return sum(result.comparisons for result in self.report.results if result.rule.name == name)

    def open(self) -> None:
        self.opened = self.guest.open(self.offer, PAYLOADS[self.driver])

    def open_badly(
        self, *, payload: int | None = None, ring: int | None = None,
        number: Callable[[int, int, int], int] | None = None, downstream: Callable[[int], int] | None = None,
        shift: int = 0,
    ) -> None:  # fmt: skip
        """vmbus_open() with a mistake.

        `ring`: bytes of each ring; `number(pa, ring, i)`: page number i of the list; `downstream(ring)`;
        `shift`: bytes that the allocation is off its boundary.
        """
        page, guest = self.page, self.guest
        wanted = payload or PAYLOADS[self.driver]
        right = wanted if wanted >= 8 * page else wanted + page
        size = ring or -(-right // page) * page
        pa = guest.alloc(2 * size + page) + shift
        for start in (pa, pa + size):
            struct.pack_into("<I", guest.ram, start - 0x4000_0000 + 64, 1)
        gap = page - HV
        split = (size - gap) // HV

        def good(pa: int, size: int, index: int) -> int:
            gaps = 0 if index == 0 else gap if index <= split else 2 * gap
            return (pa + gaps + index * HV) // HV

        count = (2 * size - 2 * gap) // HV
        numbers = [(number or good)(pa, size, index) for index in range(count)]
        self.handle += 1
        for body in guest.gpadl_messages(self.relid, self.handle, count * HV, numbers):
            guest.post(body)
        place = split if downstream is None else downstream(size)
        guest.post(struct.pack("<7I", 5, 0, self.relid, self.relid, self.handle, 0, place) + bytes(120))
        guest.take_messages()

    def share(self, numbers: list[int]) -> int:
        """A buffer's list."""
        return int(self.guest.share(self.relid, len(numbers) * HV, numbers))

    def send(
        self, body: bytes, ranges: list[tuple[int, int, list[int]]] | None = None, pad: bytes = b""
    ) -> None:
        """A packet: ranges are length, offset, page numbers."""
        if ranges is None:
            self.guest.send(self.opened, self.build_packet(body, flags=1, request_id=1))
            return
        head = struct.pack("<II", 0, len(ranges))
        for length, offset, numbers in ranges:
            head += struct.pack(f"<II{len(numbers)}Q", length, offset, *numbers)
        self.guest.send(self.opened, self.build_packet(body, kind=9, head=head + pad, flags=1, request_id=1))


@pytest.fixture
def watch(sim: Any) -> Callable[..., Watched]:
    """Makes watched guests: `watch("storvsc", 16384)`."""

    def make(driver: str, page: int, device: Any = None) -> Watched:
        return Watched(sim, driver, page, device)

    return make
