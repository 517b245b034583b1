"""TCP as a server: ports, and the connections to them, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from harness.hyperv.net.connection import Connection
from harness.hyperv.net.segment import Flag, Segment
from harness.hyperv.net.streams import Stream

__all__ = ["MAX_CONNECTIONS", "Tcp"]

MAX_CONNECTIONS: Final = 64
"""At a time; a further one takes the place of the one that was silent for longest."""
MAX_STREAMS: Final = 256
"""Kept in `streams`."""
_FIRST_INITIAL: Final = 0x1000_0000
_STEP: Final = 0x0100_3BCD
"""Between the initial sequence numbers of one connection and the next."""

Peer = tuple[bytes, int, int]
"""Address, its port, and ours."""


class Tcp:
    """Listens on some ports.

    Arguments: `ports`, what makes the end of a connection to each.
    """

    def __init__(self, ports: Mapping[int, Callable[[], Stream]]) -> None:
        self.ports = dict(ports)
        self.streams: list[tuple[int, Stream]] = []
        """Port and end of the connections so far, oldest first; the first MAX_STREAMS."""
        self.mss = 1460
        """Of connections to come; what the link takes of one segment."""
        self.resets = 0
        """Segments that were answered with RST."""
        self._connections: dict[Peer, Connection] = {}
        self._initial = _FIRST_INITIAL

    @property
    def open(self) -> int:
        """Connections that are not at their end."""
        return len(self._connections)

    @property
    def retransmitted(self) -> int:
        """Segments sent again, of the connections that are open."""
        return sum(each.retransmitted for each in self._connections.values())

    def receive(self, source: bytes, segment: Segment, now_s: float) -> Iterator[Segment]:
        """A segment from an address: what is to be sent back there."""
        peer = (source, segment.source_port, segment.destination_port)
        connection = self._connections.get(peer)
        starts = segment.flags & (Flag.SYN | Flag.ACK | Flag.RST) == Flag.SYN
        if connection is None or (starts and connection.established and connection.finished):
            connection = self._begin(peer, segment, now_s) if starts else None
        elif connection is not None:
            connection.receive(segment, now_s)
        if connection is None:
            yield from self._refused(segment)
            return
        yield from connection.take()
        if connection.closed:
            self._connections.pop(peer, None)

    def _begin(self, peer: Peer, segment: Segment, now_s: float) -> Connection | None:
        make = self.ports.get(segment.destination_port)
        if make is None:
            return None
        if len(self._connections) >= MAX_CONNECTIONS and peer not in self._connections:
            oldest = min(self._connections, key=lambda each: self._connections[each].idle_since_s)
            del self._connections[oldest]
        stream = make()
        if len(self.streams) < MAX_STREAMS:
            self.streams.append((segment.destination_port, stream))
        self._initial += _STEP
        made = Connection(segment, stream, self._initial, self.mss, now_s)
        self._connections[peer] = made
        return made

    def _refused(self, segment: Segment) -> Iterator[Segment]:
        """RFC 9293, 3.10.7.1: what belongs to no connection is told so."""
        if segment.flags & Flag.RST:
            return
        self.resets += 1
        length = len(segment.payload) + bool(segment.flags & Flag.SYN) + bool(segment.flags & Flag.FIN)
        has_ack = bool(segment.flags & Flag.ACK)
        yield Segment(
            source_port=segment.destination_port, destination_port=segment.source_port,
            sequence=segment.acknowledged if has_ack else 0,
            acknowledged=0 if has_ack else segment.sequence + length,
            flags=Flag.RST if has_ack else Flag.RST | Flag.ACK,
        )  # fmt: skip

    def tick(self, now_s: float) -> Iterator[tuple[bytes, Segment]]:
        """Time passes: what is to be sent, and where."""
        for peer, connection in list(self._connections.items()):
            connection.tick(now_s)
            for segment in connection.take():
                yield peer[0], segment
            if connection.closed:
                del self._connections[peer]
