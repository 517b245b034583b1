"""The Internet checksum (RFC 1071)."""

from __future__ import annotations

import struct

__all__ = ["internet_checksum", "pseudo_header"]


def internet_checksum(data: bytes) -> int:
    """The complement of the ones' complement sum; 0 for data that include their right checksum.

    2**16 is 1 modulo 65535, so that the sum of 16-bit words is the number that they form, modulo 65535.
    """
    if len(data) & 1:
        data += b"\0"
    number = int.from_bytes(data, "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def pseudo_header(source: bytes, destination: bytes, protocol: int, size_bytes: int) -> bytes:
    """What TCP and UDP sum beside themselves, over IPv4."""
    return source + destination + struct.pack(">BBH", 0, protocol, size_bytes)
