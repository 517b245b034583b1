"""The bus: agrees on a version, offers channels, takes pages and rings, and gives all of it back.

Source: Linux drivers/hv/connection.c, channel.c and channel_mgmt.c, read from the other side.

Everything runs on one thread, the host's. Nothing that a guest sends raises out of `posted`, `signalled`
or `poll`; what breaks a rule is recorded in the log and refused where the protocol has a way to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from harness.hyperv.channel import Channel, ChannelState, Device, Services
from harness.hyperv.gpadl import Gpadl, Gpadls
from harness.hyperv.memory import GuestMemory
from harness.hyperv.synic import MAX_RELID, VMBUS_SINT, Synic
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire import messages as m
from harness.hyperv.wire.messages import MessageType
from harness.hyperv.wire.numbers import MessageConnection, Status, VmbusVersion
from harness.hyperv.wirelog import WireLog

__all__ = ["MAX_CHANNELS", "VmBus"]

RELID_STEP: Final = 8
"""See Synic.signal()."""
MAX_CHANNELS: Final = MAX_RELID // RELID_STEP
SIGNAL_BASE: Final = 0x2000
"""A channel's connection id is this plus its relid: ids are 24 bits, and messages have the low ones."""
REFUSED: Final = 0xC000_000D
"""STATUS_INVALID_PARAMETER of Windows; Linux looks only whether it is 0."""
POLL_S: Final = 0.1
LATE_POLLS: Final = 10
"""Polls for which data may lie unread before it is said that the guest did not signal."""


@dataclass(slots=True)
class _Watch:
    """Data that was found unread, without a signal for it."""

    polls: int = 0


@dataclass(slots=True)
class _State:
    version: VmbusVersion | None = None
    vp: int = 0
    """Where messages to the guest go."""
    offered: bool = False
    channels: dict[int, Channel] = field(default_factory=dict)
    watches: dict[int, _Watch] = field(default_factory=dict)


