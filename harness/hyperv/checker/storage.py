"""storvsc's requests: one range of pages of 4 KiB, whatever the guest's page size."""

from __future__ import annotations

import struct
from typing import Final

from harness.hyperv import pagemodel as model
from harness.hyperv.channel import Channel
from harness.hyperv.checker.tally import Tally
from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.scsi import command as c
from harness.hyperv.violation import Violated
from harness.hyperv.wire.packets import GpaRange, Packet
from harness.hyperv.wire.storvsc import PACKET_BYTES, VmscsiRequest, VstorOperation

__all__ = ["StorageRules"]

_HEADER_BYTES: Final = 12
_RANGES_AT: Final = 8
"""In a packet's head: reserved, and the count of ranges."""


class StorageRules:
    """The rules whose names begin with storvsc, but for the ring's size."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A packet of the driver's; what is no SRB is passed over."""
        if len(packet.data) < PACKET_BYTES:
            return
        (operation,) = struct.unpack_from("<I", packet.data)
        if operation != VstorOperation.EXECUTE_SRB:
            return
        try:
            request = VmscsiRequest.unpack(packet.data, _HEADER_BYTES)
        except Violated:
            return
        if not packet.ranges and not request.transfer_bytes:
            return
        where = f"{channel.name}, {c.opcode_name(request.cdb[0])}"
        self._tally.equal(
            "storvsc.range",
            where,
            tuple(each.byte_count for each in packet.ranges),
            (request.transfer_bytes,),
        )
        for each in packet.ranges:
            self._range(channel, where, packet, each, request)

    def _range(
        self, channel: Channel, where: str, packet: Packet, each: GpaRange, request: VmscsiRequest
    ) -> None:
        tally, pfns = self._tally, each.pfns
        tally.holds(
            "storvsc.offset", where, each.byte_offset < model.HV_PAGE,
            f"offset {each.byte_offset:#x}", "less than 0x1000",
        )  # fmt: skip
        if len(packet.ranges) == 1:
            spanned = model.pages_spanned(model.offset_in_page(each.byte_offset), each.byte_count)
            there = (len(packet.head) - _RANGES_AT - 8) // 8
            tally.equal("storvsc.count", where, there, spanned)
        stray = next((pfn for pfn in pfns if not channel.memory.has_page(pfn)), None)
        tally.holds(
            "storvsc.ram", where, stray is None,
            "" if stray is None else f"page {pfns.index(stray)} of {len(pfns)} is number {stray:#x}", "RAM",
        )  # fmt: skip
        if request.cdb[0] in c.READS:
            tally.equal("storvsc.distinct", where, len(set(pfns)), len(pfns))
        extent = c.extent_of(request.cdb)
        if extent is not None and request.cdb[0] in c.READS | c.WRITES:
            tally.equal("storvsc.blocks", where, each.byte_count, extent.blocks * c.BLOCK_BYTES)
        if isinstance(channel.device, Storvsc):
            limit = channel.device.max_transfer_bytes // model.HV_PAGE
            tally.holds(
                "storvsc.limit", where, each.byte_count <= limit * model.HV_PAGE and len(pfns) <= limit + 1,
                f"{each.byte_count} bytes in {len(pfns)} pages",
                f"{limit * model.HV_PAGE} bytes in {limit + 1} pages at most",
            )  # fmt: skip
