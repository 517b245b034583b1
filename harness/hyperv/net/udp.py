"""UDP datagrams (RFC 768)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from harness.hyperv.net.checksum import internet_checksum, pseudo_header
from harness.hyperv.net.malformed import Malformed

__all__ = ["PROTOCOL", "Datagram"]

PROTOCOL: Final = 17
_HEADER_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Datagram:
    """Ports and payload."""

    source_port: int
    destination_port: int
    payload: bytes

    @classmethod
    def parse(cls, data: bytes, source: bytes, destination: bytes) -> Datagram:
        """From an IPv4 payload between two addresses; raises Malformed."""
        if len(data) < _HEADER_BYTES:
            raise Malformed("udp: short")
        ports_from, ports_to, size, checksum = struct.unpack_from(">HHHH", data)
        if not _HEADER_BYTES <= size <= len(data):
            raise Malformed("udp: length")
        data = data[:size]
        if checksum and internet_checksum(pseudo_header(source, destination, PROTOCOL, size) + data):
            raise Malformed("udp: checksum")
        return cls(ports_from, ports_to, data[_HEADER_BYTES:])

    def pack(self, source: bytes, destination: bytes) -> bytes:
        """Its bytes; the checksum is never 0, which would say that there is none."""
        size = _HEADER_BYTES + len(self.payload)
        head = struct.pack(">HHH", self.source_port, self.destination_port, size)
        pseudo = pseudo_header(source, destination, PROTOCOL, size)
        checksum = internet_checksum(pseudo + head + b"\0\0" + self.payload) or 0xFFFF
        return head + struct.pack(">H", checksum) + self.payload
