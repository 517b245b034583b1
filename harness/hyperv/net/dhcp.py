"""A DHCP server with one lease (RFC 2131, RFC 2132): who asks first has it."""

from __future__ import annotations

import struct
from typing import Final

from harness.hyperv.net.malformed import Malformed

__all__ = ["CLIENT_PORT", "SERVER_PORT", "DhcpServer"]

SERVER_PORT, CLIENT_PORT = 67, 68
_HEADER: Final = struct.Struct(">BBBBIHH4s4s4s4s16s64s128s")
_COOKIE: Final = bytes.fromhex("63825363")
_REQUEST, _REPLY = 1, 2
_BROADCAST: Final = 0x8000
LEASE_S: Final = 24 * 3600
_NONE: Final = bytes(4)


class _Kind:
    DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)


class _Option:
    PAD, MASK, ROUTER, REQUESTED, LEASE, KIND, SERVER, MTU, END = 0, 1, 3, 50, 51, 53, 54, 26, 255


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _Option.END:
        if data[at] == _Option.PAD:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise Malformed("dhcp: option")
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


class DhcpServer:
    """Leases one address.

    Arguments: `server` and `lease`, IPv4 addresses of four bytes; `mask`, of their network.
    """

    def __init__(self, server: bytes, lease: bytes, mask: bytes) -> None:
        self.server, self.lease, self.mask = server, lease, mask
        self.client: bytes | None = None
        """The MAC address that has the lease."""
        self.acknowledged = 0

    def answer(self, message: bytes) -> tuple[bytes, bytes | None] | None:
        """The reply, and the address to send it to, None for broadcast; raises Malformed.

        None: there is nothing to say.
        """
        if len(message) < _HEADER.size + len(_COOKIE):
            raise Malformed("dhcp: short")
        fields = _HEADER.unpack_from(message)
        operation, hardware, hardware_bytes = fields[:3]
        if message[_HEADER.size : _HEADER.size + 4] != _COOKIE or operation != _REQUEST:
            raise Malformed("dhcp: not a request")
        if (hardware, hardware_bytes) != (1, 6):
            raise Malformed("dhcp: not ethernet")
        options = _options(message[_HEADER.size + 4 :])
        kind = options.get(_Option.KIND, b"")
        ours = options.get(_Option.SERVER, self.server) == self.server
        client = fields[11][:6]
        if len(kind) != 1 or not ours:
            return None
        answer = self._decide(kind[0], client, fields[7], options.get(_Option.REQUESTED, _NONE))
        return None if answer is None else self._reply(answer, fields, client)

    def _decide(self, kind: int, client: bytes, current: bytes, requested: bytes) -> int | None:
        mine = self.client in (None, client)
        if kind == _Kind.DISCOVER:
            return _Kind.OFFER if mine else None
        if kind == _Kind.REQUEST:
            wanted = requested if requested != _NONE else current
            if mine and wanted == self.lease:
                self.client = client
                self.acknowledged += 1
                return _Kind.ACK
            return _Kind.NAK
        if kind in (_Kind.RELEASE, _Kind.DECLINE) and self.client == client:
            self.client = None
        return None

    def _reply(self, kind: int, fields: tuple[object, ...], client: bytes) -> tuple[bytes, bytes | None]:
        nak = kind == _Kind.NAK
        flags = fields[6]
        assert isinstance(flags, int)  # noqa: S101 - "H" of struct
        broadcast = nak or bool(flags & _BROADCAST)
        address = _NONE if nak else self.lease
        head = _HEADER.pack(
            _REPLY, 1, 6, 0, fields[4], 0, flags, _NONE, address, self.server, _NONE, client.ljust(16, b"\0"),
            b"", b"",
        )  # fmt: skip
        options = bytes([_Option.KIND, 1, kind, _Option.SERVER, 4]) + self.server
        if not nak:
            options += bytes([_Option.LEASE, 4]) + LEASE_S.to_bytes(4, "big")
            options += bytes([_Option.MASK, 4]) + self.mask + bytes([_Option.ROUTER, 4]) + self.server
        message = (head + _COOKIE + options + bytes([_Option.END])).ljust(300, b"\0")
        return message, None if broadcast else self.lease
