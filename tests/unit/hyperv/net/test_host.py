"""Tests of harness.hyperv.net: ARP, IPv4, ICMP, UDP, DHCP and the host that has them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.net.checksum import internet_checksum
from harness.hyperv.net.host import MAX_NEIGHBOURS, IpHost
from harness.hyperv.net.ipv4 import MAX_DATAGRAMS, REASSEMBLY_S


def arp(net: Any, *, target: bytes, sender: bytes | None = None, operation: int = 1) -> bytes:
    own: bytes = net.GUEST if sender is None else sender
    mac: bytes = net.MAC_GUEST
    body = struct.pack(">HHBBH", 1, 0x800, 6, 4, operation) + mac + own + bytes(6) + target
    return b"\xff" * 6 + mac + b"\x08\x06" + body + bytes(18)


@given(st.binary(max_size=100))
@settings(max_examples=300)
def test_checksum(net: Any, data: bytes) -> None:
    """The remainder of one large number is what adding up words gives."""
    assert internet_checksum(data) == net.ones(data)
    even = data + bytes(len(data) % 2)
    assert internet_checksum(even + struct.pack(">H", internet_checksum(even))) in (0, 0xFFFF)


def test_arp(net: Any) -> None:
    """Who asks for the host's address is told; others, and answers, are not."""
    host = IpHost()
    (reply,) = host.receive(arp(net, target=net.HOST), 0.0)
    assert reply[:14] == net.MAC_GUEST + net.MAC_HOST + b"\x08\x06"
    assert (
        reply[14:]
        == struct.pack(">HHBBH", 1, 0x800, 6, 4, 2) + net.MAC_HOST + net.HOST + net.MAC_GUEST + net.GUEST
    )
    assert host.receive(arp(net, target=bytes([10, 9, 8, 7])), 0.0) == []
    assert host.receive(arp(net, target=net.HOST, operation=2), 0.0) == []
    for number in range(3 * MAX_NEIGHBOURS):
        host.receive(arp(net, target=net.HOST, sender=bytes([10, 9, 9, number])), 0.0)
    assert len(host._neighbours) == MAX_NEIGHBOURS


def pieces(net: Any, message: bytes, step: int, *, ident: int = 9) -> Iterator[bytes]:
    for at in range(0, len(message), step):
        more = 0x2000 if at + step < len(message) else 0
        yield net.ipv4(1, message[at : at + step], ident=ident, flags=more | at // 8)


def joined(net: Any, frames: list[bytes], mtu: int) -> bytes:
    """The payload of fragments, as they come."""
    out = b""
    for number, frame in enumerate(frames):
        assert len(frame) - 14 <= mtu
        _, payload, _, flags = net.read_ipv4(frame)
        assert (flags & 0x1FFF) * 8 == len(out)
        assert bool(flags & 0x2000) == (number < len(frames) - 1)
        out += payload
    return out


@pytest.mark.parametrize("mtu", [68, 1500, 9000, 65521])
@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 8192, 30_000, 65_507])
def test_ping(net: Any, mtu: int, size: int) -> None:
    """An echo of any length comes back, in fragments where the MTU wants it, whatever their order."""
    host = IpHost()
    host.link_mtu(mtu)
    message = net.echo(random.Random(size).randbytes(size))  # noqa: S311 - content to compare
    frames = (
        list(pieces(net, message, max(8, (mtu - 20) & ~7))) if size > mtu - 28 else [net.ipv4(1, message)]
    )
    if len(frames) > 1024:
        frames = list(pieces(net, message, 128))
    random.Random(mtu).shuffle(frames)  # noqa: S311 - not a secret
    answers = [answer for frame in frames for answer in host.receive(frame, 0.0)]
    whole = joined(net, answers, mtu)
    assert (whole[0], net.ones(whole), whole[4:]) == (0, 0, message[4:])
    assert host.echoes == {size: 1}
    assert not host.drops


