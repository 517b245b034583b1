"""The checker of the wire: an observer that gives every rule what it needs and sums up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.hyperv.channel import Channel
from harness.hyperv.checker.dynamic_memory import MemoryRules
from harness.hyperv.checker.network import NetworkRules
from harness.hyperv.checker.rings import RingRules
from harness.hyperv.checker.storage import StorageRules
from harness.hyperv.checker.synic import PageRules
from harness.hyperv.checker.tally import CheckReport, Tally
from harness.hyperv.gpadl import Gpadl
from harness.hyperv.memory import GuestMemory
from harness.hyperv.violation import Rule, Violation
from harness.hyperv.wire.numbers import GuidOf, VmbusVersion
from harness.hyperv.wire.packets import Packet
from harness.hyperv.wirelog import Observer, WireLog

__all__ = ["WireChecker"]

_UTILS_LIMITS: Final = {GuidOf.KVP: 16 << 10, GuidOf.VSS: 8 << 10}
_UTILS_LIMIT: Final = 4 << 10
_PIPE_BYTES: Final = 8
_SOCK_LIMIT: Final = (4 << 10) - _PIPE_BYTES
"""HVS_SEND_BUF_SIZE."""


class WireChecker(Observer):
    """Subscribes to a bus's log and judges what it sees; `report` may be asked from any thread.

    Arguments: `page_bytes`, the guest's; `payloads`, ring payloads by driver where the guest's module
    parameters are not the defaults (`storvsc_ringbuffer_size`, netvsc's `ring_size` times 4096).
    """

    def __init__(
        self, log: WireLog, memory: GuestMemory, page_bytes: int, *, payloads: Mapping[str, int] | None = None
    ) -> None:
        self._tally = Tally(log)
        self._rings = RingRules(self._tally, page_bytes, memory, payloads or {})
        self._pages = PageRules(self._tally, page_bytes, memory)
        self._storage = StorageRules(self._tally)
        self._network = NetworkRules(self._tally, page_bytes, self._rings.gpadls)
        self._memory = MemoryRules(self._tally, page_bytes)
        self._others = 0
        log.subscribe(self)

    def report(self) -> CheckReport:
        """What was found so far."""
        return self._tally.report({"hv_vmbus", *self._rings.opened}, self._others)

    # harness.hyperv.wirelog.Observer

    def connected(self, version: VmbusVersion) -> None:
        """Which version the rings are for."""
        self._rings.version = version

    def message(self, payload: bytes, *, from_guest: bool) -> None:
        """Offers, lists, rings, the bus's own pages."""
        self._rings.message(payload, from_guest=from_guest)
        self._pages.message(payload, from_guest=from_guest)

    def gpadl_created(self, gpadl: Gpadl) -> None:
        """A list is complete."""
        self._rings.created(gpadl)

    def gpadl_torn_down(self, gpadl: Gpadl) -> None:
        """A list is gone."""
        self._rings.torn_down(gpadl)

    def ring_closed(self, channel: Channel) -> None:
        """A channel is closed."""
        self._rings.closed(channel.relid)
        self._network.closed(channel)

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A packet of the guest's, by its driver's rules."""
        self._tally.equal("ring.trailer", channel.name, packet.trailer, packet.start_bytes << 32)
        driver = self._rings.drivers.get(channel.relid)
        if driver == "storvsc":
            self._storage.packet(channel, packet)
        elif driver == "netvsc":
            self._network.packet(channel, packet)
        elif driver == "hv_balloon":
            self._memory.packet(channel, packet)
        elif driver == "hv_sock":
            length = int.from_bytes(packet.data[4:8], "little")
            self._tally.holds(
                "sock.piece", channel.name, length <= min(len(packet.data) - _PIPE_BYTES, _SOCK_LIMIT),
                f"{length} bytes announced in a payload of {len(packet.data)}",
                f"as many or less, and {_SOCK_LIMIT} at most",
            )  # fmt: skip
        elif driver == "hv_utils":
            limit = _UTILS_LIMITS.get(channel.offer.interface_type, _UTILS_LIMIT)
            self._tally.holds(
                "utils.packet", channel.name, len(packet.data) <= limit,
                f"a packet of {len(packet.data)} bytes", f"{limit} at most",
            )  # fmt: skip

    def sent(self, channel: Channel, packet: bytes) -> None:
        """A packet of the host's."""
        if self._rings.drivers.get(channel.relid) == "netvsc":
            self._network.sent(channel, packet)

    def registered(self, vp: int, register: int, value: int) -> None:
        """A processor set a register."""
        self._pages.registered(vp, register, value)

    def violation(self, violation: Violation) -> None:
        """What others found: a broken protocol is no pass, whatever the rules say."""
        if violation.rule is not Rule.PAGE_SIZE:
            self._others += 1
