"""What a packet of netvsc's carries: a section of its send buffer, page buffers, or one after the other.

Source: Linux drivers/net/hyperv/netvsc.c, netvsc_send().
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from harness.hyperv.channel import Channel
from harness.hyperv.gpadl import Gpadl, view_of
from harness.hyperv.rndis.adapter import MAX_TRANSFER_BYTES
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.netvsc import MAX_RANGES, NO_SECTION, RndisSend
from harness.hyperv.wire.packets import Packet

__all__ = ["SEND_SECTION_BYTES", "SendBuffer"]

SEND_SECTION_BYTES: Final = 6144
"""NETVSC_SEND_SECTION_SIZE, which Windows gives too."""
LEAST_SECTION_BYTES: Final = 68
"""ETH_MIN_MTU: Linux takes no smaller section."""


class SendBuffer:
    """Cut into sections of one size.

    Arguments: `section_bytes`: packets that do not fit a section use page buffers.
    """

    def __init__(self, section_bytes: int) -> None:
        if section_bytes < LEAST_SECTION_BYTES:
            raise ValueError(
                f"send sections of {section_bytes} bytes; Linux takes {LEAST_SECTION_BYTES} at least"
            )
        self.section_bytes = section_bytes
        self.gpadl: Gpadl | None = None
        """None while the driver shares none."""
        self.packets: Counter[str] = Counter()
        """By where they lay: section, pages, both."""
        self.ranges: Counter[int] = Counter()
        """Packets with page buffers by how many ranges they had."""

    def share(self, gpadl: Gpadl) -> None:
        """The driver's; raises Violated where there is one, or it is too small."""
        if self.gpadl is not None or gpadl.byte_count < self.section_bytes:
            raise Violated(Rule.DEVICE, f"a send buffer of {gpadl.byte_count} bytes, or a second one")
        self.gpadl = gpadl

    def stream(self, channel: Channel, packet: Packet, send: RndisSend) -> bytes:
        """The bytes of a packet's RNDIS messages; raises Violated."""
        has_section = send.section != NO_SECTION
        total = (send.section_bytes if has_section else 0) + sum(each.byte_count for each in packet.ranges)
        if total > MAX_TRANSFER_BYTES or len(packet.ranges) > MAX_RANGES:
            raise Violated(Rule.DEVICE, f"an RNDIS packet of {total} bytes in {len(packet.ranges)} ranges")
        parts = [self._section(send)] if has_section else []
        for each in packet.ranges:
            view = view_of(channel.memory, each)
            parts.append(view.read(0, view.size_bytes))
        if packet.ranges:
            self.ranges[len(packet.ranges)] += 1
        self.packets["section" if not packet.ranges else "both" if has_section else "pages"] += 1
        return b"".join(parts)

    def _section(self, send: RndisSend) -> bytes:
        gpadl, size = self.gpadl, self.section_bytes
        if gpadl is None or send.section >= gpadl.byte_count // size or send.section_bytes > size:
            raise Violated(Rule.DEVICE, f"{send.section_bytes} bytes in section {send.section}")
        return gpadl.view.read(send.section * size, send.section_bytes)
