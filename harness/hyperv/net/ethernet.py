"""Ethernet frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from harness.hyperv.net.malformed import Malformed

__all__ = ["BROADCAST", "HEADER_BYTES", "EtherType", "Frame"]

BROADCAST: Final = b"\xff" * 6
HEADER_BYTES: Final = 14


class EtherType:
    """The kinds that are known here."""

    IPV4: Final = 0x0800
    ARP: Final = 0x0806


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame without preamble and check sequence."""

    destination: bytes
    source: bytes
    kind: int
    payload: bytes

    @classmethod
    def parse(cls, data: bytes) -> Frame:
        """Raises Malformed."""
        if len(data) < HEADER_BYTES:
            raise Malformed("ethernet: short")
        return cls(data[:6], data[6:12], int.from_bytes(data[12:14], "big"), data[14:])

    def pack(self) -> bytes:
        """Its bytes, not padded to the least length of a wire that there is not."""
        return self.destination + self.source + struct.pack(">H", self.kind) + self.payload
