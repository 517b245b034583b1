"""Tests of harness.hyperv.net.tcp and connection, against a small client of the tests'."""

from __future__ import annotations

import hashlib
import random
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.net.connection import IDLE_S, LINGER_S, MAX_RETRIES
from harness.hyperv.net.host import IpHost
from harness.hyperv.net.streams import BUFFER_BYTES, Echo, Http, Sink, Source
from harness.hyperv.net.tcp import MAX_CONNECTIONS

CONTENT = random.Random(3).randbytes(300_000)  # noqa: S311 - content to compare, not a secret


def host() -> IpHost:
    return IpHost({7: Echo, 9: Sink, 19: lambda: Source(CONTENT), 80: lambda: Http(CONTENT)})


def sum_line(data: bytes) -> bytes:
    return f"{len(data)} {hashlib.md5(data, usedforsecurity=False).hexdigest()}\n".encode()


class Client:
    """A connection whose every segment a test makes itself."""

    def __init__(self, net: Any, made: IpHost, port: int, *, window: int = 0xFFFF, mss: int = 1460) -> None:
        self.net, self.host, self.port, self.now_s = net, made, port, 0.0
        option = struct.pack(">BBH", 2, 4, mss)
        (answer,) = self.raw(net.tcp(5000, port, 100, 0, 2, window=window, options=option))
        assert (answer.flags, answer.ack) == (0x12, 101)
        self.irs = answer.seq
        self.answer = answer

    def raw(self, frame: bytes) -> list[Any]:
        return [self.net.Seg.of(each) for each in self.host.receive(frame, self.now_s)]

    def say(
        self, at: int = 0, *, ack: int = 0, flags: int = 0x10, data: bytes = b"", window: int = 0xFFFF
    ) -> Any:
        """A segment at offset `at` of our data that acknowledges `ack` bytes of the host's."""
        return self.raw(
            self.net.tcp(5000, self.port, 101 + at, self.irs + 1 + ack, flags, window=window, data=data)
        )

    def tick(self, seconds: float) -> list[Any]:
        self.now_s += seconds
        return [self.net.Seg.of(each) for each in self.host.tick(self.now_s)]


@pytest.mark.parametrize("size", [0, 1, 1460, 1461, 100_000])
def test_sink(net: Any, size: int) -> None:
    """What is sent is counted and summed; the sum comes back, and both sides end."""
    made = host()
    peer = net.Peer(made, 9, send=CONTENT[:size])
    net.Link(made, peer).run()
    assert bytes(peer.got) == sum_line(CONTENT[:size])
    assert not made.drops
    ((port, stream),) = made.tcp.streams
    assert isinstance(stream, Sink)
    assert (port, stream.size_bytes, stream.complete) == (9, size, True)


def test_source(net: Any) -> None:
    """All content arrives in order, and no segment is longer than the peer's MSS."""
    made = host()
    peer = net.Peer(made, 19, mss=512)
    net.Link(made, peer).run()
    assert bytes(peer.got) == CONTENT


@given(seed=st.integers(0, 2**32), loss=st.sampled_from([0.05, 0.2, 0.4]), port=st.sampled_from([7, 9, 19]))
@settings(max_examples=15, deadline=None)
def test_loss_and_reordering(net: Any, seed: int, loss: float, port: int) -> None:
    """With frames lost, doubled and reordered both ways, everything arrives once and in order."""
    made = host()
    sent = CONTENT[:40_000] if port != 19 else b""
    peer = net.Peer(made, port, send=sent, flight=5)
    net.Link(made, peer, random.Random(seed), loss=loss).run()  # noqa: S311 - not a secret
    assert not peer.reset
    assert bytes(peer.got) == {7: sent, 9: sum_line(sent), 19: CONTENT}[port]


def test_lost_segments_are_sent_again_at_once(net: Any) -> None:
    """Three duplicate acknowledgments bring the first segment back, and a partial one the next lost."""
    client = Client(net, host(), 19)
    first = client.say()
    assert len(first) > 10
    assert client.say() == client.say() == []
    (again,) = client.say()
    assert (again.seq, again.data) == (first[0].seq, first[0].data)
    partial = client.say(ack=1460)
    assert partial[0].seq == first[1].seq
    assert client.say(ack=len(first) * 1460)[0].seq != first[2].seq


