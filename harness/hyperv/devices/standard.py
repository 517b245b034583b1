"""The devices that every guest has: the integration services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.hyperv.channel import Device
from harness.hyperv.devices.heartbeat import Heartbeat
from harness.hyperv.devices.kvp import Kvp
from harness.hyperv.devices.shutdown import Shutdown
from harness.hyperv.devices.timesync import TimeSync
from harness.hyperv.devices.vss import Vss

__all__ = ["StandardDevices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardDevices:
    """One of each; iterating gives them in the order they are offered in."""

    heartbeat: Heartbeat
    timesync: TimeSync
    shutdown: Shutdown
    kvp: Kvp
    vss: Vss

    @classmethod
    def make(cls, reference: Callable[[], int]) -> StandardDevices:
        """For a guest whose reference counter is that."""
        return cls(
            heartbeat=Heartbeat(), timesync=TimeSync(reference), shutdown=Shutdown(), kvp=Kvp(), vss=Vss()
        )

    def __iter__(self) -> Iterator[Device]:
        return iter((self.heartbeat, self.timesync, self.shutdown, self.kvp, self.vss))
