"""IPv4: headers, fragments and what they make together (RFC 791, RFC 815)."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from harness.hyperv.net.checksum import internet_checksum
from harness.hyperv.net.malformed import Malformed

__all__ = ["MAX_DATAGRAMS", "Packet", "Reassembly", "fragments"]

HEADER_BYTES: Final = 20
MAX_PACKET_BYTES: Final = 0xFFFF
_MORE, _OFFSET_MASK = 0x2000, 0x1FFF
_TTL: Final = 64
MAX_DATAGRAMS: Final = 16
"""Incomplete ones at a time; with more, the oldest is given up."""
MAX_FRAGMENTS: Final = 1024
"""Of one datagram: 64 KiB in pieces of a link whose MTU is the least, 68 bytes, would be 1366."""
REASSEMBLY_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet without options of its own; those that came with it are dropped."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes
    ident: int = 0
    offset: int = 0
    """Of a fragment, in bytes."""
    more: bool = False
    """More fragments follow."""

    @classmethod
    def parse(cls, data: bytes) -> Packet:
        """From a frame's payload, whose padding is cut off; raises Malformed."""
        if len(data) < HEADER_BYTES or data[0] >> 4 != 4:
            raise Malformed("ipv4: short")
        header_bytes = (data[0] & 15) * 4
        total, ident, flags = struct.unpack_from(">HHH", data, 2)
        if not HEADER_BYTES <= header_bytes <= total <= len(data):
            raise Malformed("ipv4: length")
        if internet_checksum(data[:header_bytes]):
            raise Malformed("ipv4: checksum")
        payload = data[header_bytes:total]
        offset, more = (flags & _OFFSET_MASK) * 8, bool(flags & _MORE)
        if more and (len(payload) % 8 or not payload):
            raise Malformed("ipv4: fragment of odd length")
        if offset + len(payload) > MAX_PACKET_BYTES - HEADER_BYTES:
            raise Malformed("ipv4: fragment beyond 64 KiB")
        return cls(
            source=data[12:16], destination=data[16:20], protocol=data[9], payload=payload, ident=ident,
            offset=offset, more=more,
        )  # fmt: skip

    def pack(self) -> bytes:
        """Its bytes."""
        head = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, HEADER_BYTES + len(self.payload), self.ident,
            self.offset // 8 | (_MORE if self.more else 0), _TTL, self.protocol, 0, self.source,
            self.destination,
        )  # fmt: skip
        return head[:10] + struct.pack(">H", internet_checksum(head)) + head[12:] + self.payload


def fragments(packet: Packet, mtu: int) -> Iterator[Packet]:
    """The packet in pieces that fit; itself where it does."""
    step = (mtu - HEADER_BYTES) & ~7
    if HEADER_BYTES + len(packet.payload) <= mtu:
        yield packet
        return
    for at in range(0, len(packet.payload), step):
        yield Packet(
            source=packet.source, destination=packet.destination, protocol=packet.protocol,
            ident=packet.ident, payload=packet.payload[at : at + step], offset=at,
            more=at + step < len(packet.payload),
        )  # fmt: skip


@dataclass(slots=True)
class _Partial:
    due_s: float
    starts: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    got_bytes: int = 0
    total: int | None = None


_Key = tuple[bytes, bytes, int, int]


class Reassembly:
    """Fragments until they are whole, within bounds of number and time; those that overlap are given up."""

    def __init__(self) -> None:
        self._partial: dict[_Key, _Partial] = {}

    @property
    def waiting(self) -> int:
        """Datagrams of which something is missing."""
        return len(self._partial)

    def add(self, packet: Packet, now_s: float) -> Packet | None:
        """The whole packet once its last fragment is there; raises Malformed where they contradict."""
        if not packet.more and not packet.offset:
            return packet
        key = (packet.source, packet.destination, packet.protocol, packet.ident)
        partial = self._partial.get(key)
        if partial is None:
            if len(self._partial) >= MAX_DATAGRAMS:
                del self._partial[next(iter(self._partial))]
            partial = self._partial[key] = _Partial(now_s + REASSEMBLY_S)
        try:
            self._insert(partial, packet)
        except Malformed:
            del self._partial[key]
            raise
        if partial.total is None or partial.got_bytes < partial.total:
            return None
        del self._partial[key]
        return Packet(
            source=packet.source, destination=packet.destination, protocol=packet.protocol,
            ident=packet.ident, payload=b"".join(partial.pieces),
        )  # fmt: skip

    @staticmethod
    def _insert(partial: _Partial, packet: Packet) -> None:
        start, end = packet.offset, packet.offset + len(packet.payload)
        index = bisect.bisect_left(partial.starts, start)
        known = index < len(partial.starts)
        if known and partial.starts[index] == start and partial.pieces[index] == packet.payload:
            return  # sent twice
        before = partial.starts[index - 1] + len(partial.pieces[index - 1]) if index else 0
        after = partial.starts[index] if known else end
        if start < before or end > after or len(partial.starts) >= MAX_FRAGMENTS:
            raise Malformed("ipv4: fragments overlap")
        if not packet.more and partial.total not in (None, end):
            raise Malformed("ipv4: two last fragments")
        total = partial.total if packet.more else end
        last = partial.starts[-1] + len(partial.pieces[-1]) if partial.starts else 0
        if total is not None and max(end, last) > total:
            raise Malformed("ipv4: fragment after the last")
        partial.total = total
        partial.starts.insert(index, start)
        partial.pieces.insert(index, packet.payload)
        partial.got_bytes += len(packet.payload)

    def expire(self, now_s: float) -> None:
        """Give up what has waited too long."""
        for key in [key for key, partial in self._partial.items() if partial.due_s <= now_s]:
            del self._partial[key]