def test_timeouts_double_and_end(net: Any) -> None:
    """What is never acknowledged is sent again at growing distances, and then given up with a reset."""
    client = Client(net, host(), 19)
    client.say()
    times, seen = [], []
    for step in range(2000):
        for segment in client.tick(0.1):
            times.append(step)
            seen.append(segment)
        if client.host.tcp.open == 0:
            break
    assert len(seen) == MAX_RETRIES + 1
    assert seen[-1].flags & 4
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[:3] == sorted(gaps[:3])
    assert gaps[0] < gaps[2]
    assert max(gaps) <= 41


def test_a_closed_window_is_respected_and_probed(net: Any) -> None:
    """Nothing is sent into a window of 0 but a byte now and then, and all of it once it opens."""
    client = Client(net, host(), 19, window=0)
    assert client.say(window=0) == []
    probes = [segment for _ in range(8) for segment in client.tick(0.2)]
    assert probes
    assert {len(segment.data) for segment in probes} == {1}
    assert client.say(window=0) == []
    opened = client.say(window=4000)
    assert b"".join(segment.data for segment in opened) == CONTENT[: len(opened) * 1460][:4000]
    assert opened[0].seq == client.irs + 1


def test_our_window_closes_and_opens(net: Any) -> None:
    """An echo that nobody reads takes two buffers full, then its window is 0 until there is room."""
    client = Client(net, host(), 7, window=0)
    at, window = 0, client.answer.window
    for _ in range(1000):
        size = min(1460, window)
        if not size:
            break
        answers = client.say(at, data=bytes(size), window=0, flags=0x18)
        at += size
        window = answers[-1].window
    assert window == 0
    assert at <= 2 * BUFFER_BYTES + 1460
    assert client.say(at, data=b"x", window=0)[-1].ack == 101 + at  # not taken
    got, ack = 0, 0
    for _ in range(1000):
        answers = client.say(at, ack=ack, window=0xFFFF)
        got += sum(len(each.data) for each in answers)
        ack = got
        if answers and answers[-1].window > 2 * 1460:
            break
    assert answers[-1].window > 2 * 1460


def test_windows_are_scaled(net: Any) -> None:
    """Where the peer's SYN offers it, windows are shifted both ways; 187 KB are under way at once."""
    made = host()
    options = struct.pack(">BBHBBBB", 2, 4, 1460, 1, 3, 3, 7)
    (frame,) = made.receive(net.tcp(5000, 19, 100, 0, 2, window=1000, options=options), 0.0)
    answer = net.Seg.of(frame)
    assert answer.options == struct.pack(">BBHBBBB", 2, 4, 1460, 1, 3, 3, 3)
    assert answer.window == 0xFFFF
    frames = made.receive(net.tcp(5000, 19, 101, answer.seq + 1, 0x10, window=1460), 0.0)
    segments = [net.Seg.of(each) for each in frames]
    assert sum(len(each.data) for each in segments) == 1460 << 7
    assert {each.window for each in segments} == {BUFFER_BYTES >> 3}
    plain = Client(net, host(), 19)
    assert plain.answer.options == struct.pack(">BBH", 2, 4, 1460)
    assert {each.window for each in plain.say()} == {0xFFFF}


def test_early_segments_wait(net: Any) -> None:
    """What comes before its time is kept, asked for, and given on in order, overlaps cut."""
    made = host()
    client = Client(net, made, 9)
    data = CONTENT[:5000]
    (asked,) = client.say(2000, data=data[2000:3000])
    assert asked.ack == 101
    client.say(1500, data=data[1500:2500])
    client.say(4000, data=data[4000:])
    (answer,) = client.say(0, data=data[:1600])
    assert answer.ack == 101 + 3000
    (answer,) = client.say(2900, data=data[2900:4100], flags=0x18)
    assert answer.ack == 101 + 5000
    assert made.tcp.streams[0][1].md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()  # type: ignore[attr-defined]


def test_beyond_the_window(net: Any) -> None:
    """Bytes to the right of the window are not taken, however they come."""
    made = host()
    client = Client(net, made, 9)
    client.say(0x10000 - 1, data=b"beyond")
    client.say(0xFFFF - 3, data=b"abcdef")
    assert [stream.size_bytes for _, stream in made.tcp.streams] == [0]  # type: ignore[attr-defined]
    client.say(0, data=bytes(0x8000))
    client.say(0x8000, data=bytes(0x7FFC))
    assert made.tcp.streams[0][1].size_bytes == 0xFFFF  # type: ignore[attr-defined]