class VmBus:
    """The bus and its devices, each of which is offered when the guest asks.

    Arguments: `maximum`, the newest version to agree to: the guest then asks for older ones.
    """

    def __init__(
        self, memory: GuestMemory, synic: Synic, devices: Iterable[Device], log: WireLog,
        *, maximum: VmbusVersion = VmbusVersion.V5_3,
    ) -> None:  # fmt: skip
        self.log = log
        self.maximum = maximum
        self.gpadls = Gpadls(memory)
        self.refused_versions: list[int] = []
        """Versions that the guest asked for in vain, as numbers; the first 64."""
        self.unloads = 0
        self.services: Services | None = None
        """Who is asked when a socket of the guest's wants to be connected; None: nobody."""
        self._memory = memory
        self._synic = synic
        self._devices = list(devices)
        self._state = _State()
        self._busy: dict[int, Channel] = {}
        self._handlers: dict[MessageType, Callable[[bytes], None]] = {
            MessageType.INITIATE_CONTACT: self._initiate_contact,
            MessageType.REQUEST_OFFERS: self._request_offers,
            MessageType.GPADL_HEADER: self._gpadl_header,
            MessageType.GPADL_BODY: self._gpadl_body,
            MessageType.GPADL_TEARDOWN: self._gpadl_teardown,
            MessageType.OPEN_CHANNEL: self._open_channel,
            MessageType.CLOSE_CHANNEL: self._close_channel,
            MessageType.RELID_RELEASED: self._relid_released,
            MessageType.MODIFY_CHANNEL: self._modify_channel,
            MessageType.UNLOAD: self._unload,
            MessageType.TL_CONNECT_REQUEST: self._connect_request,
        }

    @property
    def version(self) -> VmbusVersion | None:
        """The version agreed on; None while the guest is not connected."""
        return self._state.version

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All channels that are offered, open ones and others."""
        return tuple(self._state.channels.values())

    def channel_of(self, device: Device) -> Channel | None:
        """A device's open primary channel."""
        for channel in self._state.channels.values():
            if channel.device is device and channel.state is ChannelState.OPEN:
                return channel
        return None

    # What the guest calls

    def posted(self, connection: int, payload: bytes) -> Status:
        """A channel message; see MessagePort."""
        if connection & 0xFF_FFFF not in (MessageConnection.OLD, MessageConnection.NEW):
            return Status.INVALID_CONNECTION_ID
        self.log.tell(lambda observer: observer.message(payload, from_guest=True))
        try:
            kind = m.message_type(payload)
            handler = self._handlers.get(kind)
            if handler is None:
                raise Violated(Rule.MESSAGE, f"{kind.name} is not for a guest to send, or not offered")
            if self._state.version is None and kind not in (MessageType.INITIATE_CONTACT, MessageType.UNLOAD):
                raise Violated(Rule.STATE, f"{kind.name} before a version was agreed on")
            handler(payload)
        except Violated as error:
            self.log.violated(error, "vmbus")
        return Status.SUCCESS

    def signalled(self, connection: int) -> Status:
        """The guest wrote into an empty ring, or made room in a full one; see MessagePort."""
        channel = self._state.channels.get((connection & 0xFF_FFFF) - SIGNAL_BASE)
        if channel is None:
            return Status.INVALID_CONNECTION_ID
        self._state.watches.pop(channel.relid, None)
        if channel.state is ChannelState.OPEN:
            channel.flush()
            self._busy[channel.relid] = channel
        return Status.SUCCESS

    # What the host's thread calls

    def serve(self) -> bool:
        """Serve each channel that was signalled once; True when there is more to do at once."""
        busy, self._busy = self._busy, {}
        for relid, channel in busy.items():
            if channel.serve():
                self._busy[relid] = channel
        return bool(self._busy)

    def poll(self, now_s: float) -> None:
        """Some ten times a second: the devices' own business, and data that nobody signalled."""
        for device in tuple(self._devices):  # one may take itself away
            try:
                device.tick(now_s)
            except Violated as error:
                self.log.violated(error, device.name)
        for channel in self.channels:
            if channel.unsent:
                channel.flush()
                if channel.has_unread:
                    self._busy[channel.relid] = channel
            elif channel.has_unread and channel.relid not in self._busy:
                self._watch(channel)
            else:
                self._state.watches.pop(channel.relid, None)

    def _watch(self, channel: Channel) -> None:
        watch = self._state.watches.setdefault(channel.relid, _Watch())
        watch.polls += 1
        if watch.polls == LATE_POLLS:
            # Served all the same: on hosts whose memory is weakly ordered it may be our own fault.
            self.log.violated(
                Violated(Rule.SIGNAL, f"packets lay unread for {LATE_POLLS * POLL_S:.0f} s without a signal"),
                channel.name,
            )
            self._busy[channel.relid] = channel

    def add(self, device: Device) -> None:
        """A new device: offered at once if the guest has had its offers, with the others otherwise.

        Raises Violated when the guest has as many channels as there can be.
        """
        if self._state.offered:
            self._offer(device)
        self._devices.append(device)

    def rescind(self, device: Device) -> None:
        """Take a device away from the guest, as if it was unplugged."""
        self._devices.remove(device)
        for channel in self.channels:
            if channel.device is device and channel.state is not ChannelState.RESCINDED:
                self._close(channel)
                channel.state = ChannelState.RESCINDED
                self._send(m.RescindOffer(child_relid=channel.relid).message())

    def disconnect(self) -> None:
        """Close everything: the guest let go of the bus, or is gone."""
        for channel in self.channels:
            self._close(channel)
        self.gpadls.tear_down_all()
        self._busy.clear()
        self._synic.drop_messages()
        self._state = _State(vp=self._state.vp)

    def _send(self, payload: bytes) -> None:
        self.log.tell(lambda observer: observer.message(payload, from_guest=False))
        try:
            self._synic.post(self._state.vp, payload)
        except Violated as error:
            self.log.violated(error, "vmbus")

    # Messages

    def _initiate_contact(self, payload: bytes) -> None:
        contact = m.InitiateContact.of(payload)
        self.disconnect()
        if contact.target_vcpu >= self._synic.vps:
            raise Violated(Rule.MESSAGE, f"messages wanted on VP {contact.target_vcpu} of {self._synic.vps}")
        self._state.vp = contact.target_vcpu
        new = contact.version >= VmbusVersion.V5_0
        if new and contact.interrupt_page & 0xFF != VMBUS_SINT:
            raise Violated(Rule.MESSAGE, f"messages wanted on SINT {contact.interrupt_page & 0xFF}")
        known = contact.version in tuple(VmbusVersion) and contact.version <= self.maximum
        if not known and len(self.refused_versions) < 64:
            self.refused_versions.append(contact.version)
        self._send(
            m.VersionResponse(
                supported=int(known), message_connection=MessageConnection.NEW if new and known else 0
            ).message()
        )
        if known:
            self._state.version = version = VmbusVersion(contact.version)
            self.log.tell(lambda observer: observer.connected(version))

    def _request_offers(self, _: bytes) -> None:
        if self._state.offered:
            raise Violated(Rule.STATE, "offers were asked for twice")
        self._state.offered = True
        for device in self._devices:
            self._offer(device)
        self._send(m.bare(MessageType.ALL_OFFERS_DELIVERED))

    def _offer(self, device: Device) -> None:
        # A relid that the guest has released is used again, as devices with sub-channels come and go.
        known = self._state.channels
        relid = next(
            (each for each in range(RELID_STEP, MAX_RELID + 1, RELID_STEP) if each not in known), None
        )
        if relid is None:
            raise Violated(Rule.STATE, f"more than {MAX_CHANNELS} channels at a time", device.name)
        offer = device.offer()
        self._state.channels[relid] = Channel(
            relid=relid, device=device, offer=offer, memory=self._memory, gpadls=self.gpadls, log=self.log,
            signal=lambda channel: self._synic.signal(channel.target_vp, channel.relid), offers=self,
        )  # fmt: skip
        self._send(
            m.OfferChannel(
                interface_type=offer.interface_type, interface_instance=offer.instance, flags=offer.flags,
                mmio_megabytes=offer.mmio_megabytes, user_defined=offer.user_defined,
                sub_channel_index=offer.sub_channel_index, child_relid=relid,
                connection_id=SIGNAL_BASE + relid,
            ).message()
        )  # fmt: skip

    def _channel(self, relid: int) -> Channel:
        channel = self._state.channels.get(relid)
        if channel is None:
            raise Violated(Rule.MESSAGE, f"there is no channel {relid}")
        return channel

    def _gpadl_header(self, payload: bytes) -> None:
        header = m.GpadlHeader.of(payload)
        try:
            self._channel(header.child_relid)
            made = self.gpadls.take_header(payload)
        except Violated:
            self._send(
                m.GpadlCreated(child_relid=header.child_relid, gpadl=header.gpadl, status=REFUSED).message()
            )
            raise
        self._created(made)

    def _gpadl_body(self, payload: bytes) -> None:
        body = m.GpadlBody.of(payload)
        relid = self.gpadls.expecting(body.gpadl)
        try:
            made = self.gpadls.take_body(payload)
        except Violated:
            if relid is not None:
                self._send(m.GpadlCreated(child_relid=relid, gpadl=body.gpadl, status=REFUSED).message())
            raise
        self._created(made)

    def _created(self, gpadl: Gpadl | None) -> None:
        if gpadl is not None:
            self.log.tell(lambda observer: observer.gpadl_created(gpadl))
            self._send(m.GpadlCreated(child_relid=gpadl.relid, gpadl=gpadl.handle, status=0).message())

    def _gpadl_teardown(self, payload: bytes) -> None:
        teardown = m.GpadlTeardown.of(payload)
        try:
            for channel in self.channels:
                if channel.ring_gpadl is not None and channel.ring_gpadl.handle == teardown.gpadl:
                    self._close(channel)
                    raise Violated(Rule.STATE, "its rings were taken back while it was open", channel.name)
        finally:
            gone = self.gpadls.tear_down(teardown.gpadl)
            if gone is not None:
                self.log.tell(lambda observer: observer.gpadl_torn_down(gone))
            self._send(m.GpadlTorndown(gpadl=teardown.gpadl).message())

    def _open_channel(self, payload: bytes) -> None:
        request = m.OpenChannel.of(payload)
        status = REFUSED
        try:
            channel = self._channel(request.child_relid)
            if request.target_vp >= self._synic.vps:
                raise Violated(Rule.MESSAGE, f"interrupts wanted on VP {request.target_vp}", channel.name)
            gpadl = channel.gpadl(request.gpadl)
            channel.open(gpadl, request.downstream_page, request.target_vp, request.user_data)
            status = 0
        finally:
            self._send(
                m.OpenResult(
                    child_relid=request.child_relid, open_id=request.open_id, status=status
                ).message()
            )
        self.log.tell(lambda observer: observer.ring_opened(channel))
        channel.device.opened(channel)
        self._busy[channel.relid] = channel

    def _close_channel(self, payload: bytes) -> None:
        channel = self._channel(m.CloseChannel.of(payload).child_relid)
        if not self._close(channel) and channel.state is not ChannelState.RESCINDED:
            raise Violated(Rule.STATE, "closed without having been open", channel.name)

    def _close(self, channel: Channel) -> bool:
        if not channel.close():
            return False
        self._busy.pop(channel.relid, None)
        self.log.tell(lambda observer: observer.ring_closed(channel))
        try:
            channel.device.closed()
        except Violated as error:
            self.log.violated(error, channel.name)
        return True

    def _relid_released(self, payload: bytes) -> None:
        channel = self._channel(m.RelidReleased.of(payload).child_relid)
        if channel.state is not ChannelState.RESCINDED:
            raise Violated(Rule.STATE, "released without having been rescinded", channel.name)
        del self._state.channels[channel.relid]

    def _modify_channel(self, payload: bytes) -> None:
        request = m.ModifyChannel.of(payload)
        status = REFUSED
        try:
            channel = self._channel(request.child_relid)
            if request.target_vp >= self._synic.vps or channel.state is not ChannelState.OPEN:
                raise Violated(Rule.MESSAGE, f"cannot move to VP {request.target_vp}", channel.name)
            channel.target_vp = request.target_vp
            status = 0
        finally:
            if (self._state.version or 0) >= VmbusVersion.V5_3:
                self._send(m.ModifyChannelResponse(child_relid=request.child_relid, status=status).message())

    def _connect_request(self, payload: bytes) -> None:
        request = m.TlConnectRequest.of(payload)
        if self.services is None:
            raise Violated(Rule.MESSAGE, f"service {request.host_service} wanted, and there are none")
        self.services.wanted(self, request.guest_endpoint, request.host_service)

    def _unload(self, _: bytes) -> None:
        self.unloads += 1
        self.disconnect()
        self._send(m.bare(MessageType.UNLOAD_RESPONSE))