def test_fragments_are_bounded(net: Any) -> None:
    """Incomplete datagrams are given up when there are too many, when too old, when they contradict."""
    host = IpHost()
    message = net.echo(bytes(3000))
    for ident in range(3 * MAX_DATAGRAMS):
        host.receive(next(iter(pieces(net, message, 1480, ident=ident))), 0.0)
    assert host._reassembly.waiting == MAX_DATAGRAMS
    host.tick(REASSEMBLY_S + 0.1)
    assert host._reassembly.waiting == 0
    first, second, third = pieces(net, message, 1480)
    host.receive(first, 0.0)
    host.receive(first, 0.0)  # the same again does no harm
    host.receive(net.ipv4(1, bytes(16), ident=9, flags=0x2000 | 1), 0.0)
    assert host.drops["ipv4: fragments overlap"] == 1
    assert host._reassembly.waiting == 0
    for frame in (third, second, first):
        answers = host.receive(frame, 0.0)
    assert len(answers) == 3
    host.receive(net.ipv4(1, bytes(8), flags=0x1FFF), 0.0)
    assert host.drops["ipv4: fragment beyond 64 KiB"] == 1
    host.receive(net.ipv4(1, bytes(8), ident=3, flags=100), 0.0)
    host.receive(net.ipv4(1, bytes(8), ident=3, flags=0x2000 | 200), 0.0)
    assert host.drops["ipv4: fragment after the last"] == 1


@pytest.mark.parametrize("at", [14, 16, 17, 20, 24, 30, 36, 44])
def test_a_turned_bit_is_seen(net: Any, at: int) -> None:
    """Whatever byte of a ping is wrong, it is dropped and counted."""
    host = IpHost()
    frame = bytearray(net.ipv4(1, net.echo(b"hello, world")))
    frame[at] ^= 0x40
    assert host.receive(bytes(frame), 0.0) == []
    assert sum(host.drops.values()) == 1


def dhcp(net: Any, kind: int, *, mac: bytes | None = None, requested: bytes = b"", flags: int = 0) -> bytes:
    """A DHCP message from a client without an address."""
    client = net.MAC_GUEST if mac is None else mac
    body = (
        struct.pack(">BBBBIHH16s", 1, 1, 6, 0, 0x1234, 0, flags, bytes(16))
        + client.ljust(16, b"\0")
        + bytes(192)
    )
    body += bytes.fromhex("63825363") + bytes([53, 1, kind])
    body += (bytes([50, 4]) + requested if requested else b"") + b"\xff"
    return bytes(
        net.ipv4(17, struct.pack(">HHHH", 68, 67, 8 + len(body), 0) + body, to=b"\xff" * 4, of=bytes(4))
    )


def told(net: Any, frames: list[bytes]) -> tuple[int, bytes, bytes]:
    """Kind, address, and the frame's destination."""
    (frame,) = frames
    _, raw, _, _ = net.read_ipv4(frame)
    assert net.ones(frame[26:34] + struct.pack(">BBH", 0, 17, len(raw)) + raw) == 0
    body = raw[8:]
    assert body[236:243] == bytes.fromhex("63825363") + bytes([53, 1, body[242]])
    return body[242], body[16:20], frame[:6]


def test_dhcp(net: Any) -> None:
    """One client gets the lease and keeps it; another is refused until it is released."""
    host = IpHost()
    assert told(net, host.receive(dhcp(net, 1), 0.0)) == (2, net.GUEST, net.MAC_GUEST)
    assert told(net, host.receive(dhcp(net, 3, requested=net.GUEST, flags=0x8000), 0.0)) == (
        5, net.GUEST, b"\xff" * 6,
    )  # fmt: skip
    other = bytes.fromhex("00155d000077")
    assert host.receive(dhcp(net, 1, mac=other), 0.0) == []
    assert told(net, host.receive(dhcp(net, 3, mac=other, requested=net.GUEST), 0.0))[0] == 6
    assert told(net, host.receive(dhcp(net, 3, requested=bytes([10, 9, 8, 99])), 0.0))[0] == 6
    assert host.receive(dhcp(net, 7), 0.0) == []
    assert told(net, host.receive(dhcp(net, 1, mac=other), 0.0))[0] == 2


@given(st.binary(max_size=400), st.sampled_from([0, 14, 34, 42]), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_frame(net: Any, data: bytes, keep: int, protocol: int) -> None:
    """Whatever a frame holds behind a header that is right, nothing raises."""
    host = IpHost()
    for frame in (
        net.ipv4(1, b"")[:keep] + data, net.ipv4(protocol, data), net.ipv4(17, data),
        net.ipv4(17, struct.pack(">HHHH", 68, 67, 8 + len(data), 0) + data),
        net.MAC_HOST + net.MAC_GUEST + b"\x08\x06" + data,
    ):  # fmt: skip
        for answer in host.receive(frame, 0.0):
            assert len(answer) <= 1514
        host.tick(0.5)