def test_wrong_checksums_are_dropped(net: Any) -> None:
    """A segment with a bit turned is not answered, and counted."""
    made = host()
    client = Client(net, made, 9)
    frame = bytearray(net.tcp(5000, 9, 101, client.irs + 1, 0x18, data=b"hello"))
    frame[-1] ^= 1
    assert made.receive(bytes(frame), 0.0) == []
    assert made.drops == {"tcp: checksum": 1}


def test_resets(net: Any) -> None:
    """A closed port, a segment of no connection, and a reset in and out of the window."""
    made = host()
    (refused,) = [net.Seg.of(each) for each in made.receive(net.tcp(1, 2, 500, 0, 2), 0.0)]
    assert (refused.flags, refused.ack) == (0x14, 501)
    (stray,) = [net.Seg.of(each) for each in made.receive(net.tcp(1, 9, 5, 77, 0x10), 0.0)]
    assert (stray.flags, stray.seq) == (4, 77)
    assert made.receive(net.tcp(1, 9, 5, 77, 4), 0.0) == []
    client = Client(net, made, 9)
    client.say(1 << 20, flags=0x14)
    assert made.tcp.open == 1
    client.say(0, flags=0x14)
    assert made.tcp.open == 0


def test_a_syn_again(net: Any) -> None:
    """A second SYN of the same connection brings the same answer; in an open one only an acknowledgment."""
    client = Client(net, host(), 9)
    (again,) = client.raw(net.tcp(5000, 9, 100, 0, 2))
    assert (again.flags, again.seq) == (0x12, client.irs)
    client.say()
    (challenge,) = client.raw(net.tcp(5000, 9, 100, 0, 2))
    assert challenge.flags == 0x10


def test_an_ended_connection_lingers(net: Any) -> None:
    """The peer's FIN said again is acknowledged again; after a while the connection is gone."""
    made = host()
    peer = net.Peer(made, 9, send=b"x")
    link = net.Link(made, peer)
    link.run()
    made.receive(peer._segment(2, 0x10, b""), link.now_s)
    fin = net.tcp(peer.own, 9, peer.isn + 2, peer.irs + 1 + len(peer.got) + 1, 0x11)
    (answer,) = [net.Seg.of(each) for each in made.receive(fin, link.now_s)]
    assert answer.ack == (peer.isn + 3) & 0xFFFF_FFFF
    made.tick(link.now_s + LINGER_S + 1)
    assert made.tcp.open == 0


def test_connections_are_bounded(net: Any) -> None:
    """A flood of SYNs keeps no more connections than there may be; silent ones end."""
    made = host()
    for port in range(3 * MAX_CONNECTIONS):
        assert len(made.receive(net.tcp(1000 + port, 9, 1, 0, 2), 0.0)) == 1
    assert made.tcp.open == MAX_CONNECTIONS
    quiet = host()
    client = Client(net, quiet, 9)
    client.say()
    assert client.tick(IDLE_S + 1)[-1].flags & 4
    assert quiet.tcp.open == 0


def test_http(net: Any) -> None:
    """A GET brings length and content; another method, or no request at all, an error."""
    for request, status in (
        (b"GET / HTTP/1.1\r\n\r\n", b"200"),
        (b"PUT / HTTP/1.1\r\n\r\n", b"405"),
        (b"", b"400"),
    ):
        made = host()
        peer = net.Peer(made, 80, send=request)
        net.Link(made, peer).run()
        head, _, content = bytes(peer.got).partition(b"\r\n\r\n")
        assert head.split()[1] == status
        assert content == (CONTENT if status == b"200" else b"")
        assert f"Content-Length: {len(content)}".encode() in head


@given(
    fields=st.tuples(
        st.integers(0, 65535), st.sampled_from([7, 9, 19, 80, 81]), st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1), st.integers(0, 255),
    ),
    window=st.integers(0, 65535),
    data=st.binary(max_size=64),
    options=st.binary(max_size=40).map(lambda raw: raw + bytes(-len(raw) % 4)),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_segment(net: Any, fields: Any, window: int, data: bytes, options: bytes) -> None:
    """Whatever is in a segment, in a connection or out of one, nothing raises and little is answered."""
    made = host()
    client = Client(net, made, fields[1]) if fields[1] != 81 else None
    source, port, seq, ack, flags = fields
    for near in (False, True):
        if near and client is not None:
            source, seq, ack = 5000, 101 + seq % 70_000 - 2000, client.irs + 1 + ack % 70_000 - 2000
        answers = made.receive(
            net.tcp(source, port, seq, ack, flags, window=window, data=data, options=options[:40]), 0.0
        )
        assert sum(map(len, answers)) < 3 * 0xFFFF
        made.tick(1.0)
