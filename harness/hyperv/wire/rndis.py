"""Remote NDIS, as NVSP carries it (Linux include/linux/rndis.h, drivers/net/hyperv/hyperv_net.h).

Offsets in bodies count from the body's first byte, which is eight bytes into the message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from harness.hyperv.wire.record import U8, U16, U32, Record

__all__ = [
    "HEADER_BYTES",
    "Checksum",
    "ConfigParameter",
    "InfoType",
    "Initialize",
    "InitializeComplete",
    "LargeSend",
    "MediaStatus",
    "NdisObject",
    "ObjectType",
    "OffloadParameters",
    "Oid",
    "PacketBody",
    "PacketInfo",
    "QueryComplete",
    "Request",
    "RndisStatus",
    "RndisType",
    "RssCapabilities",
    "RssParameters",
    "rndis",
]

HEADER_BYTES: Final = 8


class RndisType(IntEnum):
    """RNDIS_MSG_*; an answer has bit 31 set."""

    PACKET = 1
    INITIALIZE = 2
    HALT = 3
    QUERY = 4
    SET = 5
    RESET = 6
    INDICATE = 7
    KEEPALIVE = 8
    INITIALIZE_COMPLETE = 0x8000_0002
    QUERY_COMPLETE = 0x8000_0004
    SET_COMPLETE = 0x8000_0005
    RESET_COMPLETE = 0x8000_0006
    KEEPALIVE_COMPLETE = 0x8000_0008


class RndisStatus(IntEnum):
    """RNDIS_STATUS_*: of completions."""

    SUCCESS = 0
    FAILURE = 0xC000_0001
    NOT_SUPPORTED = 0xC000_00BB
    INVALID_DATA = 0xC001_0015
    INVALID_LENGTH = 0xC001_0014


class MediaStatus(IntEnum):
    """RNDIS_STATUS_*: of indications."""

    CONNECT = 0x4001_000B
    DISCONNECT = 0x4001_000C


class Oid(IntEnum):
    """RNDIS_OID_* and OID_*: those that netvsc asks for or sets, and their neighbours."""

    SUPPORTED_LIST = 0x0001_0101
    MAXIMUM_FRAME_SIZE = 0x0001_0106
    LINK_SPEED = 0x0001_0107
    CURRENT_PACKET_FILTER = 0x0001_010E
    MEDIA_CONNECT_STATUS = 0x0001_0114
    RSS_CAPABILITIES = 0x0001_0203
    RSS_PARAMETERS = 0x0001_0204
    CONFIG_PARAMETER = 0x0001_021B
    XMIT_OK = 0x0002_0101
    RCV_OK = 0x0002_0102
    PERMANENT_ADDRESS = 0x0101_0101
    CURRENT_ADDRESS = 0x0101_0102
    OFFLOAD_PARAMETERS = 0xFC01_020C
    OFFLOAD_CAPABILITIES = 0xFC01_020D


class InfoType(IntEnum):
    """enum ndis_per_pkt_info_type."""

    CHECKSUM = 0
    LARGE_SEND = 2
    VLAN = 6
    HASH = 8


class Checksum(IntEnum):
    """struct ndis_tcp_ip_checksum_info: what is to be filled in, and what was found right.

    Of a packet to be sent, bits 16 to 25 are where its TCP or UDP header begins.
    """

    SEND_IPV4 = 1
    SEND_IPV6 = 2
    SEND_TCP = 4
    SEND_UDP = 8
    SEND_IP_HEADER = 16
    TCP_SUCCEEDED = 8
    UDP_SUCCEEDED = 16
    IP_SUCCEEDED = 32


class ObjectType(IntEnum):
    """NDIS_OBJECT_TYPE_*."""

    DEFAULT = 0x80
    RSS_CAPABILITIES = 0x88
    RSS_PARAMETERS = 0x89
    OFFLOAD = 0xA7


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialize(Record):
    """struct rndis_initialize_request."""

    WHAT: ClassVar = "rndis_initialize_request"
    request: U32
    major: U32
    minor: U32
    max_transfer_bytes: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class InitializeComplete(Record):
    """struct rndis_initialize_complete; `alignment_shift` is what messages in one packet are padded to."""

    request: U32
    status: U32 = RndisStatus.SUCCESS
    major: U32 = 1
    minor: U32 = 0
    connectionless: U32 = 1
    medium: U32 = 0
    max_packets: U32
    max_transfer_bytes: U32
    alignment_shift: U32 = 3
    af_list_offset: U32 = 0
    af_list_bytes: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Record):
    """struct rndis_query_request and rndis_set_request."""

    WHAT: ClassVar = "rndis_query_request"
    request: U32
    oid: U32
    info_bytes: U32
    info_offset: U32
    handle: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryComplete(Record):
    """struct rndis_query_complete."""

    request: U32
    status: U32
    info_bytes: U32
    info_offset: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketBody(Record):
    """struct rndis_packet."""

    WHAT: ClassVar = "rndis_packet"
    data_offset: U32
    data_bytes: U32
    oob_offset: U32 = 0
    oob_bytes: U32 = 0
    oob_elements: U32 = 0
    info_offset: U32 = 0
    info_bytes: U32 = 0
    handle: U32 = 0
    reserved: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketInfo(Record):
    """struct rndis_per_packet_info; bit 31 of `type`: the type is internal to Hyper-V."""

    WHAT: ClassVar = "rndis_per_packet_info"
    size: U32
    type: U32
    value_offset: U32 = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class NdisObject(Record):
    """struct ndis_object_header."""

    WHAT: ClassVar = "ndis_object_header"
    type: U8
    revision: U8
    size: U16


@dataclass(frozen=True, slots=True, kw_only=True)
class RssCapabilities(Record):
    """struct ndis_recv_scale_cap."""

    type: U8 = ObjectType.RSS_CAPABILITIES
    revision: U8 = 2
    size: U16 = 18
    flags: U32 = 0x0100_0100
    """MESSAGE_SIGNALED_INTERRUPTS and HASH_TYPE_TCP_IPV4."""
    interrupts: U32
    queues: U32
    table_entries: U16


@dataclass(frozen=True, slots=True, kw_only=True)
class RssParameters(Record):
    """struct ndis_recv_scale_param, which is not packed."""

    WHAT: ClassVar = "ndis_recv_scale_param"
    type: U8
    revision: U8
    size: U16
    flags: U16
    base_cpu: U16
    hash_info: U32
    table_bytes: U16
    padding1: U16
    table_offset: U32
    key_bytes: U16
    padding2: U16
    key_offset: U32
    masks_offset: U32
    masks: U32
    mask_bytes: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadParameters(Record):
    """struct ndis_offload_params, as much of it as every NVSP version sends."""

    WHAT: ClassVar = "ndis_offload_params"
    type: U8
    revision: U8
    size: U16
    ipv4: U8
    tcp_ipv4: U8
    """NDIS_OFFLOAD_PARAMETERS_*: 0 no change, 1 off, 2 to send, 3 to receive, 4 both."""
    udp_ipv4: U8
    tcp_ipv6: U8
    udp_ipv6: U8
    lso_v1: U8
    ipsec_v1: U8
    lso_v2_ipv4: U8
    """0 no change, 1 off, 2 on."""
    lso_v2_ipv6: U8
    connection_ipv4: U8
    connection_ipv6: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigParameter(Record):
    """struct rndis_config_parameter_info."""

    WHAT: ClassVar = "rndis_config_parameter_info"
    name_offset: U32
    name_bytes: U32
    type: U32
    value_offset: U32
    value_bytes: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeSend:
    """struct ndis_tcp_lso_info, of version 2."""

    mss: int
    tcp_header_offset: int
    version: int
    is_ipv6: bool

    @classmethod
    def of(cls, value: int) -> LargeSend:
        """From its 32 bits."""
        return cls(
            mss=value & 0xF_FFFF, tcp_header_offset=value >> 20 & 0x3FF, version=1 + (value >> 30 & 1),
            is_ipv6=bool(value >> 31),
        )  # fmt: skip


def rndis(kind: RndisType, body: bytes) -> bytes:
    """A message."""
    return struct.pack("<II", kind, HEADER_BYTES + len(body)) + body
