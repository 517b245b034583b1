"""The storage protocol between storvsc and its host (Linux drivers/scsi/storvsc_drv.c, "wire protocol").

A packet of the guest's is a `VstorHeader` and a body that its operation names; the answer repeats both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, ClassVar, Final

from harness.hyperv.wire.record import U8, U16, U32, U64, Record, Text

__all__ = [
    "BODY_BYTES",
    "CDB_BYTES",
    "COMPLETION_FLAG",
    "PACKET_BYTES",
    "SENSE_BYTES",
    "ChannelFlags",
    "ChannelProperties",
    "Direction",
    "ProtocolVersion",
    "SrbFlags",
    "SrbStatus",
    "VmscsiRequest",
    "VstorHeader",
    "VstorOperation",
    "VstorVersion",
]

BODY_BYTES: Final = 0x34
"""vstor_packet.buffer, the largest member of its union."""
CDB_BYTES: Final = 0x10
SENSE_BYTES: Final = 0x14
"""STORVSC_SENSE_BUFFER_SIZE: of every version since Windows 8."""
COMPLETION_FLAG: Final = 1
"""REQUEST_COMPLETION_FLAG in `VstorHeader.flags`."""


class VstorOperation(IntEnum):
    """VSTOR_OPERATION_*: what is asked for, and COMPLETE_IO for every answer."""

    COMPLETE_IO = 1
    REMOVE_DEVICE = 2
    EXECUTE_SRB = 3
    RESET_LUN = 4
    RESET_ADAPTER = 5
    RESET_BUS = 6
    BEGIN_INITIALIZATION = 7
    END_INITIALIZATION = 8
    QUERY_PROTOCOL_VERSION = 9
    QUERY_PROPERTIES = 10
    ENUMERATE_BUS = 11
    FCHBA_DATA = 12
    CREATE_SUB_CHANNELS = 13


class VstorVersion(IntEnum):
    """VMSTOR_PROTO_VERSION_*: major in the upper byte. Linux asks for WIN10, WIN8_1, WIN8."""

    WIN6 = 0x0200
    WIN7 = 0x0402
    WIN8 = 0x0501
    WIN8_1 = 0x0600
    WIN10 = 0x0602


class SrbStatus(IntEnum):
    """SRB_STATUS_*; AUTOSENSE_VALID is or-ed to an error whose sense data came along."""

    SUCCESS = 0x01
    ABORTED = 0x02
    ERROR = 0x04
    INVALID_REQUEST = 0x06
    TIMEOUT = 0x09
    BUS_RESET = 0x0E
    DATA_OVERRUN = 0x12
    INVALID_LUN = 0x20
    INTERNAL_ERROR = 0x30
    AUTOSENSE_VALID = 0x80


class SrbFlags(IntFlag):
    """SRB_FLAGS_DATA_*."""

    DATA_IN = 0x40
    DATA_OUT = 0x80


class Direction(IntEnum):
    """vmscsi_request.data_in: enum storvsc_request_type."""

    WRITE = 0
    READ = 1
    UNKNOWN = 2


class ChannelFlags(IntFlag):
    """vmstorage_channel_properties.flags."""

    SUPPORTS_MULTI_CHANNEL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VstorHeader(Record):
    """struct vstor_packet up to its union."""

    WHAT: ClassVar = "vstor_packet"
    operation: U32
    flags: U32 = 0
    status: U32 = 0
    """0 in answers: done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolVersion(Record):
    """struct vmstorage_protocol_version."""

    major_minor: U16
    revision: U16 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelProperties(Record):
    """struct vmstorage_channel_properties."""

    reserved: U32 = 0
    max_channels: U16 = 0
    reserved1: U16 = 0
    flags: U32 = 0
    max_transfer_bytes: U32
    reserved2: U64 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VmscsiRequest(Record):
    """struct vmscsi_request: a SCSI command, and in the answer how it ended.

    `cdb` is a union of 20 bytes: the command, and sense data in the answer.
    """

    WHAT: ClassVar = "vmscsi_request"
    length: U16
    srb_status: U8 = 0
    scsi_status: U8 = 0
    port: U8 = 0
    path: U8 = 0
    target: U8 = 0
    lun: U8 = 0
    cdb_length: U8
    sense_length: U8 = SENSE_BYTES
    direction: U8
    reserved: U8 = 0
    transfer_bytes: U32
    cdb: Annotated[bytes, Text.of(SENSE_BYTES)]
    reserve: U16 = 0
    queue_tag: U8 = 0
    queue_action: U8 = 0
    srb_flags: U32 = 0
    timeout_s: U32 = 0
    queue_sort_key: U32 = 0


PACKET_BYTES: Final = 12 + BODY_BYTES
"""sizeof(struct vstor_packet); padded to a multiple of 8 on the wire, which it is."""
