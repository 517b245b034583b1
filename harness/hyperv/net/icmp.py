"""ICMP echo (RFC 792)."""

from __future__ import annotations

import struct
from typing import Final

from harness.hyperv.net.checksum import internet_checksum
from harness.hyperv.net.malformed import Malformed

__all__ = ["echo_reply"]

_ECHO, _ECHO_REPLY = 8, 0
_HEADER_BYTES: Final = 8


def echo_reply(message: bytes) -> bytes:
    """The answer to an echo request; raises Malformed for anything else."""
    if len(message) < _HEADER_BYTES:
        raise Malformed("icmp: short")
    if internet_checksum(message):
        raise Malformed("icmp: checksum")
    if message[:2] != bytes([_ECHO, 0]):
        raise Malformed("icmp: not an echo request")
    rest = message[4:]
    checksum = internet_checksum(bytes([_ECHO_REPLY, 0, 0, 0]) + rest)
    return struct.pack(">BBH", _ECHO_REPLY, 0, checksum) + rest
