"""Address resolution (RFC 826), for one address of our own."""

from __future__ import annotations

from typing import Final

from harness.hyperv.net.malformed import Malformed

__all__ = ["answer"]

_ETHERNET_IPV4: Final = bytes.fromhex("0001 0800 06 04")
_REQUEST, _REPLY = b"\0\1", b"\0\2"
SIZE_BYTES: Final = 28


def answer(message: bytes, mac: bytes, address: bytes) -> tuple[bytes | None, bytes, bytes]:
    """The reply, or None where none is due, and the sender's IPv4 and MAC address; raises Malformed."""
    if len(message) < SIZE_BYTES or message[:6] != _ETHERNET_IPV4:
        raise Malformed("arp: form")
    sender_mac, sender, target = message[8:14], message[14:18], message[24:28]
    reply = None
    if message[6:8] == _REQUEST and target == address:
        reply = _ETHERNET_IPV4 + _REPLY + mac + address + sender_mac + sender
    return reply, sender, sender_mac
