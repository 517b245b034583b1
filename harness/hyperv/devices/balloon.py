"""Dynamic memory: the guest tells how much it needs, gives pages up, and has them back.

Source: Linux drivers/hv/hv_balloon.c. Memory that was given up stays mapped here: it is only not the guest's.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

from harness.hyperv.channel import Channel, Offer
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.balloon import (
    ACCEPTED,
    MESSAGE_BYTES,
    Answer,
    BalloonRequest,
    BalloonResponse,
    Capabilities,
    DmHeader,
    DmStatus,
    DmType,
    DmVersion,
    PageRange,
    UnballoonRequest,
    VersionRequest,
)
from harness.hyperv.wire.numbers import GuidOf
from harness.hyperv.wire.packets import Packet, PacketType

__all__ = ["Balloon"]

_INSTANCES: Final = UUID("6772616e-756c-6500-0000-766d62757300")
_HEADER: Final = DmHeader.size_bytes()
MAX_RANGES: Final = 1 << 16
"""Kept of what a guest gave up: 256 MiB in single pages."""
_RANGES_PER_MESSAGE: Final = (MESSAGE_BYTES - _HEADER - UnballoonRequest.size_bytes()) // PageRange.BYTES


class Balloon:
    """One guest's. `status` is its last report, `held` what it has given up, `capabilities` what it can."""

    name = "balloon"

    def __init__(self) -> None:
        self.version: DmVersion | None = None
        self.capabilities: Capabilities | None = None
        self.status: DmStatus | None = None
        self.reports = 0
        self.held: list[PageRange] = []
        self.is_busy = False
        """A request of ours is not answered to its end yet."""
        self._channel: Channel | None = None
        self._transaction = 0
        self._asked_pages = 0
        self._returned: list[PageRange] = []

    def offer(self) -> Offer:
        """See Device."""
        return Offer(interface_type=GuidOf.BALLOON, instance=uuid5(_INSTANCES, self.name))

    def opened(self, channel: Channel) -> None:
        """See Device; the guest speaks first."""
        self._channel = channel

    def closed(self) -> None:
        """See Device: a driver that goes gives its pages back to its kernel (balloon_remove())."""
        self._channel = self.version = self.capabilities = self.status = None
        self.held, self._returned, self.is_busy = [], [], False

    def tick(self, now_s: float) -> None:
        """See Device."""

    @property
    def is_ready(self) -> bool:
        """True once the guest has said what it can."""
        return self.capabilities is not None

    @property
    def held_pages(self) -> int:
        """Of 4 KiB, that the guest has given up."""
        return sum(each.count for each in self.held)

    def inflate(self, pages: int) -> bool:
        """Ask for so many pages of 4 KiB; False where the guest does not balloon, or is at it."""
        if self.capabilities is None or not self.capabilities.balloon or self.is_busy:
            return False
        self._asked_pages = pages
        self.is_busy = self._send(DmType.BALLOON_REQUEST, BalloonRequest(pages=pages).pack())
        return self.is_busy

    def deflate(self) -> bool:
        """Give everything back; False where there is nothing, or another request is under way."""
        if not self.held or self.is_busy:
            return False
        self._returned, ranges = list(self.held), self.held
        for start in range(0, len(ranges), _RANGES_PER_MESSAGE):
            piece = ranges[start : start + _RANGES_PER_MESSAGE]
            head = UnballoonRequest(more=int(start + len(piece) < len(ranges)), ranges=len(piece))
            self.is_busy = self._send(
                DmType.UNBALLOON_REQUEST, head.pack() + b"".join(each.pack() for each in piece)
            )
        return self.is_busy

    def _send(self, kind: DmType, body: bytes) -> bool:
        if self._channel is None:
            return False
        self._transaction += 1
        header = DmHeader(type=kind, size=_HEADER + len(body), transaction=self._transaction & 0xFFFF_FFFF)
        return self._channel.send(header.pack() + body)

    def packet(self, channel: Channel, packet: Packet) -> None:
        """See Device."""
        if packet.type is not PacketType.DATA_INBAND:
            raise Violated(Rule.DEVICE, f"a packet of type {packet.type.name}", self.name)
        header = DmHeader.unpack(packet.data)
        if not _HEADER <= header.size <= len(packet.data):
            raise Violated(
                Rule.DEVICE, f"a message of {header.size} bytes in a packet of {len(packet.data)}", self.name
            )
        body = packet.data[_HEADER : header.size]
        if header.type == DmType.VERSION_REQUEST:
            self._version(VersionRequest.unpack(body))
        elif header.type == DmType.CAPABILITIES_REPORT:
            self.capabilities = Capabilities.unpack(body)
            self._send(DmType.CAPABILITIES_RESPONSE, Answer(accepted=ACCEPTED).pack())
        elif header.type == DmType.STATUS_REPORT:
            self.status = DmStatus.unpack(body)
            self.reports += 1
        elif header.type == DmType.BALLOON_RESPONSE:
            self._ballooned(channel, body)
        elif header.type == DmType.UNBALLOON_RESPONSE:
            self._unballooned()
        else:
            raise Violated(Rule.DEVICE, f"message {header.type}, which no guest sends", self.name)

    def _version(self, request: VersionRequest) -> None:
        known = request.version in set(DmVersion)
        self.version = DmVersion(request.version) if known else None
        self._send(DmType.VERSION_RESPONSE, Answer(accepted=ACCEPTED if known else 0).pack())

    def _ballooned(self, channel: Channel, body: bytes) -> None:
        head = BalloonResponse.unpack(body)
        ranges = PageRange.unpack(body[BalloonResponse.size_bytes() :], head.ranges)
        if not self.is_busy or self._returned:
            raise Violated(Rule.DEVICE, "pages were given up, and nobody had asked", self.name)
        if len(self.held) + len(ranges) > MAX_RANGES:
            raise Violated(Rule.DEVICE, f"more than {MAX_RANGES} ranges were given up", self.name)
        for each in ranges:
            last = each.first + each.count - 1
            if not each.count or not (channel.memory.has_page(each.first) and channel.memory.has_page(last)):
                raise Violated(
                    Rule.DEVICE, f"{each.count} pages from number {each.first:#x} on are not RAM", self.name
                )
        given = sum(each.count for each in ranges)
        if given > self._asked_pages:
            raise Violated(
                Rule.DEVICE,
                f"{given} pages were given up where {self._asked_pages} were asked for",
                self.name,
            )
        self._asked_pages -= given
        self.held += ranges
        self.is_busy = head.more

    def _unballooned(self) -> None:
        if not self._returned:
            raise Violated(Rule.DEVICE, "pages were taken back, and nobody had given any", self.name)
        self.held, self._returned, self.is_busy = [], [], False
