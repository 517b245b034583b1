"""TCP segments (RFC 9293), and sequence numbers as distances."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harness.hyperv.net.checksum import internet_checksum, pseudo_header
from harness.hyperv.net.malformed import Malformed

__all__ = ["DEFAULT_MSS", "PROTOCOL", "Flag", "Segment", "distance"]

PROTOCOL: Final = 6
HEADER_BYTES: Final = 20
DEFAULT_MSS: Final = 536
_M32: Final = 0xFFFF_FFFF
_END, _NOP, _MSS, _SCALE = 0, 1, 2, 3
_MAX_SCALE: Final = 14
"""RFC 7323, 2.3."""


class Flag(IntEnum):
    """Control bits. No IntFlag: each `&` would make an object, and every segment takes a dozen."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


def distance(later: int, earlier: int) -> int:
    """How far one sequence number is after another; negative: before it."""
    return ((later - earlier + 0x8000_0000) & _M32) - 0x8000_0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment; of its options only a SYN's MSS and window scale are read or written."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledged: int = 0
    flags: int
    window: int = 0
    payload: bytes = b""
    mss: int | None = None
    scale: int | None = None
    """By how many bits the windows of further segments are shifted; None: not offered."""

    @classmethod
    def parse(cls, data: bytes, source: bytes, destination: bytes) -> Segment:
        """From an IPv4 payload between two addresses; raises Malformed."""
        if len(data) < HEADER_BYTES:
            raise Malformed("tcp: short")
        if internet_checksum(pseudo_header(source, destination, PROTOCOL, len(data)) + data):
            raise Malformed("tcp: checksum")
        port_from, port_to, sequence, acknowledged, offset, flags, window = struct.unpack_from(
            ">HHIIBBH", data
        )
        header_bytes = (offset >> 4) * 4
        if not HEADER_BYTES <= header_bytes <= len(data):
            raise Malformed("tcp: header length")
        options = _options(data[HEADER_BYTES:header_bytes]) if flags & Flag.SYN else {}
        return cls(
            source_port=port_from, destination_port=port_to, sequence=sequence, acknowledged=acknowledged,
            flags=flags, window=window, payload=data[header_bytes:],
            mss=options.get(_MSS), scale=options.get(_SCALE),
        )  # fmt: skip

    def pack(self, source: bytes, destination: bytes) -> bytes:
        """Its bytes."""
        options = b"" if self.mss is None else struct.pack(">BBH", _MSS, 4, self.mss)
        options += b"" if self.scale is None else bytes([_NOP, _SCALE, 3, self.scale])
        head = struct.pack(
            ">HHIIBBHHH", self.source_port, self.destination_port, self.sequence & _M32,
            self.acknowledged & _M32, (HEADER_BYTES + len(options)) // 4 << 4, self.flags, self.window, 0, 0,
        )  # fmt: skip
        whole = head + options + self.payload
        checksum = internet_checksum(pseudo_header(source, destination, PROTOCOL, len(whole)) + whole)
        return whole[:16] + struct.pack(">H", checksum) + whole[18:]


def _options(options: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    at = 0
    while at < len(options) and options[at] != _END:
        if options[at] == _NOP:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            raise Malformed("tcp: option")
        if (options[at], size) in ((_MSS, 4), (_SCALE, 3)):
            found[options[at]] = int.from_bytes(options[at + 2 : at + size], "big")
        at += size
    if _SCALE in found:
        found[_SCALE] = min(found[_SCALE], _MAX_SCALE)
    return found
