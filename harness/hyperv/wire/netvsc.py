"""NVSP, the network protocol between netvsc and its host (Linux drivers/net/hyperv/hyperv_net.h).

Every message is a type and a body that the type names, in 40 bytes; the host's answers repeat that form.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.record import U16, U32, U64, Record

__all__ = [
    "BODY_AT",
    "MAX_RANGES",
    "MESSAGE_BYTES",
    "NO_SECTION",
    "RECEIVE_BUFFER_ID",
    "SEND_BUFFER_ID",
    "BufferComplete",
    "Init",
    "InitComplete",
    "NdisConfig",
    "NvspStatus",
    "NvspType",
    "NvspVersion",
    "ReceiveBufferComplete",
    "Revoke",
    "RndisComplete",
    "RndisSend",
    "ShareBuffer",
    "SubchannelComplete",
    "SubchannelRequest",
    "nvsp",
    "nvsp_type",
]

MESSAGE_BYTES: Final = 40
"""sizeof(struct nvsp_message): its largest member is nvsp_6_pd_api_comp, of 36 bytes."""
BODY_AT: Final = 4
RECEIVE_BUFFER_ID: Final = 0xCAFE
"""NETVSC_RECEIVE_BUFFER_ID, also the set id of transfer pages."""
SEND_BUFFER_ID: Final = 0
NO_SECTION: Final = 0xFFFF_FFFF
"""NETVSC_INVALID_INDEX: nothing of the packet lies in the send buffer."""
MAX_RANGES: Final = 32
"""MAX_PAGE_BUFFER_COUNT (include/linux/hyperv.h)."""


class NvspVersion(IntEnum):
    """NVSP_PROTOCOL_VERSION_*: what Linux asks for, newest first."""

    V1 = 2
    V2 = 0x3_0002
    V4 = 0x4_0000
    V5 = 0x5_0000
    V6 = 0x6_0000
    V6_1 = 0x6_0001


class NvspType(IntEnum):
    """NVSP_MSG*_TYPE_*: those that a driver and its host exchange without offload engines or VFs."""

    INIT = 1
    INIT_COMPLETE = 2
    SEND_NDIS_VERSION = 100
    SEND_RECEIVE_BUFFER = 101
    SEND_RECEIVE_BUFFER_COMPLETE = 102
    REVOKE_RECEIVE_BUFFER = 103
    SEND_SEND_BUFFER = 104
    SEND_SEND_BUFFER_COMPLETE = 105
    REVOKE_SEND_BUFFER = 106
    SEND_RNDIS_PACKET = 107
    SEND_RNDIS_PACKET_COMPLETE = 108
    SEND_NDIS_CONFIG = 125
    SWITCH_DATA_PATH = 129
    SUBCHANNEL = 133


class NvspStatus(IntEnum):
    """NVSP_STAT_*."""

    SUCCESS = 1
    FAIL = 2
    PROTOCOL_TOO_NEW = 3
    PROTOCOL_TOO_OLD = 4
    INVALID_RNDIS_PACKET = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Init(Record):
    """nvsp_message_init: Linux gives one version as both, and tries an older one when refused."""

    WHAT: ClassVar = "nvsp_message_init"
    lowest: U32
    highest: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class InitComplete(Record):
    """nvsp_message_init_complete."""

    version: U32
    max_mdl_chain: U32 = MAX_RANGES
    status: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class NdisConfig(Record):
    """nvsp_2_send_ndis_config: `frame_bytes` is the MTU and an Ethernet header, whatever its name there."""

    WHAT: ClassVar = "nvsp_2_send_ndis_config"
    frame_bytes: U32
    reserved: U32 = 0
    capabilities: U64 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareBuffer(Record):
    """nvsp_1_message_send_receive_buffer, and the same for the send buffer."""

    WHAT: ClassVar = "nvsp_1_message_send_buffer"
    gpadl: U32
    id: U16


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveBufferComplete(Record):
    """nvsp_1_message_send_receive_buffer_complete: one section that begins at 0 is all that Linux takes."""

    status: U32
    sections: U32 = 1
    offset: U32 = 0
    sub_allocation_bytes: U32 = 0
    sub_allocations: U32 = 0
    end_offset: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferComplete(Record):
    """nvsp_1_message_send_send_buffer_complete: the host decides how the send buffer is cut up."""

    status: U32
    section_bytes: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke(Record):
    """nvsp_1_message_revoke_receive_buffer, and the same for the send buffer; nothing answers."""

    WHAT: ClassVar = "nvsp_1_message_revoke_buffer"
    id: U16


@dataclass(frozen=True, slots=True, kw_only=True)
class RndisSend(Record):
    """nvsp_1_message_send_rndis_packet: what is in a section of the send buffer comes before the ranges."""

    WHAT: ClassVar = "nvsp_1_message_send_rndis_packet"
    channel_type: U32
    """0: data, 1: control."""
    section: U32 = NO_SECTION
    section_bytes: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RndisComplete(Record):
    """nvsp_1_message_send_rndis_packet_complete: whoever sent it may use its memory again."""

    WHAT: ClassVar = "nvsp_1_message_send_rndis_packet_complete"
    status: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class SubchannelRequest(Record):
    """nvsp_5_subchannel_request; operation 1 is to allocate."""

    WHAT: ClassVar = "nvsp_5_subchannel_request"
    operation: U32
    count: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class SubchannelComplete(Record):
    """nvsp_5_subchannel_complete: how many will be offered."""

    status: U32
    count: U32 = 0


def nvsp(kind: NvspType, body: Record) -> bytes:
    """A message."""
    return (struct.pack("<I", kind) + body.pack()).ljust(MESSAGE_BYTES, b"\0")


def nvsp_type(data: bytes) -> NvspType:
    """What kind of message it is; raises Violated (Rule.DEVICE)."""
    if len(data) < BODY_AT:
        raise Violated(Rule.DEVICE, f"an NVSP message of {len(data)} bytes")
    (number,) = struct.unpack_from("<I", data)
    try:
        return NvspType(number)
    except ValueError:
        raise Violated(Rule.DEVICE, f"NVSP message {number}, which this host does not know") from None
