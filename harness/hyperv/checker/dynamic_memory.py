"""hv_balloon's reports, which count pages of 4 KiB whatever the guest's are."""

from __future__ import annotations

import itertools

from harness.hyperv import pagemodel as model
from harness.hyperv.channel import Channel
from harness.hyperv.checker.tally import Tally
from harness.hyperv.violation import Violated
from harness.hyperv.wire.balloon import BalloonResponse, Capabilities, DmHeader, DmStatus, DmType, PageRange
from harness.hyperv.wire.packets import Packet

__all__ = ["MemoryRules"]


class MemoryRules:
    """The rules whose names begin with balloon, but for the ring's size."""

    def __init__(self, tally: Tally, page_bytes: int) -> None:
        self._tally = tally
        self._each = page_bytes // model.HV_PAGE

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A message of the driver's; what is none is the device's to judge."""
        head = DmHeader.size_bytes()
        try:
            kind = DmHeader.unpack(packet.data).type
            if kind == DmType.CAPABILITIES_REPORT:
                can = Capabilities.unpack(packet.data, head)
                self._tally.equal("balloon.capability", channel.name, can.balloon, self._each == 1)
            elif kind == DmType.STATUS_REPORT:
                self._status(channel, DmStatus.unpack(packet.data, head))
            elif kind == DmType.BALLOON_RESPONSE:
                self._ranges(channel, packet.data[head:])
        except Violated:
            return

    def _status(self, channel: Channel, status: DmStatus) -> None:
        ram = channel.memory.size_bytes // model.HV_PAGE
        whole = not (status.available % self._each or status.committed % self._each)
        self._tally.holds(
            "balloon.status", channel.name, whole and status.available <= ram,
            f"{status.available} pages available, {status.committed} committed",
            f"multiples of {self._each}, and {ram} available at most",
        )  # fmt: skip

    def _ranges(self, channel: Channel, body: bytes) -> None:
        count = BalloonResponse.unpack(body).ranges
        ranges = PageRange.unpack(body[BalloonResponse.size_bytes() :], count)
        stray = next(
            (
                each for each in ranges
                if not (
                    each.count
                    and channel.memory.has_page(each.first)
                    and channel.memory.has_page(each.first + each.count - 1)
                )
            ),
            None,
        )  # fmt: skip
        self._tally.holds(
            "balloon.ram", channel.name, stray is None,
            "" if stray is None else f"{stray.count} pages from number {stray.first:#x} on", "RAM",
        )  # fmt: skip
        pages = sorted((each.first, each.count) for each in ranges)
        apart = all(one[0] + one[1] <= other[0] for one, other in itertools.pairwise(pages))
        self._tally.holds(
            "balloon.distinct", channel.name, apart, "ranges that overlap", "each page at most once"
        )
