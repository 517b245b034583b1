"""Packets in a channel's rings (Linux include/linux/hyperv.h, vmpacket_descriptor and what builds on it)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harness.hyperv.violation import Rule, Violated

__all__ = [
    "COMPLETION_REQUESTED",
    "DESCRIPTOR_BYTES",
    "TRAILER_BYTES",
    "GpaRange",
    "Packet",
    "PacketType",
    "completion",
    "inband",
    "parse_packet",
    "transfer_pages",
]

DESCRIPTOR_BYTES: Final = 16
TRAILER_BYTES: Final = 8
"""VMBUS_PKT_TRAILER: the ring offset that the packet began at, in the upper half of a 64-bit word."""
COMPLETION_REQUESTED: Final = 1
"""VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED."""
HV_PAGE_BYTES: Final = 4096
RANGES_AT: Final = 24
"""Where vmdata_gpa_direct's first range begins; its count is in the four bytes before."""
RANGE_BYTES: Final = 8


class PacketType(IntEnum):
    """VM_PKT_*: those that Linux's drivers and their hosts exchange."""

    DATA_INBAND = 6
    DATA_USING_XFER_PAGES = 7
    DATA_USING_GPA_DIRECT = 9
    COMPLETION = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class GpaRange:
    """Bytes in guest memory: from `byte_offset` into the first page, over pages of 4 KiB each."""

    byte_count: int
    byte_offset: int
    """Of Linux's drivers below 4096, whatever their page size; what is beyond is a finding, not an error."""
    pfns: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet from the guest, copied out of its ring."""

    type: PacketType
    flags: int
    request_id: int
    """vmpacket_descriptor.trans_id, which a completion repeats."""
    head: bytes
    """What lies between descriptor and payload."""
    data: bytes
    """The payload; padded to a multiple of 8 bytes, as nothing on the wire says its exact length."""
    ranges: tuple[GpaRange, ...] = ()
    """Of DATA_USING_GPA_DIRECT."""
    start_bytes: int = 0
    """Where it began in its ring's data."""
    trailer: int = 0
    """The 64-bit word after it: a Linux guest puts `start_bytes` in the upper half."""

    @property
    def wants_completion(self) -> bool:
        """True when the guest waits for a completion with this request id."""
        return bool(self.flags & COMPLETION_REQUESTED)


def parse_packet(raw: bytes, *, start_bytes: int = 0, trailer: int = 0) -> Packet:
    """A packet from its bytes, descriptor to end; raises Violated (Rule.PACKET)."""
    if len(raw) < DESCRIPTOR_BYTES:
        raise Violated(Rule.PACKET, f"a packet of {len(raw)} bytes has no descriptor")
    number, offset8, len8, flags, request_id = struct.unpack_from("<HHHHQ", raw)
    if len8 * 8 != len(raw) or not DESCRIPTOR_BYTES <= offset8 * 8 <= len(raw):
        raise Violated(Rule.PACKET, f"a packet of {len8 * 8} bytes with its payload at {offset8 * 8}")
    try:
        kind = PacketType(number)
    except ValueError:
        raise Violated(Rule.PACKET, f"a packet of type {number}, which no driver sends") from None
    head = raw[DESCRIPTOR_BYTES : offset8 * 8]
    ranges = _ranges(raw[: offset8 * 8]) if kind is PacketType.DATA_USING_GPA_DIRECT else ()
    return Packet(
        type=kind, flags=flags, request_id=request_id, head=head, data=raw[offset8 * 8 :], ranges=ranges,
        start_bytes=start_bytes, trailer=trailer,
    )  # fmt: skip


def _ranges(raw: bytes) -> tuple[GpaRange, ...]:
    """The ranges before the payload; what they claim is bounded by the bytes that are there."""
    if len(raw) < RANGES_AT:
        raise Violated(Rule.PACKET, "a GPA-direct packet without a count of ranges")
    (count,) = struct.unpack_from("<I", raw, RANGES_AT - 4)
    if count > (len(raw) - RANGES_AT) // RANGE_BYTES:
        raise Violated(Rule.PACKET, f"{count} ranges in {len(raw) - RANGES_AT} bytes")
    at, found = RANGES_AT, []
    for _ in range(count):
        if at + RANGE_BYTES > len(raw):
            raise Violated(
                Rule.PACKET, f"{count} ranges, of which the last are beyond the payload's beginning"
            )
        byte_count, byte_offset = struct.unpack_from("<II", raw, at)
        at += RANGE_BYTES
        pages = (byte_offset + byte_count + HV_PAGE_BYTES - 1) // HV_PAGE_BYTES
        if at + 8 * pages > len(raw):
            raise Violated(
                Rule.PACKET, f"a range of {byte_count} bytes at {byte_offset} needs {pages} page numbers,"
                f" and {(len(raw) - at) // 8} are there",
            )  # fmt: skip
        pfns = struct.unpack_from(f"<{pages}Q", raw, at)
        at += 8 * pages
        found.append(GpaRange(byte_count=byte_count, byte_offset=byte_offset, pfns=pfns))
    return tuple(found)


def _packet(kind: PacketType, request_id: int, flags: int, head: bytes, data: bytes) -> bytes:
    data += bytes(-len(data) % 8)
    offset8 = (DESCRIPTOR_BYTES + len(head)) // 8
    return struct.pack("<HHHHQ", kind, offset8, offset8 + len(data) // 8, flags, request_id) + head + data


def inband(data: bytes, *, request_id: int = 0, completion_requested: bool = False) -> bytes:
    """A packet with its payload in the ring."""
    return _packet(PacketType.DATA_INBAND, request_id, int(completion_requested), b"", data)


def completion(request_id: int, data: bytes) -> bytes:
    """The answer to a packet that wanted one."""
    return _packet(PacketType.COMPLETION, request_id, 0, b"", data)


def transfer_pages(
    data: bytes, *, request_id: int, set_id: int, ranges: tuple[tuple[int, int], ...]
) -> bytes:
    """A packet that points into a buffer the guest shared before: `(byte_count, byte_offset)` each.

    Source: vmtransfer_page_packet_header; a completion with this request id gives the ranges back.
    """
    head = struct.pack("<HBBI", set_id, 0, 0, len(ranges))
    head += b"".join(struct.pack("<II", *each) for each in ranges)
    return _packet(PacketType.DATA_USING_XFER_PAGES, request_id, COMPLETION_REQUESTED, head, data)
