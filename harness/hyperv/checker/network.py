"""netvsc's buffers and packets: NVSP messages that carry RNDIS (Linux drivers/net/hyperv/hyperv_net.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from harness.hyperv import pagemodel as model
from harness.hyperv.channel import Channel
from harness.hyperv.checker.tally import Tally
from harness.hyperv.gpadl import Gpadl, PagedView, view_of
from harness.hyperv.violation import Violated
from harness.hyperv.wire.packets import GpaRange, Packet

__all__ = ["NetworkRules"]

SEND_RECEIVE_BUFFER: Final = 101
RECEIVE_BUFFER_COMPLETE: Final = 102
SEND_SEND_BUFFER: Final = 104
SEND_BUFFER_COMPLETE: Final = 105
SEND_RNDIS_PACKET: Final = 107
"""NVSP_MSG1_TYPE_*."""
NO_SECTION: Final = 0xFFFF_FFFF
MAX_RANGES: Final = 32
"""MAX_PAGE_BUFFER_COUNT."""
DESCRIPTOR_BYTES: Final = 24 + 16 * MAX_RANGES
"""sizeof(struct vmbus_channel_packet_page_buffer)."""
RNDIS_TYPES: Final = frozenset({1, 2, 3, 4, 5, 8})
"""PACKET, INIT, HALT, QUERY, SET, KEEPALIVE: what a guest sends (include/linux/rndis.h)."""
_MAX_MESSAGES: Final = 1024


@dataclass(slots=True)
class _State:
    receive: Gpadl | None = None
    send: Gpadl | None = None
    section_bytes: int = 0


class NetworkRules:
    """The rules whose names begin with netvsc, but for the ring's size.

    Arguments: `gpadls`, the lists that are there, by handle.
    """

    def __init__(self, tally: Tally, page_bytes: int, gpadls: Mapping[int, Gpadl]) -> None:
        self._tally = tally
        self._page = page_bytes
        self._gpadls = gpadls
        self._states: dict[UUID, _State] = {}

    def closed(self, channel: Channel) -> None:
        """Its buffers are forgotten; sub-channels use those of their primary."""
        if not channel.offer.sub_channel_index:
            self._states.pop(channel.offer.instance, None)

    def sent(self, channel: Channel, raw: bytes) -> None:
        """The host's answers say how large the sections of a buffer are."""
        if len(raw) < 16:
            return
        data = raw[int.from_bytes(raw[2:4], "little") * 8 :]
        if len(data) < 12:
            return
        kind, status, first = struct.unpack_from("<III", data)
        state = self._states.get(channel.offer.instance)
        if state is None or status != 1:  # NVSP_STAT_SUCCESS
            return
        if kind == SEND_BUFFER_COMPLETE:
            state.section_bytes = first
        elif kind == RECEIVE_BUFFER_COMPLETE and first == 1 and len(data) >= 28 and state.receive is not None:
            # sections[0]: offset, sub_alloc_size, num_sub_allocs, end_offset
            section, count = struct.unpack_from("<II", data, 16)
            self._buffer_holds(channel, state.receive, section * count)

    def _buffer_holds(self, channel: Channel, gpadl: Gpadl, needed: int) -> None:
        self._tally.holds(
            "netvsc.buffer", channel.name, needed <= gpadl.byte_count,
            f"a buffer of {gpadl.byte_count:#x} bytes", f"{needed:#x} bytes for its sections",
        )  # fmt: skip

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A packet of the driver's."""
        if len(packet.data) < 16:
            return
        kind, first, second, third = struct.unpack_from("<IIII", packet.data)
        state = self._states.setdefault(channel.offer.instance, _State())
        if kind in (SEND_RECEIVE_BUFFER, SEND_SEND_BUFFER):
            gpadl = self._gpadls.get(first)
            if gpadl is None:
                return
            if kind == SEND_RECEIVE_BUFFER:
                state.receive = gpadl
            else:
                state.send = gpadl
            self._tally.equal("netvsc.buffer", channel.name, gpadl.byte_count % self._page, 0)
        elif kind == SEND_RNDIS_PACKET:
            self._rndis(channel, packet, state, second, third)

    def _rndis(self, channel: Channel, packet: Packet, state: _State, section: int, size: int) -> None:
        views: list[PagedView] = []
        start = 0
        if section != NO_SECTION:
            start = section * state.section_bytes
            room = 0 if state.send is None else state.send.byte_count
            if not self._tally.holds(
                "netvsc.section", channel.name, start + size <= room,
                f"{size} bytes at {start:#x} of a send buffer of {room:#x}", "within it",
            ):  # fmt: skip
                return
            if state.send is not None:
                views.append(state.send.view)
        if packet.ranges or section == NO_SECTION:
            self._ranges(channel, packet)
        try:
            stream = [views[0].read(start, size)] if views else []
            stream += [view.read(0, view.size_bytes) for view in self._views(channel, packet)]
        except Violated:
            return  # netvsc.ram says it
        self._messages(channel, b"".join(stream))

    def _views(self, channel: Channel, packet: Packet) -> list[PagedView]:
        return [view_of(channel.memory, each) for each in packet.ranges]

    def _ranges(self, channel: Channel, packet: Packet) -> None:
        tally, where, ranges = self._tally, channel.name, packet.ranges
        tally.holds(
            "netvsc.ranges", where,
            0 < len(ranges) <= MAX_RANGES and all(each.byte_count for each in ranges),
            f"{len(ranges)} ranges of {[each.byte_count for each in ranges[:40]]} bytes",
            f"1 to {MAX_RANGES}, none empty",
        )  # fmt: skip
        for each in ranges:
            self._range(channel, where, each)
        used = 8 + sum(8 + 8 * len(each.pfns) for each in ranges)
        tally.holds(
            "netvsc.descriptor", where, len(packet.head) == used and 16 + used <= DESCRIPTOR_BYTES,
            f"ranges of {used} bytes in a head of {len(packet.head)}",
            f"as many, and {DESCRIPTOR_BYTES - 16} at most",
        )  # fmt: skip

    def _range(self, channel: Channel, where: str, each: GpaRange) -> None:
        self._tally.holds(
            "netvsc.offset", where, each.byte_offset < model.HV_PAGE,
            f"offset {each.byte_offset:#x}", "less than 0x1000",
        )  # fmt: skip
        if each.pfns:
            first = each.pfns[0]
            self._tally.equal(
                "netvsc.consecutive", where, each.pfns, tuple(range(first, first + len(each.pfns)))
            )
        stray = next((pfn for pfn in each.pfns if not channel.memory.has_page(pfn)), None)
        seen = (
            "" if stray is None else f"page {each.pfns.index(stray)} of {len(each.pfns)} is number {stray:#x}"
        )
        self._tally.holds("netvsc.ram", where, stray is None, seen, "RAM")

    def _messages(self, channel: Channel, stream: bytes) -> None:
        """Whole RNDIS messages from the first byte to the last: each begins with its type and its length."""
        at = 0
        for _ in range(_MAX_MESSAGES):
            kind, length = struct.unpack_from("<II", stream, at) if at + 8 <= len(stream) else (0, 0)
            if kind not in RNDIS_TYPES or not 8 <= length <= len(stream) - at:
                self._tally.holds(
                    "netvsc.rndis", channel.name, False,
                    f"at {at} of {len(stream)} bytes lies a message of type {kind:#x} and {length} bytes",
                    f"one that ends at {len(stream)} or is followed by another",
                )  # fmt: skip
                return
            at += length
            if at == len(stream):
                break
        self._tally.holds("netvsc.rndis", channel.name, True, "", "")
