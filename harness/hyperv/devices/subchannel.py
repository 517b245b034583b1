"""A further channel of a device's, on other rings and for another processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.hyperv.channel import Channel, Device, Offer
from harness.hyperv.wire.packets import Packet

__all__ = ["SubChannel"]


class SubChannel:
    """Gives what comes to its primary device; see harness.hyperv.channel.Device.

    Arguments: `gone`, called when the guest has closed it.
    """

    def __init__(self, primary: Device, index: int, gone: Callable[[SubChannel, Channel], None]) -> None:
        self.primary = primary
        self.index = index
        self.channel: Channel | None = None
        """None while it is not open."""
        self._gone = gone

    @property
    def name(self) -> str:
        """The primary's; channels add the number."""
        return self.primary.name

    def offer(self) -> Offer:
        """The primary's, with a number."""
        return replace(self.primary.offer(), sub_channel_index=self.index)

    def opened(self, channel: Channel) -> None:
        """See Device."""
        self.channel = channel

    def packet(self, channel: Channel, packet: Packet) -> None:
        """See Device."""
        self.primary.packet(channel, packet)

    def tick(self, now_s: float) -> None:
        """Nothing: the primary's does."""

    def closed(self) -> None:
        """See Device."""
        channel, self.channel = self.channel, None
        if channel is not None:
            self._gone(self, channel)
