"""RNDIS messages in what a driver sends, and data messages both ways."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.rndis import HEADER_BYTES, InfoType, PacketBody, PacketInfo, RndisType, rndis

__all__ = ["MAX_PACKETS", "DataPacket", "build", "parse", "split"]

MAX_PACKETS: Final = 8
"""Messages in one packet, as INITIALIZE_COMPLETE allows (max_pkt_per_msg)."""
ETHERNET_HEADER_BYTES: Final = 14
_DATA_AT: Final = HEADER_BYTES + PacketBody.size_bytes()
_INFO_BYTES: Final = PacketInfo.size_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPacket:
    """A frame and what its driver says of it; `information` has each kind's 32 bits."""

    frame: bytes
    information: dict[int, int] = field(default_factory=dict)

    def value(self, kind: InfoType) -> int | None:
        """The 32 bits of a kind of information, or None."""
        return self.information.get(kind)


def split(stream: bytes) -> list[tuple[int, bytes]]:
    """Type and bytes of each message; raises Violated unless they fill `stream` exactly."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(stream):
        if at + HEADER_BYTES > len(stream):
            raise Violated(Rule.DEVICE, f"{len(stream) - at} bytes after the last RNDIS message")
        kind, size = struct.unpack_from("<II", stream, at)
        if not HEADER_BYTES <= size <= len(stream) - at:
            raise Violated(
                Rule.DEVICE, f"an RNDIS message of {size} bytes where {len(stream) - at} were sent"
            )
        if len(found) == MAX_PACKETS:
            raise Violated(Rule.DEVICE, f"more than {MAX_PACKETS} RNDIS messages in one packet")
        found.append((kind, stream[at : at + size]))
        at += size
    if not found:
        raise Violated(Rule.DEVICE, "an RNDIS packet without a message")
    return found


def _part(message: bytes, offset: int, size: int, what: str) -> bytes:
    """Bytes of the message's by an offset that counts from its body; raises Violated."""
    start = HEADER_BYTES + offset
    if offset < PacketBody.size_bytes() or start + size > len(message):
        raise Violated(
            Rule.DEVICE, f"{what} of {size} bytes at {offset} of an RNDIS packet of {len(message)}"
        )
    return message[start : start + size]


def parse(message: bytes) -> DataPacket:
    """A data message taken apart; raises Violated."""
    body = PacketBody.unpack(message, HEADER_BYTES)
    frame = _part(message, body.data_offset, body.data_bytes, "data")
    if len(frame) < ETHERNET_HEADER_BYTES:
        raise Violated(Rule.DEVICE, f"a frame of {len(frame)} bytes")
    if body.oob_elements or body.oob_bytes:
        raise Violated(Rule.DEVICE, f"{body.oob_elements} elements of out-of-band data")
    information: dict[int, int] = {}
    if body.info_bytes:
        raw = _part(message, body.info_offset, body.info_bytes, "information")
        if body.data_offset < body.info_offset + body.info_bytes and (
            body.info_offset < body.data_offset + body.data_bytes
        ):
            raise Violated(Rule.DEVICE, "the information lies in the frame")
        information = _information(raw)
    return DataPacket(frame=frame, information=information)


def _information(raw: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    at = 0
    while at < len(raw):
        info = PacketInfo.unpack(raw, at)
        if not _INFO_BYTES <= info.value_offset <= info.size - 4 or info.size > len(raw) - at:
            raise Violated(
                Rule.DEVICE, f"information of {info.size} bytes with its value at {info.value_offset},"
                f" where {len(raw) - at} are left",
            )  # fmt: skip
        if info.type in found:
            raise Violated(Rule.DEVICE, f"information of type {info.type:#x} twice")
        (found[info.type],) = struct.unpack_from("<I", raw, at + info.value_offset)
        at += info.size
    return found


def build(frame: bytes, checksum: int | None = None) -> bytes:
    """A data message with a frame, and with what is known of its checksums."""
    info = b""
    if checksum is not None:
        info = PacketInfo(size=_INFO_BYTES + 4, type=InfoType.CHECKSUM).pack() + struct.pack("<I", checksum)
    body = PacketBody(
        data_offset=PacketBody.size_bytes() + len(info), data_bytes=len(frame),
        info_offset=PacketBody.size_bytes() if info else 0, info_bytes=len(info),
    )  # fmt: skip
    return rndis(RndisType.PACKET, body.pack() + info + frame)
