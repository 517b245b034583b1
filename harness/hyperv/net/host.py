"""The host at the other end of the link: frames in, frames out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface
from typing import Final

from harness.hyperv.net import arp, icmp, udp
from harness.hyperv.net.dhcp import CLIENT_PORT, SERVER_PORT, DhcpServer
from harness.hyperv.net.ethernet import BROADCAST, EtherType, Frame
from harness.hyperv.net.ipv4 import HEADER_BYTES, Packet, Reassembly, fragments
from harness.hyperv.net.malformed import Malformed
from harness.hyperv.net.segment import PROTOCOL as TCP
from harness.hyperv.net.segment import Segment
from harness.hyperv.net.streams import Stream
from harness.hyperv.net.tcp import Tcp

__all__ = ["GUEST_ADDRESS", "HOST_ADDRESS", "IpHost"]

HOST_ADDRESS: Final = IPv4Interface("10.9.8.1/24")
GUEST_ADDRESS: Final = IPv4Address("10.9.8.2")
"""What DHCP leases."""
HOST_MAC: Final = bytes.fromhex("00155d0000fe")
_ICMP: Final = 1
MAX_NEIGHBOURS: Final = 64
LEAST_MTU: Final = 68
_TCP_HEADER_BYTES: Final = 20


class IpHost:
    """A host with one address.

    Arguments: `ports`, what is behind its TCP ports; `lease`, the address that DHCP gives away.
    """

    def __init__(
        self, ports: Mapping[int, Callable[[], Stream]] | None = None, *,
        address: IPv4Interface = HOST_ADDRESS, lease: IPv4Address = GUEST_ADDRESS, mac: bytes = HOST_MAC,
    ) -> None:  # fmt: skip
        self.mac = mac
        self.address = address.ip.packed
        self.tcp = Tcp(ports or {})
        self.dhcp = DhcpServer(self.address, lease.packed, address.netmask.packed)
        self.drops: Counter[str] = Counter()
        """What was dropped, by reason."""
        self.echoes: Counter[int] = Counter()
        """Echo requests by the length of their data."""
        self.mtu = 1500
        self._neighbours: dict[bytes, bytes] = {}
        self._reassembly = Reassembly()
        self._ident = 0

    def link_mtu(self, mtu: int) -> None:
        """The link takes packets of that many bytes from now on."""
        self.mtu = max(LEAST_MTU, min(mtu, 0xFFFF))
        self.tcp.mss = self.mtu - HEADER_BYTES - _TCP_HEADER_BYTES

    def receive(self, data: bytes, now_s: float) -> list[bytes]:
        """A frame from the link: the frames that answer it."""
        try:
            frame = Frame.parse(data)
            if frame.destination not in (self.mac, BROADCAST):
                raise Malformed("ethernet: for somebody else")
            if frame.kind == EtherType.ARP:
                return list(self._arp(frame))
            if frame.kind == EtherType.IPV4:
                return list(self._ipv4(frame, now_s))
            raise Malformed(f"ethernet: type {frame.kind:#06x}" if frame.kind == 0x86DD else "ethernet: type")
        except Malformed as error:
            self.drops[str(error)] += 1
            return []

    def tick(self, now_s: float) -> list[bytes]:
        """Time passes: the frames that are due."""
        self._reassembly.expire(now_s)
        out: list[bytes] = []
        for destination, segment in self.tcp.tick(now_s):
            out += self._send(destination, TCP, segment.pack(self.address, destination))
        return out

    def _arp(self, frame: Frame) -> Iterator[bytes]:
        reply, sender, sender_mac = arp.answer(frame.payload, self.mac, self.address)
        if reply is not None:
            self._learn(sender, sender_mac)
            yield Frame(sender_mac, self.mac, EtherType.ARP, reply).pack()

    def _learn(self, address: bytes, mac: bytes) -> None:
        """Where an address is; the oldest goes where there are too many."""
        self._neighbours.pop(address, None)
        if len(self._neighbours) >= MAX_NEIGHBOURS:
            del self._neighbours[next(iter(self._neighbours))]
        self._neighbours[address] = mac

    def _ipv4(self, frame: Frame, now_s: float) -> Iterator[bytes]:
        part = Packet.parse(frame.payload)
        ours = part.destination == self.address
        if not ours and part.destination != b"\xff" * 4:
            raise Malformed("ipv4: for somebody else")
        packet = self._reassembly.add(part, now_s)
        if packet is None:
            return
        if packet.protocol == udp.PROTOCOL:
            yield from self._udp(packet)
        elif not ours:
            raise Malformed("ipv4: broadcast")
        else:
            if packet.source not in self._neighbours:
                self._learn(packet.source, frame.source)
            yield from self._transport(packet, now_s)

    def _transport(self, packet: Packet, now_s: float) -> Iterable[bytes]:
        if packet.protocol == _ICMP:
            reply = icmp.echo_reply(packet.payload)
            self.echoes[len(reply) - 8] += 1
            return self._send(packet.source, _ICMP, reply)
        if packet.protocol == TCP:
            segment = Segment.parse(packet.payload, packet.source, packet.destination)
            out: list[bytes] = []
            for answer in self.tcp.receive(packet.source, segment, now_s):
                out += self._send(packet.source, TCP, answer.pack(self.address, packet.source))
            return out
        raise Malformed("ipv4: protocol")

    def _udp(self, packet: Packet) -> Iterator[bytes]:
        datagram = udp.Datagram.parse(packet.payload, packet.source, packet.destination)
        if datagram.destination_port != SERVER_PORT:
            raise Malformed("udp: port")
        answer = self.dhcp.answer(datagram.payload)
        if answer is None:
            return
        message, address = answer
        destination = address or b"\xff" * 4
        raw = udp.Datagram(SERVER_PORT, CLIENT_PORT, message).pack(self.address, destination)
        if address is not None:
            self._learn(address, datagram.payload[28:34])
        yield from self._send(destination, udp.PROTOCOL, raw)

    def _send(self, destination: bytes, protocol: int, payload: bytes) -> Iterator[bytes]:
        """The frames of a packet, in fragments where the link wants it."""
        mac = BROADCAST if destination == b"\xff" * 4 else self._neighbours.get(destination)
        if mac is None:
            self.drops["ipv4: no neighbour"] += 1
            return
        self._ident = self._ident + 1 & 0xFFFF
        whole = Packet(
            source=self.address, destination=destination, protocol=protocol, payload=payload,
            ident=self._ident,
        )  # fmt: skip
        for packet in fragments(whole, self.mtu):
            yield Frame(mac, self.mac, EtherType.IPV4, packet.pack()).pack()
