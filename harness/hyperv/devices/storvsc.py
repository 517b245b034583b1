"""The host's side of storvsc: a SCSI controller with one disk, at path 0, target 0, LUN 0.

Source: Linux drivers/scsi/storvsc_drv.c. What a command breaks is recorded as a violation, and the command
is answered all the same: storvsc waits for every answer without end (storvsc_eh_timed_out()).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final
from uuid import UUID

from harness.hyperv.channel import Channel, Offer
from harness.hyperv.devices.faults import Fault, Faults
from harness.hyperv.devices.srb import failed, no_unit
from harness.hyperv.gpadl import PagedView, view_of
from harness.hyperv.scsi import command as c
from harness.hyperv.scsi.command import ScsiStatus, opcode_name
from harness.hyperv.scsi.disk import Answer, ScsiDisk
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire import storvsc as w
from harness.hyperv.wire.numbers import GuidOf
from harness.hyperv.wire.packets import Packet
from harness.hyperv.wire.storvsc import SrbStatus, VmscsiRequest, VstorHeader, VstorOperation, VstorVersion

__all__ = ["MAX_TRANSFER_BYTES", "Storvsc"]

MAX_TRANSFER_BYTES: Final = 512 << 10
_INSTANCE: Final = UUID("f8b3781a-1e82-4818-a1c3-63d806ec15bb")
_REFUSED: Final = 0xC000_000D
"""STATUS_INVALID_PARAMETER of Windows; storvsc looks only whether it is 0."""


class Stage(IntEnum):
    """How far storvsc_channel_init() has come."""

    CLOSED = 0
    OPEN = 1
    BEGUN = 2
    VERSIONED = 3
    DESCRIBED = 4
    READY = 5


_STAGES: Final = {
    VstorOperation.BEGIN_INITIALIZATION: (Stage.OPEN, Stage.BEGUN),
    VstorOperation.QUERY_PROTOCOL_VERSION: (Stage.BEGUN, Stage.VERSIONED),
    VstorOperation.QUERY_PROPERTIES: (Stage.VERSIONED, Stage.DESCRIBED),
    VstorOperation.END_INITIALIZATION: (Stage.DESCRIBED, Stage.READY),
}
"""At which stage an operation is due, and what follows."""


@dataclass(frozen=True, slots=True)
class _Delayed:
    due_s: float
    request_id: int
    request: VmscsiRequest


class Storvsc:
    """The device; see harness.hyperv.channel.Device.

    Arguments: `maximum`, the newest version to agree to; `max_transfer_bytes`, of one request, as Hyper-V
    a multiple of 4096; `faults`, tried on every command to the disk.
    """

    name = "storvsc"

    def __init__(
        self, disk: ScsiDisk, *, maximum: VstorVersion = VstorVersion.WIN10,
        max_transfer_bytes: int = MAX_TRANSFER_BYTES, faults: Iterable[Fault] = (),
        instance: UUID = _INSTANCE, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.disk = disk
        self.maximum = maximum
        self.max_transfer_bytes = max_transfer_bytes
        self.faults = Faults(faults)
        self.version: VstorVersion | None = None
        """What was agreed on; None until then."""
        self.plugged = True
        """False: the disk is gone, and commands to it say so."""
        self.counts: Counter[str] = Counter()
        """Commands to the disk by name."""
        self.pages: Counter[int] = Counter()
        """Requests by how many page numbers they carried."""
        self.bytes_read = 0
        self.bytes_written = 0
        self._instance = instance
        self._clock = clock
        self._stage = Stage.CLOSED
        self._channel: Channel | None = None
        self._delayed: list[_Delayed] = []

    # harness.hyperv.channel.Device

    def offer(self) -> Offer:
        """A SCSI controller."""
        return Offer(interface_type=GuidOf.SCSI, instance=self._instance)

    def opened(self, channel: Channel) -> None:
        """Ready for BEGIN_INITIALIZATION."""
        self._channel, self._stage, self.version = channel, Stage.OPEN, None
        self._delayed.clear()

    def closed(self) -> None:
        """Forget what is delayed."""
        self._channel, self._stage = None, Stage.CLOSED
        self._delayed.clear()

    def tick(self, now_s: float) -> None:
        """Answer what was delayed for long enough."""
        due = [each for each in self._delayed if each.due_s <= now_s]
        if due and self._channel is not None:
            self._delayed = [each for each in self._delayed if each.due_s > now_s]
            for each in due:
                self._answer(self._channel, each.request_id, each.request.pack())

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A vstor_packet; whatever is wrong with it, it is answered where an answer is wanted."""
        try:
            header = VstorHeader.unpack(packet.data)
            if len(packet.data) < w.PACKET_BYTES:
                raise Violated(Rule.DEVICE, f"a vstor_packet of {len(packet.data)} bytes")
            if not packet.wants_completion or not header.flags & w.COMPLETION_FLAG:
                raise Violated(Rule.DEVICE, f"operation {header.operation} without the completion flag")
            self._operate(channel, packet, header)
        except Violated:
            if packet.wants_completion:
                body = packet.data[VstorHeader.size_bytes() : w.PACKET_BYTES]
                self._answer(channel, packet.request_id, body, status=_REFUSED)
            raise

    def unplug(self) -> None:
        """Take the disk away; to be called on the host's thread. storvsc scans its bus and finds it gone."""
        self.plugged = False
        if self._channel is not None and self._stage is Stage.READY:
            scan = VstorHeader(operation=VstorOperation.ENUMERATE_BUS)
            self._channel.send(scan.pack() + bytes(w.BODY_BYTES))

    # Operations

    def _operate(self, channel: Channel, packet: Packet, header: VstorHeader) -> None:
        body = packet.data[VstorHeader.size_bytes() : w.PACKET_BYTES]
        if header.operation == VstorOperation.EXECUTE_SRB:
            self._srb(channel, packet, VmscsiRequest.unpack(body))
            return
        try:
            operation = VstorOperation(header.operation)
        except ValueError:
            raise Violated(Rule.DEVICE, f"operation {header.operation} does not exist") from None
        if operation in _STAGES:
            due, following = _STAGES[operation]
            if self._stage is not due:
                raise Violated(Rule.DEVICE, f"{operation.name} while the device is {self._stage.name}")
            body, agreed = self._initialise(operation, body)
            if agreed:
                self._stage = following
            self._answer(channel, packet.request_id, body, status=0 if agreed else _REFUSED)
        elif operation in (
            VstorOperation.RESET_BUS, VstorOperation.RESET_ADAPTER, VstorOperation.RESET_LUN
        ):  # fmt: skip
            self._reset(channel)
            self._answer(channel, packet.request_id, body)
        else:
            raise Violated(Rule.DEVICE, f"{operation.name}, which this device does not offer")

    def _initialise(self, operation: VstorOperation, body: bytes) -> tuple[bytes, bool]:
        """The answer's body, and whether to agree: storvsc then asks for an older version."""
        if operation is VstorOperation.QUERY_PROTOCOL_VERSION:
            wanted = w.ProtocolVersion.unpack(body).major_minor
            if wanted not in tuple(VstorVersion) or wanted > self.maximum:
                return body, False
            self.version = VstorVersion(wanted)
        elif operation is VstorOperation.QUERY_PROPERTIES:
            properties = w.ChannelProperties(max_transfer_bytes=self.max_transfer_bytes)
            return properties.pack().ljust(w.BODY_BYTES, b"\0"), True
        return body, True

    def _reset(self, channel: Channel) -> None:
        aborted, self._delayed = self._delayed, []
        for each in aborted:
            request = replace(each.request, srb_status=SrbStatus.ABORTED, scsi_status=0, transfer_bytes=0)
            self._answer(channel, each.request_id, request.pack())

    def _answer(self, channel: Channel, request_id: int, body: bytes, *, status: int = 0) -> None:
        header = VstorHeader(operation=VstorOperation.COMPLETE_IO, status=status)
        channel.complete(request_id, header.pack() + body.ljust(w.BODY_BYTES, b"\0"))

    # Commands

    def _srb(self, channel: Channel, packet: Packet, request: VmscsiRequest) -> None:
        fault: Fault | None = None
        try:
            if self._stage is not Stage.READY:
                raise Violated(Rule.DEVICE, f"a command while the device is {self._stage.name}")
            view = self._view(channel, packet, request)
            if self._is_disk(request):
                fault = self.faults.take(request.cdb[0])
            answer = self._carry_out(request, view, fault)
        except Violated as error:
            channel.log.violated(error, channel.name)
            answer = replace(request, srb_status=SrbStatus.INVALID_REQUEST, scsi_status=0, transfer_bytes=0)
        if fault is not None and fault.delay_s > 0:
            self._delayed.append(_Delayed(self._clock() + fault.delay_s, packet.request_id, answer))
        else:
            self._answer(channel, packet.request_id, answer.pack())

    def _view(self, channel: Channel, packet: Packet, request: VmscsiRequest) -> PagedView | None:
        """The guest's memory for the data; raises Violated where it is not as the command says."""
        if request.length < VmscsiRequest.size_bytes() or request.cdb_length > w.CDB_BYTES:
            raise Violated(
                Rule.DEVICE,
                f"a vmscsi_request of {request.length} bytes with {request.cdb_length} of command",
            )
        if not packet.ranges:
            if request.transfer_bytes:
                raise Violated(Rule.DEVICE, f"{request.transfer_bytes} bytes to transfer, and no pages")
            return None
        if len(packet.ranges) != 1:
            raise Violated(Rule.DEVICE, f"{len(packet.ranges)} ranges in one request")
        (where,) = packet.ranges
        self.pages[len(where.pfns)] += 1
        if where.byte_count != request.transfer_bytes or where.byte_count > self.max_transfer_bytes:
            raise Violated(
                Rule.DEVICE, f"{request.transfer_bytes} bytes to transfer in a range of {where.byte_count},"
                f" with {self.max_transfer_bytes} allowed",
            )  # fmt: skip
        return view_of(channel.memory, where)

    def _is_disk(self, request: VmscsiRequest) -> bool:
        return request.path == request.target == request.lun == 0

    def _carry_out(
        self, request: VmscsiRequest, view: PagedView | None, fault: Fault | None
    ) -> VmscsiRequest:
        """The request as it is answered."""
        room = 0 if view is None else view.size_bytes
        if fault is not None and (fault.sense is not None or fault.srb_status is not None):
            return failed(request, fault.sense, fault.srb_status or SrbStatus.ERROR)
        if fault is not None and fault.short_bytes is not None:
            room = min(room, fault.short_bytes)
        cdb = request.cdb[: w.CDB_BYTES]
        if not self._is_disk(request):
            answer = no_unit(cdb, room)
        elif not self.plugged:
            return failed(request, None, SrbStatus.INVALID_LUN)
        else:
            self.counts[opcode_name(cdb[0])] += 1

            def taken(size_bytes: int) -> bytes:
                return b"" if view is None else view.read(0, size_bytes)

            answer = self.disk.execute(cdb, room, taken)
        if answer.data is not None and view is not None:
            view.write(0, answer.data)
        return self._ended(request, answer, short=fault is not None and fault.short_bytes is not None)

    def _ended(self, request: VmscsiRequest, answer: Answer, *, short: bool) -> VmscsiRequest:
        if answer.status is not ScsiStatus.GOOD:
            return failed(request, answer.sense, SrbStatus.ERROR)
        read, written = len(answer.data or b""), answer.taken_bytes
        self.bytes_read += read if request.cdb[0] in c.READS else 0
        self.bytes_written += written if request.cdb[0] in c.WRITES else 0
        moved = max(read, written)
        # A residual count is for what the device gives less of; a command without data leaves the length.
        if request.transfer_bytes and answer.data is None and not written and not answer.overrun:
            moved = request.transfer_bytes
        status = SrbStatus.DATA_OVERRUN if answer.overrun and not short else SrbStatus.SUCCESS
        return replace(request, srb_status=status, scsi_status=0, sense_length=0, transfer_bytes=moved)
