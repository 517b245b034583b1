"""A channel between a device of ours and its driver in the guest, from the offer to its end.

    OFFERED ──open──> OPEN ──close──> OFFERED
       └────rescind────┴──> RESCINDED ──relid released──> gone

A device is anything with the methods of `Device`; `VmBus` calls them, on the host's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol
from uuid import UUID

from harness.hyperv.gpadl import Gpadl, Gpadls
from harness.hyperv.memory import GuestMemory
from harness.hyperv.ring import RingReader, RingWriter
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.messages import OfferFlags
from harness.hyperv.wire.packets import Packet, completion, inband, transfer_pages
from harness.hyperv.wirelog import WireLog

__all__ = ["MAX_UNSENT", "Channel", "ChannelState", "Device", "Offer", "Offers", "Services"]

MAX_UNSENT: Final = 256
"""Packets that wait for room in the guest's ring; with more, its own packets are left unread."""
_HARD_LIMIT: Final = 4 * MAX_UNSENT
SERVE_PACKETS: Final = 128
"""Packets served at once; the other channels, and the vCPUs' calls, come between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a device offers: one channel, found by a driver through its interface type."""

    interface_type: UUID
    """Such as GuidOf.SCSI."""
    instance: UUID
    flags: OfferFlags = OfferFlags.ENUMERATE_DEVICE_INTERFACE
    sub_channel_index: int = 0
    """0: a primary channel. A sub-channel has its primary's type and instance."""
    user_defined: bytes = b""
    """120 bytes at most."""
    mmio_megabytes: int = 0


class Device(Protocol):
    """What is behind a channel. Raise Violated for what its driver does wrong: it is recorded, no more.

    Nothing here may block: the guest's vCPUs wait for the host's thread meanwhile.
    """

    @property
    def name(self) -> str:
        """For messages and statistics: storvsc, heartbeat."""
        ...

    def offer(self) -> Offer:
        """What to offer; asked again each time the guest asks for offers."""
        ...

    def opened(self, channel: Channel) -> None:
        """The guest opened the channel: `channel.user_data`, `channel.send` and so on."""
        ...

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A packet of the guest's, completions of our own requests included."""
        ...

    def tick(self, now_s: float) -> None:
        """Some ten times a second, on the monotonic clock; whether the channel is open or not."""
        ...

    def closed(self) -> None:
        """The channel is closed: what was under way is not answered any more."""
        ...


class Offers(Protocol):
    """The bus, to a device that has more channels than one: sub-channels are devices of their own to it."""

    def add(self, device: Device) -> None:
        """Offer one more; raises Violated when there are too many."""
        ...

    def rescind(self, device: Device) -> None:
        """Take it back, whether the guest has opened it or not."""
        ...


class Services(Protocol):
    """What sockets of the guest's can be connected to."""

    def wanted(self, offers: Offers, guest: UUID, service: UUID) -> None:
        """The guest's endpoint wants a service; raises Violated for what no guest may want."""
        ...


class ChannelState(Enum):
    """Where a channel is in its life."""

    OFFERED = auto()
    OPEN = auto()
    RESCINDED = auto()


