"""One TCP connection that a peer opened (RFC 9293): windows, order, retransmission.

Positions are offsets from a side's initial sequence number, so that they never wrap: 0 is SYN, the first byte
is 1. Lost segments are sent again after three duplicate acknowledgments (RFC 5681) or a timeout that doubles
(RFC 6298); there is no congestion window, as the link is private and the peer's window bounds what is sent.
"""

from __future__ import annotations

from typing import Final

from harness.hyperv.net.directions import FIRST_TIMEOUT_S, Receiving, Sending
from harness.hyperv.net.segment import DEFAULT_MSS, Flag, Segment, distance
from harness.hyperv.net.streams import BUFFER_BYTES, Stream

__all__ = ["Connection"]

LEAST_MSS: Final = 64
SCALE: Final = 3
"""Of our windows, where the peer knows scaling (RFC 7323): half a megabyte may be under way."""
MAX_OUT_OF_ORDER: Final = 128
"""Segments kept that came before their time; their bytes are bounded by the window."""
_MAX_TIMEOUT_S: Final = 4.0
MAX_RETRIES: Final = 12
_DUPLICATES: Final = 3
IDLE_S: Final = 300.0
LINGER_S: Final = 2.0
"""After both sides ended: a last acknowledgment may have to be said again."""


class Connection:
    """From a SYN to its end; `take` what is to be sent after each call.

    Arguments: `initial`, our first sequence number; `mss`, what the link takes.
    """

    def __init__(self, syn: Segment, stream: Stream, initial: int, mss: int, now_s: float) -> None:
        self.stream = stream
        self.closed = False
        """Nothing more will come or go."""
        self.retransmitted = 0
        self._ports = (syn.destination_port, syn.source_port)
        self._own_mss = mss
        self._mss = max(LEAST_MSS, min(mss, syn.mss or DEFAULT_MSS))
        self._s = Sending(initial, window=syn.window)
        self._r = Receiving(syn.sequence)
        self._scales = (0, 0) if syn.scale is None else (SCALE, syn.scale)
        self._buffer = bytearray()
        self._early: dict[int, bytes] = {}
        self._out: list[Segment] = []
        self._ack_now = False
        self._seen_s = now_s
        self._ended_s: float | None = None
        self._say_syn(now_s)

    # What the table calls

    def take(self) -> list[Segment]:
        """What is to be sent, oldest first."""
        out, self._out = self._out, []
        return out

    @property
    def idle_since_s(self) -> float:
        """When the peer was last heard."""
        return self._seen_s

    @property
    def established(self) -> bool:
        """True once the peer has acknowledged our SYN."""
        return self._s.una > 0

    @property
    def finished(self) -> bool:
        """True once both sides have ended, and know it."""
        return self._ended_s is not None

    def tick(self, now_s: float) -> None:
        """Time passes: send again what was not acknowledged, probe a closed window, say what is due."""
        if self._ended_s is not None and now_s >= self._ended_s + LINGER_S:
            self.closed = True
        elif now_s >= self._seen_s + IDLE_S:
            self._abort()
        elif self._s.due_s is not None and now_s >= self._s.due_s:
            self._timed_out(now_s)
        if not self.closed and self.established:
            self._output(now_s)
            if self._ack_now or self._r.unacknowledged:
                self._acknowledge()

    def receive(self, segment: Segment, now_s: float) -> None:
        """A segment of the peer's."""
        position = self._r.nxt + distance(segment.sequence, self._r.initial + self._r.nxt)
        if segment.flags & Flag.RST:
            if self._r.nxt <= position <= max(self._r.edge, self._r.nxt):
                self.closed = True
            return
        if segment.flags & Flag.SYN:
            if position == 0 and not self.established:
                self._say_syn(now_s)
            else:
                self._acknowledge()
            return
        if not segment.flags & Flag.ACK or not self._acknowledged(segment, position, now_s):
            return
        self._seen_s = now_s
        self._data(segment, position)
        self._output(now_s)
        if self._ack_now or self._r.unacknowledged >= 2:
            self._acknowledge()
        if self._s.fin_at is not None and self._s.una > self._s.fin_at and self._peer_ended:
            self._ended_s = now_s

    # Sending

    @property
    def _peer_ended(self) -> bool:
        return self._r.fin_at is not None and self._r.nxt > self._r.fin_at

    def _window(self) -> int:
        """What the window field says. A SYN's is not scaled, and cannot say more than 64 KiB."""
        shift = self._scales[0] if self.established else 0
        room = min(0xFFFF << shift, self.stream.room) >> shift << shift
        self._r.edge = max(self._r.edge, self._r.nxt + room)
        return min(0xFFFF, self._r.edge - self._r.nxt >> shift)

    def _say(self, flags: int, position: int, payload: bytes = b"", mss: int | None = None) -> None:
        self._out.append(
            Segment(
                source_port=self._ports[0], destination_port=self._ports[1],
                sequence=self._s.initial + position, acknowledged=self._r.initial + self._r.nxt, flags=flags,
                window=self._window(), payload=payload, mss=mss,
                scale=self._scales[0] or None if mss is not None else None,
            )
        )  # fmt: skip
        self._ack_now = False
        self._r.unacknowledged = 0

    def _say_syn(self, now_s: float) -> None:
        self._say(Flag.SYN | Flag.ACK, 0, mss=self._own_mss)
        self._s.nxt = max(self._s.nxt, 1)
        self._arm(now_s)

    def _acknowledge(self) -> None:
        self._say(Flag.ACK, self._s.nxt)

    def _abort(self) -> None:
        self._say(Flag.RST | Flag.ACK, self._s.nxt)
        self.closed = True

    def _arm(self, now_s: float) -> None:
        self._s.due_s = now_s + self._s.timeout_s

    def _fill(self) -> None:
        while len(self._buffer) < BUFFER_BYTES:
            data = self.stream.pull(BUFFER_BYTES - len(self._buffer))
            if not data:
                break
            self._buffer += data
        if self._s.fin_at is None and self.stream.done:
            self._s.fin_at = self._s.base + len(self._buffer)

    def _output(self, now_s: float) -> None:
        """Send what the peer's window takes."""
        s = self._s
        self._fill()
        end = s.base + len(self._buffer)
        while s.nxt < end:
            size = min(self._mss, end - s.nxt, s.una + s.window - s.nxt)
            short = size < min(self._mss, end - s.nxt)
            if size <= 0 or (short and s.nxt > s.una):
                break  # no part of a segment while others are under way (RFC 9293, 3.8.6.2.1)
            self._say_data(s.nxt, size, end)
            s.nxt += size
        if s.fin_at == s.nxt == end:
            self._say(Flag.FIN | Flag.ACK, s.nxt)
            s.nxt += 1
        if s.due_s is None and (s.nxt > s.una or s.nxt < end):
            self._arm(now_s)
        if self._r.edge - self._r.nxt < self._mss <= self.stream.room // 2:
            self._ack_now = True  # the window was all but shut, and is open again

    def _say_data(self, position: int, size: int, end: int) -> None:
        at = position - self._s.base
        flags = Flag.ACK | (Flag.PSH if position + size == end else 0)
        self._say(flags, position, bytes(self._buffer[at : at + size]))

    def _again(self) -> None:
        """Send the first segment that is not acknowledged once more."""
        s = self._s
        end = s.base + len(self._buffer)
        self.retransmitted += 1
        if s.una == 0:
            self._say(Flag.SYN | Flag.ACK, 0, mss=self._own_mss)
        elif s.una < min(end, s.nxt):
            self._say_data(s.una, min(self._mss, min(end, s.nxt) - s.una), end)
        else:
            self._say(Flag.FIN | Flag.ACK, s.una)

    def _timed_out(self, now_s: float) -> None:
        s = self._s
        s.retries += 1
        if s.retries > MAX_RETRIES:
            self._abort()
            return
        s.timeout_s = min(2 * s.timeout_s, _MAX_TIMEOUT_S)
        if s.nxt > s.una:
            s.recover = s.nxt
            self._again()
        elif s.nxt < s.base + len(self._buffer):
            self._say_data(s.nxt, 1, s.base + len(self._buffer))  # a probe of the closed window
            s.nxt += 1
        self._arm(now_s)

    # Receiving

    def _acknowledged(self, segment: Segment, position: int, now_s: float) -> bool:
        """Take the acknowledgment; False: the segment is of no use."""
        s = self._s
        ack = s.una + distance(segment.acknowledged, s.initial + s.una)
        if ack > s.nxt:
            if self.established:
                self._acknowledge()
            return False
        if s.una == 0 and ack < 1:
            return False
        self._duplicate(segment, ack)
        if (position, ack) >= s.updated:
            window = segment.window << self._scales[1]
            if not s.window and window and s.nxt == s.una + 1 and s.una:
                s.nxt = s.una  # the probe found the window closed: what it carried was not taken
            s.window, s.updated = window, (position, ack)
        if ack <= s.una:
            if ack == s.una:
                s.retries = 0  # it lives, if with a closed window
            return True
        del self._buffer[: max(0, min(ack, s.base + len(self._buffer)) - s.base)]
        s.base = max(s.base, min(ack, s.fin_at if s.fin_at is not None else ack))
        s.una, s.duplicates, s.retries, s.timeout_s, s.due_s = ack, 0, 0, FIRST_TIMEOUT_S, None
        if s.recover is not None:
            if ack < s.recover:
                self._again()
            else:
                s.recover = None
        if s.nxt > s.una:
            self._arm(now_s)
        return True

    def _duplicate(self, segment: Segment, ack: int) -> None:
        s = self._s
        same = segment.window << self._scales[1] == s.window
        bare = same and not segment.payload and not segment.flags & Flag.FIN
        if ack == s.una and bare and s.nxt > s.una:
            s.duplicates += 1
            if s.duplicates == _DUPLICATES and s.recover is None:
                s.recover = s.nxt
                self._again()

    def _data(self, segment: Segment, position: int) -> None:
        r, data = self._r, segment.payload
        if not data and not segment.flags & Flag.FIN:
            if position < r.nxt:
                self._ack_now = True  # a keepalive
            return
        if segment.flags & Flag.FIN and r.fin_at is None and r.nxt <= position + len(data) <= r.edge:
            r.fin_at = position + len(data)
        if position < r.nxt:
            data, position, self._ack_now = data[r.nxt - position :], r.nxt, True
        limit = r.edge if r.fin_at is None else min(r.edge, r.fin_at)
        if position + len(data) > limit:
            data, self._ack_now = data[: max(0, limit - position)], True
        if position > r.nxt:
            self._ack_now = True
            if (
                data
                and len(self._early) < MAX_OUT_OF_ORDER
                and len(data) > len(self._early.get(position, b""))
            ):
                self._early[position] = data
        else:
            self._deliver(data)
            if segment.flags & Flag.PSH:
                self._ack_now = True
        if r.fin_at == r.nxt:
            r.nxt += 1
            self._ack_now = True
            self.stream.ended()

    def _deliver(self, data: bytes) -> None:
        """Data in order, and what came early and follows them."""
        while data:
            self._r.nxt += len(data)
            # A large segment stands for as many as the link would have carried.
            self._r.unacknowledged += 1 + (len(data) > self._own_mss)
            self.stream.received(data)
            data = self._next_early()

    def _next_early(self) -> bytes:
        r = self._r
        limit = r.edge if r.fin_at is None else r.fin_at
        for position in sorted(self._early):
            if position > r.nxt:
                break
            early = self._early.pop(position)[: limit - position]
            if position + len(early) > r.nxt:
                return early[r.nxt - position :]
        return b""
