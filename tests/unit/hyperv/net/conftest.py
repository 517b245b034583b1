"""A peer in the test: builds and reads packets by hand, and imports nothing of what it talks to."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import pytest

MAC_HOST = bytes.fromhex("00155d0000fe")
MAC_GUEST = bytes.fromhex("00155d000001")
HOST, GUEST = bytes([10, 9, 8, 1]), bytes([10, 9, 8, 2])
M32 = 0xFFFF_FFFF


def ones(data: bytes) -> int:
    """The Internet checksum, word by word."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    protocol: int, payload: bytes, *, ident: int = 1, flags: int = 0, to: bytes = HOST, of: bytes = GUEST
) -> bytes:
    """A frame with an IPv4 packet."""
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, flags, 64, protocol, 0, of, to)
    head = head[:10] + struct.pack(">H", ones(head)) + head[12:]
    return MAC_HOST + MAC_GUEST + b"\x08\x00" + head + payload


def read_ipv4(frame: bytes) -> tuple[int, bytes, int, int]:
    """Protocol, payload, identification, and flags with offset; the checksum is right."""
    assert frame[12:14] == b"\x08\x00"
    assert ones(frame[14:34]) == 0
    total, ident, flags = struct.unpack_from(">HHH", frame, 16)
    assert total == len(frame) - 14
    return frame[23], frame[34:], ident, flags


def echo(data: bytes, *, ident: int = 7) -> bytes:
    """An ICMP echo request."""
    rest = struct.pack(">HH", ident, 1) + data
    return struct.pack(">BBH", 8, 0, ones(b"\x08\0\0\0" + rest)) + rest


def tcp(
    source: int, to: int, seq: int, ack: int, flags: int, *, window: int = 0xFFFF, data: bytes = b"",
    options: bytes = b"",
) -> bytes:  # fmt: skip
    """A frame with a TCP segment."""
    head = struct.pack(
        ">HHIIBBHHH", source, to, seq & M32, ack & M32, (20 + len(options)) // 4 << 4, flags, window, 0, 0
    )
    whole = head + options + data
    value = ones(GUEST + HOST + struct.pack(">BBH", 0, 6, len(whole)) + whole)
    return ipv4(6, whole[:16] + struct.pack(">H", value) + whole[18:])


@dataclass
class Seg:
    """A segment as it was read."""

    to: int
    seq: int
    ack: int
    flags: int
    window: int
    data: bytes
    options: bytes

    @classmethod
    def of(cls, frame: bytes) -> Seg:
        """From a frame; its checksum is right."""
        protocol, raw, _, _ = read_ipv4(frame)
        assert protocol == 6
        assert ones(HOST + GUEST + struct.pack(">BBH", 0, 6, len(raw)) + raw) == 0
        _, to, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", raw)
        size = offset >> 4 << 2
        return cls(to, seq, ack, flags, window, raw[size:], raw[20:size])


@dataclass
class Peer:
    """A TCP client that keeps no more state than it needs: sends data by go-back-N, takes data in order."""

    host: Any
    port: int
    send: bytes = b""
    own: int = 40000
    mss: int = 1460
    isn: int = 0xFFFF_F000
    window: int = 0xFFFF
    flight: int = 8
    """Segments sent at once."""
    read_limit: int | None = None
    got: bytearray = field(default_factory=bytearray)
    connected: bool = False
    fin_seen: bool = False
    reset: bool = False
    acked: int = 0
    """Of `send`, and 1 more for FIN."""
    irs: int = 0
    peer_window: int = 0

    def next_frames(self) -> list[bytes]:
        """What is to be sent now, again and again until it is acknowledged."""
        if not self.connected:
            option = struct.pack(">BBH", 2, 4, self.mss)
            return [tcp(self.own, self.port, self.isn, 0, 2, window=self.window, options=option)]
        frames, at = [], self.acked
        while at < min(len(self.send), self.acked + min(self.flight * self.mss, self.peer_window)):
            part = self.send[at : at + self.mss][: self.acked + self.peer_window - at]
            frames.append(self._segment(at, 0x10, part))
            at += len(part)
        if at == len(self.send) and self.acked <= len(self.send):
            frames.append(self._segment(at, 0x11, b""))
        return frames or [self._segment(at, 0x10, b"")]

    def _segment(self, at: int, flags: int, data: bytes) -> bytes:
        ack = self.irs + 1 + len(self.got) + self.fin_seen
        return tcp(self.own, self.port, self.isn + 1 + at, ack, flags, window=self.window, data=data)

    def take(self, frame: bytes) -> bytes:
        """A frame of the host's: the acknowledgment."""
        seg = Seg.of(frame)
        assert seg.to == self.own
        if seg.flags & 4:
            self.reset = True
            return b""
        if seg.flags & 2:
            self.irs, self.connected = seg.seq, True
            self.peer_window = seg.window
            return self._segment(self.acked, 0x10, b"")
        assert len(seg.data) <= self.mss
        self.peer_window = seg.window
        self.acked = max(self.acked, min(len(self.send) + 1, (seg.ack - self.isn - 1) & M32))
        expected = (self.irs + 1 + len(self.got)) & M32
        if seg.seq == expected and not self.fin_seen:
            self.got += seg.data
            if seg.flags & 1:
                self.fin_seen = True
        return self._segment(self.acked, 0x10, b"") if seg.data or seg.flags & 1 else b""

    @property
    def done(self) -> bool:
        return self.fin_seen and self.acked == len(self.send) + 1


class Link:
    """Between a peer and the host: loses, doubles and reorders frames both ways, as `random` says."""

    def __init__(self, host: Any, peer: Peer, random: Any = None, *, loss: float = 0.0) -> None:
        self.host, self.peer, self.random, self.loss = host, peer, random, loss
        self.now_s = 0.0
        self.frames = 0

    def _disturbed(self, frames: list[bytes]) -> list[bytes]:
        if self.random is None:
            return frames
        kept = [frame for frame in frames if self.random.random() >= self.loss]
        kept += [frame for frame in kept if self.random.random() < self.loss / 4]
        for index in range(len(kept) - 1):
            if self.random.random() < self.loss:
                kept[index], kept[index + 1] = kept[index + 1], kept[index]
        return kept

    def run(self, steps: int = 100_000) -> None:
        """Until the peer is done, one tick of the host's clock after each exchange."""
        to_host: list[bytes] = self.peer.next_frames()
        for step in range(steps):
            if self.peer.done or self.peer.reset:
                return
            to_peer: list[bytes] = []
            for frame in self._disturbed(to_host):
                self.frames += 1
                to_peer += self.host.receive(frame, self.now_s)
            self.now_s += 0.1
            to_peer += self.host.tick(self.now_s)
            answers = [self.peer.take(frame) for frame in self._disturbed(to_peer)]
            to_host = [answer for answer in answers if answer]
            if not to_host or step % 4 == 3:
                to_host += self.peer.next_frames()
        raise AssertionError(f"not done after {steps} steps: {self.peer}"[:300])


class Net:
    """Everything of the peer's, for tests: they have no package to import it from."""

    ones = staticmethod(ones)
    ipv4 = staticmethod(ipv4)
    read_ipv4 = staticmethod(read_ipv4)
    echo = staticmethod(echo)
    tcp = staticmethod(tcp)
    Seg = Seg
    Peer = Peer
    Link = Link
    MAC_HOST, MAC_GUEST, HOST, GUEST = MAC_HOST, MAC_GUEST, HOST, GUEST


@pytest.fixture(scope="module")
def net() -> type[Net]:
    """The peer's tools."""
    return Net
