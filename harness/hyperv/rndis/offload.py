"""What a driver leaves to the host: checksums to fill in, and TCP segments longer than the link takes.

A large segment is passed on as one frame, its lengths and checksums made right: the other end of this link
takes frames of any length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from harness.hyperv.net.checksum import internet_checksum, pseudo_header
from harness.hyperv.rndis.packet import ETHERNET_HEADER_BYTES, DataPacket
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.rndis import Checksum, InfoType, LargeSend

__all__ = ["Offload", "as_sent", "verdict"]

_IPV4: Final = 0x0800
_TCP, _UDP = 6, 17
_CHECKSUM_AT: Final = {_TCP: 16, _UDP: 6}
_LEAST_HEADER: Final = {_TCP: 20, _UDP: 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """What the host does for its guest."""

    checksum: bool = True
    """TCP and UDP over IPv4."""
    large_send_bytes: int = 0
    """The longest IPv4 TCP segment to accept, headers included; 0: none."""


@dataclass(frozen=True, slots=True)
class _Ipv4:
    header_bytes: int
    protocol: int
    addresses: tuple[bytes, bytes]


def _ipv4(frame: bytes) -> _Ipv4 | None:
    if len(frame) < ETHERNET_HEADER_BYTES + 20 or frame[12:14] != b"\x08\x00" or frame[14] >> 4 != 4:
        return None
    header_bytes = (frame[14] & 15) * 4
    if header_bytes < 20 or ETHERNET_HEADER_BYTES + header_bytes > len(frame):
        return None
    return _Ipv4(header_bytes, frame[23], (frame[26:30], frame[30:34]))


def as_sent(packet: DataPacket, offload: Offload, mtu: int) -> bytes:
    """The frame as it goes out; raises Violated for what was not offered or does not fit the frame."""
    large, asked = packet.value(InfoType.LARGE_SEND), packet.value(InfoType.CHECKSUM)
    frame = packet.frame
    if large is None and len(frame) - ETHERNET_HEADER_BYTES > mtu:
        raise Violated(Rule.DEVICE, f"a frame of {len(frame)} bytes on a link whose MTU is {mtu}")
    if large is not None:
        return _segmented(frame, LargeSend.of(large), offload, mtu)
    if asked is not None and asked & (Checksum.SEND_TCP | Checksum.SEND_UDP):
        return _checksummed(frame, asked, offload)
    return frame


def _transport(frame: bytes, offset: int, protocol: int) -> _Ipv4:
    """The IPv4 header of a frame whose transport header is where its driver says."""
    ip = _ipv4(frame)
    if ip is None or ip.protocol != protocol:
        raise Violated(Rule.DEVICE, f"a checksum wanted for protocol {protocol}, which the frame has not")
    at = ETHERNET_HEADER_BYTES + ip.header_bytes
    if offset != at or at + _LEAST_HEADER[protocol] > len(frame):
        raise Violated(Rule.DEVICE, f"a transport header at {offset} of a frame where it is at {at}")
    return ip


def _checksummed(frame: bytes, asked: int, offload: Offload) -> bytes:
    if not offload.checksum:
        raise Violated(Rule.DEVICE, "a checksum to fill in, which was not offered")
    if not asked & Checksum.SEND_IPV4:
        raise Violated(Rule.DEVICE, f"checksums {asked & 0x1F:#x}, where IPv4's were offered")
    protocol = _TCP if asked & Checksum.SEND_TCP else _UDP
    ip = _transport(frame, asked >> 16 & 0x3FF, protocol)
    (total,) = struct.unpack_from(">H", frame, 16)
    if not ip.header_bytes + _LEAST_HEADER[protocol] <= total <= len(frame) - ETHERNET_HEADER_BYTES:
        raise Violated(Rule.DEVICE, f"an IPv4 length of {total} in a frame of {len(frame)} bytes")
    return _fill(frame, ip, protocol, ETHERNET_HEADER_BYTES + total)


def _fill(frame: bytes, ip: _Ipv4, protocol: int, end: int) -> bytes:
    at = ETHERNET_HEADER_BYTES + ip.header_bytes
    field = at + _CHECKSUM_AT[protocol]
    zeroed = frame[at:field] + b"\0\0" + frame[field + 2 : end]
    value = internet_checksum(pseudo_header(*ip.addresses, protocol, len(zeroed)) + zeroed)
    if protocol == _UDP and value == 0:
        value = 0xFFFF
    return frame[:field] + struct.pack(">H", value) + frame[field + 2 :]


def _segmented(frame: bytes, large: LargeSend, offload: Offload, mtu: int) -> bytes:
    if not offload.large_send_bytes or large.is_ipv6 or large.version != 2:
        raise Violated(Rule.DEVICE, f"a large send of version {large.version}, which was not offered")
    ip = _transport(frame, large.tcp_header_offset, _TCP)
    size = len(frame) - ETHERNET_HEADER_BYTES
    tcp_bytes = (frame[large.tcp_header_offset + 12] >> 4) * 4
    if size > min(offload.large_send_bytes, 0xFFFF) or tcp_bytes < 20 or ip.header_bytes + tcp_bytes > size:
        raise Violated(
            Rule.DEVICE,
            f"a large send of {size} bytes, of which {offload.large_send_bytes} were offered, with a TCP"
            f" header of {tcp_bytes}",
        )
    if not 0 < large.mss <= mtu - ip.header_bytes - tcp_bytes:
        raise Violated(Rule.DEVICE, f"segments of {large.mss} bytes on a link whose MTU is {mtu}")
    header = bytearray(frame[14 : 14 + ip.header_bytes])
    struct.pack_into(">H", header, 2, size)
    struct.pack_into(">H", header, 10, 0)
    struct.pack_into(">H", header, 10, internet_checksum(bytes(header)))
    whole = frame[:14] + bytes(header) + frame[14 + ip.header_bytes :]
    return _fill(whole, ip, _TCP, len(whole))


def verdict(frame: bytes) -> int | None:
    """Receive flags for a frame whose checksums were computed and are right; None where there are none."""
    ip = _ipv4(frame)
    if ip is None or struct.unpack_from(">H", frame, 20)[0] & 0x3FFF:
        return None
    (total,) = struct.unpack_from(">H", frame, 16)
    flags = 0
    at = ETHERNET_HEADER_BYTES + ip.header_bytes
    if internet_checksum(frame[14:at]) == 0:
        flags |= Checksum.IP_SUCCEEDED
    data = frame[at : ETHERNET_HEADER_BYTES + total]
    if ip.protocol in _CHECKSUM_AT and len(data) >= _LEAST_HEADER[ip.protocol]:
        unused = ip.protocol == _UDP and data[6:8] == b"\0\0"
        pseudo = pseudo_header(*ip.addresses, ip.protocol, len(data))
        if not unused and internet_checksum(pseudo + data) == 0:
            flags |= Checksum.TCP_SUCCEEDED if ip.protocol == _TCP else Checksum.UDP_SUCCEEDED
    return flags or None
