"""The host's side of netvsc: a network adapter whose other end is a `Station` of ours.

Source: Linux drivers/net/hyperv/netvsc.c and rndis_filter.c. What a packet breaks is recorded as a violation,
and the packet is completed all the same: netvsc waits for every completion without end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol
from uuid import UUID
from zlib import crc32

from harness.hyperv.channel import Channel, Offer
from harness.hyperv.devices.receive_buffer import ReceiveBuffer, section_bytes
from harness.hyperv.devices.send_buffer import SEND_SECTION_BYTES, SendBuffer
from harness.hyperv.devices.subchannel import SubChannels
from harness.hyperv.gpadl import Gpadl
from harness.hyperv.rndis.adapter import Adapter
from harness.hyperv.rndis.offload import Offload, as_sent, verdict
from harness.hyperv.rndis.packet import build, parse, split
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire import netvsc as w
from harness.hyperv.wire.netvsc import NvspStatus, NvspType, NvspVersion, nvsp
from harness.hyperv.wire.numbers import GuidOf
from harness.hyperv.wire.packets import Packet, PacketType
from harness.hyperv.wire.record import Record
from harness.hyperv.wire.rndis import RndisType

__all__ = ["Netvsc", "Station"]

MAX_CHANNELS: Final = 8
_INSTANCE: Final = UUID("00155d00-0001-4000-8000-00155d000001")
_MAC: Final = bytes.fromhex("00155d000001")
_ETHERNET_BYTES: Final = 14
_LEAST_MTU, _MOST_MTU = 68, 65521
"""ETH_MIN_MTU, and NETVSC_MTU without an Ethernet header."""
_ALLOCATE: Final = 1
_REFUSALS: Final[dict[NvspType, tuple[NvspType, Record]]] = {
    NvspType.SEND_RECEIVE_BUFFER: (
        NvspType.SEND_RECEIVE_BUFFER_COMPLETE, w.ReceiveBufferComplete(status=NvspStatus.FAIL, sections=0)
    ),
    NvspType.SEND_SEND_BUFFER: (
        NvspType.SEND_SEND_BUFFER_COMPLETE, w.BufferComplete(status=NvspStatus.FAIL)
    ),
    NvspType.SUBCHANNEL: (NvspType.SUBCHANNEL, w.SubchannelComplete(status=NvspStatus.FAIL)),
    NvspType.INIT: (
        NvspType.INIT_COMPLETE, w.InitComplete(version=0, status=NvspStatus.PROTOCOL_TOO_OLD)
    ),
}  # fmt: skip
"""What answers a message that is refused."""
_REFUSAL: Final = (
    NvspType.SEND_RNDIS_PACKET_COMPLETE, w.RndisComplete(status=NvspStatus.INVALID_RNDIS_PACKET)
)  # fmt: skip
"""What answers a packet of RNDIS, and what is no message."""


class Station(Protocol):
    """What is at the other end of the link; `harness.hyperv.net.host.IpHost` is one."""

    def link_mtu(self, mtu: int) -> None:
        """The driver configured an MTU."""
        ...

    def receive(self, data: bytes, now_s: float) -> Iterable[bytes]:
        """A frame of the driver's: the frames that answer it."""
        ...

    def tick(self, now_s: float) -> Iterable[bytes]:
        """Some ten times a second: the frames that are due."""
        ...


