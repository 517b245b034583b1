"""Messages of the integration services: a pipe header, a service header, a body.

Source: Linux include/linux/hyperv.h (vmbuspipe_hdr, icmsg_hdr, icmsg_negotiate and the bodies after them),
include/uapi/linux/hyperv.h (KVP, VSS).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Final

from harness.hyperv.wire.record import U8, U16, U32, U64, Record, Text

__all__ = [
    "HEADERS_BYTES",
    "HeartbeatBody",
    "IcFlag",
    "IcHeader",
    "IcStatus",
    "IcType",
    "KvpExchange",
    "KvpOperation",
    "NegotiateBody",
    "PipeHeader",
    "ShutdownBody",
    "TimeSyncBody",
    "VssBody",
    "VssOperation",
]


class IcType(IntEnum):
    """ICMSGTYPE_*."""

    NEGOTIATE = 0
    HEARTBEAT = 1
    KVP_EXCHANGE = 2
    SHUTDOWN = 3
    TIME_SYNC = 4
    VSS = 5


class IcFlag(IntFlag):
    """ICMSGHDRFLAG_*."""

    TRANSACTION = 1
    REQUEST = 2
    RESPONSE = 4


class IcStatus(IntEnum):
    """HV_S_* and HV_E_*."""

    OK = 0
    CONT = 0x8007_0103
    """No more items, of KVP."""
    FAIL = 0x8000_4005
    NOT_SUPPORTED = 0x8007_0032


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeHeader(Record):
    """vmbuspipe_hdr: `size_bytes` of what follows."""

    flags: U32 = 1
    size: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class IcHeader(Record):
    """icmsg_hdr: versions of framework and service, what it is about, and how long its body is."""

    framework_major: U16
    framework_minor: U16
    type: U16
    service_major: U16
    service_minor: U16
    body_bytes: U16
    status: U32 = 0
    transaction: U8
    flags: U8
    reserved: U16 = 0


HEADERS_BYTES: Final = 28
"""Of pipe and service together: ICMSG_HDR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiateBody(Record):
    """icmsg_negotiate: how many versions of framework and service follow, major and minor each."""

    framework_count: U16
    service_count: U16
    reserved: U32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatBody(Record):
    """heartbeat_msg_data: the guest answers with the number after it."""

    sequence: U64
    reserved: Annotated[bytes, Text.of(32)] = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSyncBody(Record):
    """ictimesync_ref_data, of version 4: the host's clock and the reference counter at one moment."""

    host_time: U64
    """Since 1601, in units of 100 ns as the counter."""
    reference_time: U64
    flags: U8
    """1: set the clock; 2: a sample."""
    leap_flags: U8 = 0
    stratum: U8 = 0
    reserved: Annotated[bytes, Text.of(3)] = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownBody(Record):
    """shutdown_msg_data."""

    reason: U32 = 0
    timeout_s: U32 = 0
    flags: U32
    """0: power off; 2: restart; 4: hibernate; 1 in addition: by force."""
    message: Annotated[bytes, Text.of(2048)] = b""


class KvpOperation(IntEnum):
    """enum hv_kvp_exchg_op."""

    GET = 0
    SET = 1
    DELETE = 2
    ENUMERATE = 3
    GET_IP_INFO = 4
    SET_IP_INFO = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class KvpExchange(Record):
    """hv_kvp_msg with hv_kvp_msg_enumerate: key and value are UTF-16, their sizes count the final zero."""

    operation: U8
    pool: U8
    padding: U16 = 0
    index: U32 = 0
    value_type: U32 = 0
    key_bytes: U32 = 0
    value_bytes: U32 = 0
    key: Annotated[bytes, Text.of(512)] = b""
    value: Annotated[bytes, Text.of(2048)] = b""


class VssOperation(IntEnum):
    """enum hv_vss_op."""

    HOT_BACKUP = 2
    GET_DM_INFO = 3
    BACKUP_COMPLETE = 4
    FREEZE = 5
    THAW = 6
    AUTO_RECOVER = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class VssBody(Record):
    """hv_vss_msg: an operation, and one word of flags for some."""

    operation: U8
    reserved: Annotated[bytes, Text.of(7)] = b""
    flags: U32 = 0
