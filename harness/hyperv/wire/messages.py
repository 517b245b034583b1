"""Channel messages: what a guest posts and what its host answers.

Source: Linux include/linux/hyperv.h, vmbus_channel_*. Every message begins with its number and four bytes of
padding. Lengths and versions are judged by whoever reads.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, ClassVar, Final, Self

from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.record import GUID, U8, U16, U32, U64, Record, Text

__all__ = [
    "HEADER_BYTES",
    "MESSAGE_BYTES",
    "CloseChannel",
    "GpadlBody",
    "GpadlCreated",
    "GpadlHeader",
    "GpadlTeardown",
    "GpadlTorndown",
    "InitiateContact",
    "Message",
    "MessageType",
    "ModifyChannel",
    "ModifyChannelResponse",
    "OfferChannel",
    "OfferFlags",
    "OpenChannel",
    "OpenResult",
    "RelidReleased",
    "RescindOffer",
    "TlConnectRequest",
    "VersionResponse",
    "bare",
    "message_type",
]

MESSAGE_BYTES: Final = 240
"""HV_MESSAGE_PAYLOAD_BYTE_COUNT: the longest message that the SynIC carries."""
HEADER_BYTES: Final = 8
USER_DATA_BYTES: Final = 120
"""MAX_USER_DEFINED_BYTES."""


class MessageType(IntEnum):
    """CHANNELMSG_*."""

    OFFER_CHANNEL = 1
    RESCIND_OFFER = 2
    REQUEST_OFFERS = 3
    ALL_OFFERS_DELIVERED = 4
    OPEN_CHANNEL = 5
    OPEN_RESULT = 6
    CLOSE_CHANNEL = 7
    GPADL_HEADER = 8
    GPADL_BODY = 9
    GPADL_CREATED = 10
    GPADL_TEARDOWN = 11
    GPADL_TORNDOWN = 12
    RELID_RELEASED = 13
    INITIATE_CONTACT = 14
    VERSION_RESPONSE = 15
    UNLOAD = 16
    UNLOAD_RESPONSE = 17
    TL_CONNECT_REQUEST = 21
    MODIFY_CHANNEL = 22
    TL_CONNECT_RESULT = 23
    MODIFY_CHANNEL_RESPONSE = 24


class OfferFlags(IntFlag):
    """VMBUS_CHANNEL_*: what an offered channel is."""

    ENUMERATE_DEVICE_INTERFACE = 1
    SERVER_SUPPORTS_TRANSFER_PAGES = 2
    SERVER_SUPPORTS_GPADLS = 4
    NAMED_PIPE_MODE = 0x10
    TLNPI_PROVIDER_OFFER = 0x2000


def message_type(payload: bytes) -> MessageType:
    """What kind of message it is; raises Violated where it is too short or of no kind there is."""
    if not HEADER_BYTES <= len(payload) <= MESSAGE_BYTES:
        raise Violated(Rule.MESSAGE, f"a channel message of {len(payload)} bytes")
    (number,) = struct.unpack_from("<I", payload)
    try:
        return MessageType(number)
    except ValueError:
        raise Violated(Rule.MESSAGE, f"channel message {number} does not exist") from None


def bare(kind: MessageType) -> bytes:
    """A message without a body."""
    return struct.pack("<II", kind, 0)


class Message(Record):
    """Base of the messages with a body: `pack` and `unpack` include the header."""

    __slots__ = ()
    TYPE: ClassVar[MessageType]

    def message(self) -> bytes:
        """Header and body."""
        return bare(self.TYPE) + self.pack()

    @classmethod
    def of(cls, payload: bytes) -> Self:
        """From a whole message; what comes after the body is left alone."""
        return cls.unpack(payload, HEADER_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiateContact(Message):
    """The guest asks for a version. From 5.0 on `interrupt_page` holds the SINT in its lowest byte."""

    TYPE: ClassVar = MessageType.INITIATE_CONTACT
    version: U32
    target_vcpu: U32
    interrupt_page: U64
    monitor_page1: U64
    monitor_page2: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionResponse(Message):
    """Accepted or not, and from 5.0 on where further messages go."""

    TYPE: ClassVar = MessageType.VERSION_RESPONSE
    supported: U8
    connection_state: U8 = 0
    padding: U16 = 0
    message_connection: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferChannel(Message):
    """A device's channel. `connection_id` is what the guest signals; `child_relid` is its event flag."""

    TYPE: ClassVar = MessageType.OFFER_CHANNEL
    interface_type: GUID
    interface_instance: GUID
    reserved1: U64 = 0
    reserved2: U64 = 0
    flags: U16
    mmio_megabytes: U16 = 0
    user_defined: Annotated[bytes, Text.of(USER_DATA_BYTES)] = b""
    sub_channel_index: U16 = 0
    reserved3: U16 = 0
    child_relid: U32
    monitor_id: U8 = 0
    monitor_allocated: U8 = 0
    is_dedicated_interrupt: U16 = 1
    connection_id: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class RescindOffer(Message):
    """The device goes away."""

    TYPE: ClassVar = MessageType.RESCIND_OFFER
    child_relid: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChannel(Message):
    """The guest has made the rings: in `gpadl`, the host's from page `downstream_page` of 4K on."""

    TYPE: ClassVar = MessageType.OPEN_CHANNEL
    child_relid: U32
    open_id: U32
    gpadl: U32
    target_vp: U32
    downstream_page: U32
    user_data: Annotated[bytes, Text.of(USER_DATA_BYTES)] = bytes(USER_DATA_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenResult(Message):
    """0: the channel is open."""

    TYPE: ClassVar = MessageType.OPEN_RESULT
    child_relid: U32
    open_id: U32
    status: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseChannel(Message):
    """The guest will not touch the rings again; nothing answers."""

    TYPE: ClassVar = MessageType.CLOSE_CHANNEL
    child_relid: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class GpadlHeader(Message):
    """Begins a GPADL: what follows are gpa_range's count, offset and as many PFNs as fit."""

    TYPE: ClassVar = MessageType.GPADL_HEADER
    child_relid: U32
    gpadl: U32
    range_buflen: U16
    """Bytes of all ranges, PFNs in later messages included."""
    range_count: U16
    byte_count: U32
    byte_offset: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class GpadlBody(Message):
    """More PFNs."""

    TYPE: ClassVar = MessageType.GPADL_BODY
    message_number: U32
    gpadl: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class GpadlCreated(Message):
    """0: the host has mapped it."""

    TYPE: ClassVar = MessageType.GPADL_CREATED
    child_relid: U32
    gpadl: U32
    status: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class GpadlTeardown(Message):
    """The guest wants its pages back."""

    TYPE: ClassVar = MessageType.GPADL_TEARDOWN
    child_relid: U32
    gpadl: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class GpadlTorndown(Message):
    """The host has let go of them."""

    TYPE: ClassVar = MessageType.GPADL_TORNDOWN
    gpadl: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class RelidReleased(Message):
    """After a rescind: the guest has forgotten the channel."""

    TYPE: ClassVar = MessageType.RELID_RELEASED
    child_relid: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifyChannel(Message):
    """Interrupts of the channel go to another virtual processor from now on."""

    TYPE: ClassVar = MessageType.MODIFY_CHANNEL
    child_relid: U32
    target_vp: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifyChannelResponse(Message):
    """From 5.3 on."""

    TYPE: ClassVar = MessageType.MODIFY_CHANNEL_RESPONSE
    child_relid: U32
    status: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class TlConnectRequest(Message):
    """A socket of the guest's wants a service of the host's (vmbus_send_tl_connect_request())."""

    TYPE: ClassVar = MessageType.TL_CONNECT_REQUEST
    guest_endpoint: GUID
    host_service: GUID