class Netvsc:
    """The device; see harness.hyperv.channel.Device.

    Arguments: `maximum`, the newest version to agree to; `send_section_bytes`, how the send buffer is cut
    up: packets that do not fit a section use page buffers; `receive_sections`, at most; `offload`, what the
    driver may leave to us; `channels`, with the primary one, if the guest has processors for them.
    """

    name = "netvsc"

    def __init__(
        self, station: Station, *, maximum: NvspVersion = NvspVersion.V6_1,
        send_section_bytes: int = SEND_SECTION_BYTES, receive_sections: int = 1 << 14,
        offload: Offload | None = None, channels: int = 4, mac: bytes = _MAC, instance: UUID = _INSTANCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"{channels} channels, where 1 to {MAX_CHANNELS} can be")
        self.station = station
        self.maximum = maximum
        self.receive_sections = receive_sections
        self.adapter = Adapter(mac, offload or Offload(), channels)
        self.version: NvspVersion | None = None
        """What was agreed on; None until then."""
        self.send = SendBuffer(send_section_bytes)
        self.frames: Counter[str] = Counter()
        """The driver's, by the name of their channel."""
        self.largest_frame = 0
        self.opens = 0
        """How often the driver opened the primary channel: once more with each change of its MTU."""
        self.receive: ReceiveBuffer | None = None
        self._instance = instance
        self._clock = clock
        self._channel: Channel | None = None
        self._subs = SubChannels(self, self._sub_channel_closed)

    # harness.hyperv.channel.Device

    def offer(self) -> Offer:
        """A network adapter."""
        return Offer(interface_type=GuidOf.NETWORK, instance=self._instance)

    def opened(self, channel: Channel) -> None:
        """Ready for INIT."""
        self._channel, self.version = channel, None
        self.opens += 1

    def closed(self) -> None:
        """Forget the buffers, take sub-channels back: Linux waits for it (vmbus_disconnect_ring())."""
        if self._channel is not None:
            self._subs.end(self._channel)
        self._channel = self.receive = self.send.gpadl = None
        self.version = None
        self.adapter.reset()

    def tick(self, now_s: float) -> None:
        """The station's business, and what waits for sections."""
        if self._channel is not None:
            self._deliver(self.station.tick(now_s))

    def packet(self, channel: Channel, packet: Packet) -> None:
        """An NVSP message, or the completion of one of ours."""
        if packet.type is PacketType.COMPLETION:
            if self.receive is None:
                raise Violated(Rule.DEVICE, "a completion without a receive buffer")
            self.receive.completed(channel, packet.request_id)
            self.receive.flush()
            return
        kind: NvspType | None = None
        try:
            kind = w.nvsp_type(packet.data)
            if kind is NvspType.SEND_RNDIS_PACKET:
                self._rndis(channel, packet)
            else:
                self._control(channel, packet, kind)
        except Violated:
            if packet.wants_completion:
                refusal = _REFUSAL if kind is None else _REFUSALS.get(kind, _REFUSAL)
                channel.complete(packet.request_id, nvsp(*refusal))
            raise

    # For tests and tools, inside Host.locked

    def set_link(self, up: bool) -> None:
        """Plug the cable in, or pull it out."""
        self.adapter.link_up = up
        if self._channel is not None and self.receive is not None and self.adapter.is_initialised:
            self.receive.put(self._channel, self.adapter.link_changed(), control=True)
            self.receive.flush()

    @property
    def sub_channels(self) -> int:
        """Sub-channels that the driver has open."""
        return self._subs.open

    # NVSP

    def _control(self, channel: Channel, packet: Packet, kind: NvspType) -> None:
        if channel is not self._channel:
            raise Violated(Rule.DEVICE, f"{kind.name} on a sub-channel")
        if (self.version is None) is not (kind is NvspType.INIT):
            raise Violated(Rule.DEVICE, f"{kind.name} while the version is {self.version}")
        handlers: dict[NvspType, Callable[[Packet], bytes | None]] = {
            NvspType.INIT: self._init,
            NvspType.SEND_NDIS_VERSION: lambda _: None,
            NvspType.SEND_NDIS_CONFIG: self._ndis_config,
            NvspType.SEND_RECEIVE_BUFFER: self._receive_buffer,
            NvspType.REVOKE_RECEIVE_BUFFER: self._revoke_receive_buffer,
            NvspType.SEND_SEND_BUFFER: self._send_buffer,
            NvspType.REVOKE_SEND_BUFFER: self._revoke_send_buffer,
            NvspType.SWITCH_DATA_PATH: lambda _: b"",
            NvspType.SUBCHANNEL: self._subchannel,
        }
        if kind not in handlers:
            raise Violated(Rule.DEVICE, f"{kind.name} is not for a driver to send")
        answer = handlers[kind](packet)
        if answer is not None and packet.wants_completion:
            channel.complete(packet.request_id, answer)
        if kind is NvspType.SUBCHANNEL:
            self._subs.offer(channel)

    def _init(self, packet: Packet) -> bytes:
        asked = w.Init.unpack(packet.data, w.BODY_AT)
        if asked.lowest > asked.highest:
            raise Violated(Rule.DEVICE, f"versions from {asked.lowest:#x} to {asked.highest:#x}")
        known = [
            each for each in NvspVersion if asked.lowest <= each <= asked.highest and each <= self.maximum
        ]
        if known:
            self.version = known[-1]
        return nvsp(
            NvspType.INIT_COMPLETE,
            w.InitComplete(
                version=known[-1] if known else 0,
                status=NvspStatus.SUCCESS if known else NvspStatus.PROTOCOL_TOO_NEW,
            ),
        )

    def _ndis_config(self, packet: Packet) -> None:
        config = w.NdisConfig.unpack(packet.data, w.BODY_AT)
        mtu = config.frame_bytes - _ETHERNET_BYTES
        if self.receive is not None or not _LEAST_MTU <= mtu <= _MOST_MTU:
            raise Violated(Rule.DEVICE, f"an MTU of {mtu} configured")
        self.adapter.mtu = mtu
        self.station.link_mtu(mtu)

    def _shared(self, packet: Packet, wanted_id: int) -> Gpadl:
        shared = w.ShareBuffer.unpack(packet.data, w.BODY_AT)
        if shared.id != wanted_id or self._channel is None:
            raise Violated(Rule.DEVICE, f"a buffer with id {shared.id:#x}, where {wanted_id:#x} is due")
        return self._channel.gpadl(shared.gpadl)

    def _receive_buffer(self, packet: Packet) -> bytes:
        if self.receive is not None:
            raise Violated(Rule.DEVICE, "a second receive buffer")
        gpadl = self._shared(packet, w.RECEIVE_BUFFER_ID)
        self.receive = buffer = ReceiveBuffer(gpadl, section_bytes(self.adapter.mtu), self.receive_sections)
        return nvsp(
            NvspType.SEND_RECEIVE_BUFFER_COMPLETE,
            w.ReceiveBufferComplete(
                status=NvspStatus.SUCCESS, sub_allocation_bytes=buffer.size_bytes,
                sub_allocations=buffer.sections, end_offset=buffer.size_bytes * buffer.sections,
            ),
        )  # fmt: skip

    def _send_buffer(self, packet: Packet) -> bytes:
        self.send.share(self._shared(packet, w.SEND_BUFFER_ID))
        complete = w.BufferComplete(status=NvspStatus.SUCCESS, section_bytes=self.send.section_bytes)
        return nvsp(NvspType.SEND_SEND_BUFFER_COMPLETE, complete)

    def _revoke_receive_buffer(self, packet: Packet) -> None:
        if self.receive is None or w.Revoke.unpack(packet.data, w.BODY_AT).id != w.RECEIVE_BUFFER_ID:
            raise Violated(Rule.DEVICE, "a receive buffer revoked that was not shared")
        self.receive.revoke()

    def _revoke_send_buffer(self, packet: Packet) -> None:
        if self.send.gpadl is None or w.Revoke.unpack(packet.data, w.BODY_AT).id != w.SEND_BUFFER_ID:
            raise Violated(Rule.DEVICE, "a send buffer revoked that was not shared")
        self.send.gpadl = None

    def _subchannel(self, packet: Packet) -> bytes:
        asked = w.SubchannelRequest.unpack(packet.data, w.BODY_AT)
        if (self.version or 0) < NvspVersion.V5 or asked.operation != _ALLOCATE:
            raise Violated(Rule.DEVICE, f"sub-channels asked for, operation {asked.operation}")
        count = self._subs.make(min(asked.count, self.adapter.channels - 1))
        return nvsp(NvspType.SUBCHANNEL, w.SubchannelComplete(status=NvspStatus.SUCCESS, count=count))

    def _sub_channel_closed(self, channel: Channel) -> None:
        if self.receive is not None:
            self.receive.closed(channel)

    # RNDIS

    def _rndis(self, channel: Channel, packet: Packet) -> None:
        if self.receive is None or self.version is None:
            raise Violated(Rule.DEVICE, "an RNDIS packet before there is a receive buffer")
        send = w.RndisSend.unpack(packet.data, w.BODY_AT)
        stream = self.send.stream(channel, packet, send)
        now_s = self._clock()
        answers: list[bytes] = []
        try:
            for kind, message in split(stream):
                if (kind == RndisType.PACKET) is not (send.channel_type == 0):
                    raise Violated(
                        Rule.DEVICE, f"RNDIS message {kind:#x} on channel type {send.channel_type}"
                    )
                if kind == RndisType.PACKET:
                    answers += self._frame(channel, message, now_s)
                else:
                    self._answer(self.adapter.answer(kind, message))
            if packet.wants_completion:
                done = w.RndisComplete(status=NvspStatus.SUCCESS)
                channel.complete(packet.request_id, nvsp(NvspType.SEND_RNDIS_PACKET_COMPLETE, done))
        finally:
            self._deliver(answers)

    def _frame(self, channel: Channel, message: bytes, now_s: float) -> Iterable[bytes]:
        if not self.adapter.is_initialised:
            raise Violated(Rule.DEVICE, "a frame before INITIALIZE")
        frame = as_sent(parse(message), self.adapter.offload, self.adapter.mtu)
        self.adapter.sent_frames += 1
        self.frames[channel.name] += 1
        self.largest_frame = max(self.largest_frame, len(frame))
        return self.station.receive(frame, now_s) if self.adapter.link_up else ()

    def _answer(self, message: bytes | None) -> None:
        if message is not None and self._channel is not None and self.receive is not None:
            self.receive.put(self._channel, message, control=True)

    def _deliver(self, frames: Iterable[bytes]) -> None:
        """Frames for the driver, which gets them if its link is up and it wants any."""
        adapter = self.adapter
        if self.receive is None:
            return
        for frame in frames:
            channel = self._towards(frame)
            if adapter.link_up and adapter.packet_filter and channel is not None:
                adapter.received_frames += 1
                known = verdict(frame) if adapter.receive_checksum else None
                self.receive.put(channel, build(frame, known), control=False)
        self.receive.flush()

    def _towards(self, frame: bytes) -> Channel | None:
        """The channel that the driver's table gives for a flow; the hash is ours, the spreading its."""
        table = self.adapter.table
        index = table[crc32(frame[26:38]) % len(table)] if table and frame[12:14] == b"\x08\x00" else 0
        return self._subs.channel(index) or self._channel
