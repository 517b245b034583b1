"""hv_sock: sockets between guest and host, each of which is a channel of its own.

Source: Linux net/vmw_vsock/hyperv_transport.c, read from the other side. A guest that connects names its own
endpoint and a service of the host's, and is offered a channel of that type and instance; a host that connects
offers one unasked. Either side ends its stream with an empty piece. Whoever closes a socket in the guest
waits, without end, until the host takes the channel back (vmbus_hvsock_device_unregister()).
"""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID, uuid4

from harness.hyperv.channel import MAX_UNSENT, Channel, Offer, Offers
from harness.hyperv.net.streams import Stream
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.hvsock import DATA, MAX_PIECE_BYTES, PipeMessage, port_of, service_id
from harness.hyperv.wire.messages import OfferFlags
from harness.hyperv.wire.packets import Packet, PacketType

__all__ = ["MAX_CONNECTIONS", "SocketHost"]

MAX_CONNECTIONS: Final = 64
UNOPENED_S: Final = 30.0
"""After which Windows takes back what the guest has not opened (hvs_probe())."""


class SocketHost:
    """The host's services by port; see harness.hyperv.channel.Services.

    `connect` makes a connection from the host. `connections` are those that are there.
    """

    def __init__(
        self, ports: Mapping[int, Callable[[], Stream]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ports = dict(ports)
        self._clock = clock
        self.connections: list[Connection] = []
        self.refused: Counter[str] = Counter()
        """Requests that were not answered, by reason: Linux gives them up by itself."""

    def wanted(self, offers: Offers, guest: UUID, service: UUID) -> None:
        """See Services: the guest's socket is connected, or not answered."""
        port, own = port_of(service), port_of(guest)
        if port is None or own is None:
            raise Violated(Rule.MESSAGE, f"endpoint {guest} wants {service}: one of them is no port's")
        if port not in self._ports:
            self.refused["no such service"] += 1
        elif len(self.connections) >= MAX_CONNECTIONS:
            self.refused["too many connections"] += 1
        else:
            self._begin(offers, service, guest, self._ports[port](), from_host=False)

    def connect(self, offers: Offers, port: int, stream: Stream) -> Connection:
        """Connect to a port that somebody in the guest listens on; where nobody does, nothing comes of it."""
        guest = service_id(port)
        own = service_id(uuid4().fields[0])
        return self._begin(offers, guest, own, stream, from_host=True)

    def _begin(
        self, offers: Offers, kind: UUID, instance: UUID, stream: Stream, *, from_host: bool
    ) -> Connection:
        made = Connection(
            self, offers, kind, instance, stream, from_host=from_host, give_up_s=self._clock() + UNOPENED_S
        )
        offers.add(made)
        self.connections.append(made)
        return made


class Connection:
    """One channel, from its offer until it is taken back; see harness.hyperv.channel.Device."""

    name = "hv_sock"

    def __init__(
        self, host: SocketHost, offers: Offers, kind: UUID, instance: UUID, stream: Stream, *,
        from_host: bool, give_up_s: float,
    ) -> None:  # fmt: skip
        self.stream = stream
        self.opened_once = False
        self.over = False
        """Nothing more is to come: the channel is taken back at the next tick."""
        self._host = host
        self._offers = offers
        self._kind, self._instance, self._from_host = kind, instance, from_host
        self._give_up_s = give_up_s
        self._channel: Channel | None = None
        self._guest_ended = False
        self._own_end_sent = False

    def offer(self) -> Offer:
        """A pipe of the service's type; user_def[0] says who began (struct vmbus_channel_offer, u.pipe)."""
        return Offer(
            interface_type=self._kind, instance=self._instance,
            flags=OfferFlags.TLNPI_PROVIDER_OFFER | OfferFlags.NAMED_PIPE_MODE,
            user_defined=struct.pack("<IB", 0, int(self._from_host)),
        )  # fmt: skip

    def opened(self, channel: Channel) -> None:
        """See Device."""
        self._channel, self.opened_once = channel, True
        self._pump()

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A piece of the guest's stream."""
        if packet.type is not PacketType.DATA_INBAND:
            raise Violated(Rule.DEVICE, f"a packet of type {packet.type.name} on a socket")
        head = PipeMessage.unpack(packet.data)
        piece = packet.data[PipeMessage.size_bytes() :]
        if head.kind != DATA or head.length > len(piece):
            raise Violated(Rule.DEVICE, f"a piece of type {head.kind}, {head.length} bytes of {len(piece)}")
        if self._guest_ended:
            raise Violated(Rule.DEVICE, "a piece after the end of the stream")
        if head.length:
            self.stream.received(piece[: head.length])
        else:
            self._guest_ended = True
            self.stream.ended()
        self._pump()

    def tick(self, now_s: float) -> None:
        """See Device: what could not be sent before; channels that are over, or were never opened, go."""
        self._pump()
        if self.over or (not self.opened_once and now_s >= self._give_up_s):
            self._host.connections.remove(self)
            self._offers.rescind(self)

    def closed(self) -> None:
        """The guest closed the channel, or let go of the bus: it is not to be offered again."""
        self._channel = None
        self.over = True

    def _pump(self) -> None:
        """Send what the stream has, and its end; with MAX_UNSENT pieces waiting the guest's are not read."""
        channel = self._channel
        while channel is not None and channel.unsent < MAX_UNSENT and not self._own_end_sent:
            piece = self.stream.pull(MAX_PIECE_BYTES)
            if not piece and not self.stream.done:
                break
            channel.send(PipeMessage(kind=DATA, length=len(piece)).pack() + piece)
            self._own_end_sent = not piece
        if channel is not None and self._own_end_sent and self._guest_ended and not channel.unsent:
            self.over = True