class Channel:
    """One channel; a device keeps it from `opened` to `closed`.

    `signal` interrupts the guest for this channel.
    """

    def __init__(
        self, *, relid: int, device: Device, offer: Offer, memory: GuestMemory, gpadls: Gpadls, log: WireLog,
        signal: Callable[[Channel], None], offers: Offers,
    ) -> None:  # fmt: skip
        self.relid = relid
        self.device = device
        self.offer = offer
        self.memory = memory
        """Guest memory, for `view_of(channel.memory, range)`."""
        self.log = log
        self.offers = offers
        """Where a device offers its sub-channels."""
        self.state = ChannelState.OFFERED
        self.target_vp = 0
        self.user_data = b""
        """What the driver passed in OPENCHANNEL."""
        self.ring_gpadl: Gpadl | None = None
        self.downstream_page = 0
        """Index into the GPADL's pages where the host's ring begins."""
        self.reader: RingReader | None = None
        self.writer: RingWriter | None = None
        self.broken = False
        """True once the guest has broken a ring: nothing more is read or written until it is opened anew."""
        self._gpadls = gpadls
        self._signal = signal
        self._unsent: deque[bytes] = deque()

    @property
    def name(self) -> str:
        """The device's name, with the number of a sub-channel."""
        index = self.offer.sub_channel_index
        return f"{self.device.name}.{index}" if index else self.device.name

    def open(self, gpadl: Gpadl, downstream_page: int, target_vp: int, user_data: bytes) -> None:
        """Take the rings over; raises Violated when they are not as they must be."""
        if self.state is not ChannelState.OFFERED:
            raise Violated(Rule.STATE, f"opened while {self.state.name}")
        if not 2 <= downstream_page <= len(gpadl.pfns) - 2 or gpadl.byte_offset:
            raise Violated(Rule.RING, f"the second ring at page {downstream_page} of {len(gpadl.pfns)}")
        if len(set(gpadl.pfns)) != len(gpadl.pfns):
            raise Violated(Rule.RING, "a page twice in one ring")
        reader = RingReader(self.memory, gpadl.pfns[:downstream_page])
        writer = RingWriter(self.memory, gpadl.pfns[downstream_page:])
        self.reader, self.writer = reader, writer
        self.ring_gpadl, self.downstream_page = gpadl, downstream_page
        self.target_vp, self.user_data = target_vp, user_data
        self.broken = False
        self.state = ChannelState.OPEN

    def close(self) -> bool:
        """Let go of the rings; True when the channel was open."""
        was_open = self.reader is not None
        for ring in (self.reader, self.writer):
            if ring is not None:
                ring.revoke()
        self.reader = self.writer = self.ring_gpadl = None
        self._unsent.clear()
        if self.state is ChannelState.OPEN:
            self.state = ChannelState.OFFERED
        return was_open

    # For devices

    @property
    def unsent(self) -> int:
        """Packets that wait for the guest to make room."""
        return len(self._unsent)

    def send(self, data: bytes, *, request_id: int = 0, completion_requested: bool = False) -> bool:
        """Send a packet with its payload in the ring; see `send_raw`."""
        return self.send_raw(inband(data, request_id=request_id, completion_requested=completion_requested))

    def complete(self, request_id: int, data: bytes) -> bool:
        """Answer a packet that wanted a completion; see `send_raw`."""
        return self.send_raw(completion(request_id, data))

    def send_ranges(
        self, data: bytes, *, request_id: int, set_id: int, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        """Send a packet that points into a shared buffer; see `transfer_pages` and `send_raw`."""
        return self.send_raw(transfer_pages(data, request_id=request_id, set_id=set_id, ranges=ranges))

    def send_raw(self, packet: bytes) -> bool:
        """Send a packet, or keep it until the guest makes room.

        False: dropped, since the channel is closed or broken, or the guest reads nothing. While more than
        MAX_UNSENT wait, the guest's own packets are not read, so that what only answers is never dropped.
        """
        if self.writer is None or self.broken or len(self._unsent) >= _HARD_LIMIT:
            return False
        if not self.writer.fits(len(packet)):
            raise ValueError(f"{self.name}: a packet of {len(packet)} bytes never fits into the ring")
        self._unsent.append(packet)
        self.flush()
        return True

    def gpadl(self, handle: int) -> Gpadl:
        """A buffer that the driver shared on this channel; raises Violated."""
        found = self._gpadls.get(handle)
        if found.relid != self.relid:
            raise Violated(Rule.GPADL, f"handle {handle:#x} belongs to channel {found.relid}", self.name)
        return found

    # For the bus

    def flush(self) -> None:
        """Write what waits, as far as there is room; interrupts the guest where that is due."""
        writer, wake = self.writer, False
        try:
            while writer is not None and self._unsent and not self.broken:
                written = writer.write(self._unsent[0])
                if written is None:
                    break
                packet = self._unsent.popleft()
                wake = wake or written
                self.log.tell(lambda observer, sent=packet: observer.sent(self, sent))  # type: ignore[misc]
        except Violated as error:
            self._break(error)
        if wake:
            self._signal(self)

    def _break(self, error: Violated) -> None:
        self.broken = True
        self._unsent.clear()
        self.log.violated(error, self.name)

    def serve(self) -> bool:
        """Read what the guest wrote and give it to the device; True when there is more to do at once.

        While we read, the guest need not signal (`interrupt_mask`); when we stop, it must.
        """
        reader = self.reader
        if reader is None or self.broken:
            return False
        try:
            reader.mask(True)
            count = 0
            while count < SERVE_PACKETS and len(self._unsent) < MAX_UNSENT:
                count += 1
                if not self._serve_one(reader):
                    break
                if self.reader is not reader:
                    return False  # the device, or what it called, closed the channel
            if reader.commit():
                self._signal(self)
            more = reader.mask(False)
        except Violated as error:
            self._break(error)
            return False
        return more and len(self._unsent) < MAX_UNSENT

    def _serve_one(self, reader: RingReader) -> bool:
        try:
            packet = reader.read()
        except Violated as error:
            if error.rule is not Rule.PACKET:
                raise
            self.log.violated(error, self.name)  # its length was sound: the next one can be found
            return True
        if packet is None:
            return False
        self.log.tell(lambda observer: observer.packet(self, packet))
        try:
            self.device.packet(self, packet)
        except Violated as error:
            self.log.violated(error, self.name)
        return True

    @property
    def has_unread(self) -> bool:
        """True when the guest has written what we have not read, and we could."""
        if self.reader is None or self.broken or len(self._unsent) >= MAX_UNSENT:
            return False
        try:
            return self.reader.available() > 0
        except Violated as error:
            self._break(error)
            return False
