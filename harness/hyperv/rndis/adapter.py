"""An NDIS adapter as its driver sees it: what it is asked for, what is set, and whether its link is up."""

from __future__ import annotations

import struct
from typing import Final

from harness.hyperv.rndis.information import capabilities, network_address, offload_state, rss_table
from harness.hyperv.rndis.offload import Offload
from harness.hyperv.rndis.packet import MAX_PACKETS
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.rndis import (
    HEADER_BYTES,
    Initialize,
    InitializeComplete,
    MediaStatus,
    Oid,
    QueryComplete,
    Request,
    RndisStatus,
    RndisType,
    RssCapabilities,
    rndis,
)

__all__ = ["MAX_TRANSFER_BYTES", "Adapter"]

MAX_TRANSFER_BYTES: Final = 1 << 17
"""All of a packet: a segment of 64 KiB, its headers, and messages before it."""
LINK_SPEED: Final = 100_000_000
"""In units of 100 bit/s: 10 Gbit/s."""
RSS_TABLE_ENTRIES: Final = 128


class Adapter:
    """Answers control messages. `mtu` is what the driver configured.

    Arguments: `mac`, the permanent address; `channels`, how many there may be at most.
    """

    def __init__(self, mac: bytes, offload: Offload, channels: int) -> None:
        self.permanent_mac = mac
        self.mac = mac
        self.offload = offload
        self.channels = channels
        self.mtu = 1500
        self.link_up = True
        self.sent_frames = 0
        """By the driver."""
        self.received_frames = 0
        self.reset()

    def reset(self) -> None:
        """As after power-on; the link stays as it is."""
        self.is_initialised = False
        self.packet_filter = 0
        """NDIS_PACKET_TYPE_*: 0, and nothing is to be received."""
        self.receive_checksum = False
        """True: the driver wants to know which checksums were right."""
        self.send_offload = Offload(checksum=False)
        """What the driver turned on of what was offered."""
        self.table: tuple[int, ...] = ()
        """Of receive-side scaling: channels by hash."""
        self.mac = self.permanent_mac

    def answer(self, kind: int, message: bytes) -> bytes | None:
        """The answer to a control message; None: none is due. Raises Violated where it cannot be answered."""
        if kind == RndisType.INITIALIZE:
            return self._initialize(Initialize.unpack(message, HEADER_BYTES))
        if kind == RndisType.HALT:
            self.reset()
            return None
        if kind == RndisType.RESET:
            self.reset()
            self.is_initialised = True
            return rndis(RndisType.RESET_COMPLETE, struct.pack("<II", RndisStatus.SUCCESS, 1))
        if not self.is_initialised:
            raise Violated(Rule.DEVICE, f"RNDIS message {kind:#x} before INITIALIZE")
        if kind == RndisType.KEEPALIVE:
            if len(message) < HEADER_BYTES + 4:
                raise Violated(Rule.DEVICE, "a KEEPALIVE without a request id")
            request = message[HEADER_BYTES : HEADER_BYTES + 4]
            return rndis(RndisType.KEEPALIVE_COMPLETE, request + struct.pack("<I", RndisStatus.SUCCESS))
        if kind in (RndisType.QUERY, RndisType.SET):
            asked = Request.unpack(message, HEADER_BYTES)
            return self._query(asked, message) if kind == RndisType.QUERY else self._set(asked, message)
        raise Violated(Rule.DEVICE, f"RNDIS message {kind:#x}, which is not for a driver to send")

    def link_changed(self) -> bytes:
        """What tells the driver whether its link is up."""
        status = MediaStatus.CONNECT if self.link_up else MediaStatus.DISCONNECT
        return rndis(RndisType.INDICATE, struct.pack("<III", status, 0, 0))

    def _initialize(self, asked: Initialize) -> bytes:
        known = asked.major == 1
        if known:
            self.reset()
            self.is_initialised = True
        return rndis(
            RndisType.INITIALIZE_COMPLETE,
            InitializeComplete(
                request=asked.request, status=RndisStatus.SUCCESS if known else RndisStatus.NOT_SUPPORTED,
                max_packets=MAX_PACKETS, max_transfer_bytes=MAX_TRANSFER_BYTES,
            ).pack(),
        )  # fmt: skip

    @staticmethod
    def _buffer(asked: Request, message: bytes) -> bytes:
        start = HEADER_BYTES + asked.info_offset
        if asked.info_bytes and (
            asked.info_offset < Request.size_bytes() or start + asked.info_bytes > len(message)
        ):
            raise Violated(
                Rule.DEVICE,
                f"{asked.info_bytes} bytes at {asked.info_offset} of a request of {len(message)} for"
                f" {asked.oid:#x}",
            )
        return message[start : start + asked.info_bytes]

    def _query(self, asked: Request, message: bytes) -> bytes:
        status, data = RndisStatus.SUCCESS, b""
        try:
            data = self._told(asked.oid, self._buffer(asked, message))
        except KeyError:
            status = RndisStatus.NOT_SUPPORTED
        complete = QueryComplete(
            request=asked.request, status=status, info_bytes=len(data), info_offset=QueryComplete.size_bytes()
        )
        return rndis(RndisType.QUERY_COMPLETE, complete.pack() + data)

    def _told(self, oid: int, given: bytes) -> bytes:
        """What a query is told; KeyError where it is of no kind that is known."""
        if oid == Oid.OFFLOAD_CAPABILITIES:
            return capabilities(given, self.offload)
        if oid == Oid.RSS_CAPABILITIES:
            return RssCapabilities(
                interrupts=self.channels, queues=self.channels, table_entries=RSS_TABLE_ENTRIES
            ).pack()
        if oid in (Oid.PERMANENT_ADDRESS, Oid.CURRENT_ADDRESS):
            return self.permanent_mac if oid == Oid.PERMANENT_ADDRESS else self.mac
        if oid == Oid.SUPPORTED_LIST:
            return struct.pack(f"<{len(Oid)}I", *Oid)
        numbers: dict[int, int] = {
            Oid.MAXIMUM_FRAME_SIZE: self.mtu,
            Oid.LINK_SPEED: LINK_SPEED,
            Oid.MEDIA_CONNECT_STATUS: int(not self.link_up),
            Oid.CURRENT_PACKET_FILTER: self.packet_filter,
            Oid.XMIT_OK: self.sent_frames & 0xFFFF_FFFF,
            Oid.RCV_OK: self.received_frames & 0xFFFF_FFFF,
        }
        return struct.pack("<I", numbers[oid])

    def _set(self, asked: Request, message: bytes) -> bytes:
        status = RndisStatus.SUCCESS
        data = self._buffer(asked, message)
        if asked.oid == Oid.CURRENT_PACKET_FILTER and len(data) >= 4:
            (self.packet_filter,) = struct.unpack_from("<I", data)
        elif asked.oid == Oid.OFFLOAD_PARAMETERS:
            self.send_offload, self.receive_checksum = offload_state(
                data, self.offload, self.send_offload, self.receive_checksum
            )
        elif asked.oid == Oid.RSS_PARAMETERS:
            self.table = rss_table(data, self.channels)
        elif asked.oid == Oid.CONFIG_PARAMETER:
            self.mac = network_address(data)
        else:
            status = RndisStatus.NOT_SUPPORTED
        return rndis(RndisType.SET_COMPLETE, struct.pack("<II", asked.request, status))
