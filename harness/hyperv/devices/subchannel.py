"""Further channels of a device's, on other rings and for other processors.

To the bus each is a device of its own, with its primary's type and instance. Linux opens what is offered, and
when it closes one it waits until that is rescinded (drivers/hv/channel.c, vmbus_disconnect_ring()).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.hyperv.channel import Channel, Device, Offer
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.packets import Packet

__all__ = ["SubChannel", "SubChannels"]


class SubChannel:
    """Gives what comes to its primary device; see harness.hyperv.channel.Device."""

    def __init__(self, owner: SubChannels, index: int) -> None:
        self.index = index
        self.channel: Channel | None = None
        """None while it is not open."""
        self._owner = owner

    @property
    def name(self) -> str:
        """The primary's; channels add the number."""
        return self._owner.primary.name

    def offer(self) -> Offer:
        """The primary's, with a number."""
        return replace(self._owner.primary.offer(), sub_channel_index=self.index)

    def opened(self, channel: Channel) -> None:
        """See Device."""
        self.channel = channel

    def packet(self, channel: Channel, packet: Packet) -> None:
        """See Device."""
        self._owner.primary.packet(channel, packet)

    def tick(self, now_s: float) -> None:
        """Nothing: the primary's does."""

    def closed(self) -> None:
        """See Device."""
        channel, self.channel = self.channel, None
        if channel is not None:
            self._owner.closed(self, channel)


class SubChannels:
    """Those of one device.

    Arguments: `gone`, called with each channel that was closed.
    """

    def __init__(self, primary: Device, gone: Callable[[Channel], None]) -> None:
        self.primary = primary
        self._gone = gone
        self._subs: list[SubChannel] = []

    @property
    def open(self) -> int:
        """How many the guest has open."""
        return sum(each.channel is not None for each in self._subs)

    def channel(self, index: int) -> Channel | None:
        """The open channel of that number, counted from 1."""
        return next((each.channel for each in self._subs if each.index == index), None)

    def make(self, count: int) -> int:
        """As many, which `offer` offers; raises Violated while there are others."""
        if self._subs:
            raise Violated(Rule.DEVICE, f"sub-channels asked for, where there are {len(self._subs)}")
        self._subs = [SubChannel(self, index + 1) for index in range(count)]
        return count

    def offer(self, channel: Channel) -> None:
        """Offer them; raises Violated when the guest has too many channels."""
        for number, each in enumerate(self._subs):
            try:
                channel.offers.add(each)
            except Violated:
                del self._subs[number:]
                raise

    def closed(self, sub: SubChannel, channel: Channel) -> None:
        """The guest closed one: it is taken back."""
        self._gone(channel)
        if sub in self._subs:
            self._subs.remove(sub)
            channel.offers.rescind(sub)

    def end(self, channel: Channel) -> None:
        """The primary is closed: all are taken back."""
        subs, self._subs = self._subs, []
        for each in subs:
            channel.offers.rescind(each)
