"""Messages of dynamic memory, which begin with a header each. Pages are of 4 KiB throughout.

Source: Linux drivers/hv/hv_balloon.c, struct dm_*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.record import U16, U32, U64, Record

__all__ = [
    "ACCEPTED",
    "MESSAGE_BYTES",
    "Answer",
    "BalloonRequest",
    "BalloonResponse",
    "Capabilities",
    "DmHeader",
    "DmStatus",
    "DmType",
    "DmVersion",
    "PageRange",
    "UnballoonRequest",
    "VersionRequest",
]

MESSAGE_BYTES: Final = 4096
"""The longest, either way (balloon_connect_vsp())."""
ACCEPTED: Final = 1


class DmType(IntEnum):
    """enum dm_message_type."""

    VERSION_REQUEST = 1
    VERSION_RESPONSE = 2
    CAPABILITIES_REPORT = 3
    CAPABILITIES_RESPONSE = 4
    STATUS_REPORT = 5
    BALLOON_REQUEST = 6
    BALLOON_RESPONSE = 7
    UNBALLOON_REQUEST = 8
    UNBALLOON_RESPONSE = 9


class DmVersion(IntEnum):
    """DYNMEM_PROTOCOL_VERSION_*, major in the upper half."""

    WIN7 = 0 << 16 | 3
    WIN8 = 1 << 16
    WIN10 = 2 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DmHeader(Record):
    """dm_header: `size` is that of the whole message."""

    type: U16
    size: U16
    transaction: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRequest(Record):
    """dm_version_request, after the header."""

    version: U32
    last_attempt: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Record):
    """dm_version_response and dm_capabilities_resp_msg, after the header: ACCEPTED or 0."""

    accepted: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities(Record):
    """dm_capabilities, after the header."""

    bits: U64
    min_pages: U64
    max_page_number: U64

    @property
    def balloon(self) -> bool:
        """The guest gives memory up when it is asked to."""
        return bool(self.bits & 1)

    @property
    def hot_add(self) -> bool:
        """It takes more than it was started with."""
        return bool(self.bits & 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DmStatus(Record):
    """dm_status, after the header: numbers of pages."""

    available: U64
    committed: U64
    page_file_size: U64
    zero_free: U64
    page_file_writes: U32
    io_difference: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonRequest(Record):
    """dm_balloon, after the header: how many pages the guest is to give up."""

    pages: U32
    reserved: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonResponse(Record):
    """dm_balloon_response, after the header; ranges follow."""

    reserved: U32
    counts: U32

    @property
    def more(self) -> bool:
        """Another response to the same request comes."""
        return bool(self.counts & 1)

    @property
    def ranges(self) -> int:
        """How many there are in this one."""
        return self.counts >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UnballoonRequest(Record):
    """dm_unballoon_request, after the header; ranges follow."""

    more: U32
    ranges: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRange:
    """union dm_mem_page_range: 40 bits of page number, 24 of count."""

    first: int
    count: int

    BYTES = 8

    @classmethod
    def unpack(cls, data: bytes, number: int) -> tuple[PageRange, ...]:
        """So many, one after the other; raises Violated where `data` is too short."""
        if number * cls.BYTES > len(data):
            raise Violated(
                Rule.MESSAGE,
                f"{number} ranges in {len(data)} bytes, which have room for {len(data) // cls.BYTES}",
            )
        words = (int.from_bytes(data[8 * at : 8 * at + 8], "little") for at in range(number))
        return tuple(cls(first=word & ((1 << 40) - 1), count=word >> 40) for word in words)

    def pack(self) -> bytes:
        """Its eight bytes."""
        return (self.first | self.count << 40).to_bytes(8, "little")
