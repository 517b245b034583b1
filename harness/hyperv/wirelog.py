"""What crosses the wire, shown to whoever judges it: `Observer` sees, `WireLog` keeps and counts.

A checker subclasses `Observer`, is subscribed with `WireLog.subscribe`, and reports with `WireLog.violation`.
Everything is called on the host's thread, between two events of the guest's.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from harness.hyperv.violation import Rule, Violated, Violation

if TYPE_CHECKING:
    from harness.hyperv.channel import Channel
    from harness.hyperv.gpadl import Gpadl
    from harness.hyperv.wire.numbers import VmbusVersion
    from harness.hyperv.wire.packets import Packet

__all__ = ["MAX_KEPT", "Observer", "WireLog"]

MAX_KEPT: Final = 256
"""Violations kept in full; all are counted."""


class Observer:
    """Sees the wire; every method does nothing unless overridden."""

    def connected(self, version: VmbusVersion) -> None:
        """A protocol version was agreed on."""

    def message(self, payload: bytes, *, from_guest: bool) -> None:
        """A channel message, header included; the host's when it is queued."""

    def gpadl_created(self, gpadl: Gpadl) -> None:
        """A list of pages is complete: it is well-formed, and all are RAM."""

    def gpadl_torn_down(self, gpadl: Gpadl) -> None:
        """The guest has its pages back."""

    def ring_opened(self, channel: Channel) -> None:
        """OPENCHANNEL was accepted: `channel.gpadl`, `channel.downstream_page`, both rings."""

    def ring_closed(self, channel: Channel) -> None:
        """The guest closed a channel, or the bus."""

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A packet from the guest, before its device sees it: `packet.ranges` are its page lists."""

    def sent(self, channel: Channel, packet: bytes) -> None:
        """A packet to the guest, as it was written into the ring."""

    def registered(self, vp: int, register: int, value: int) -> None:
        """A virtual processor sets a register: SIMP, SIEFP, SINT2 and so on, before the value is judged."""

    def violation(self, violation: Violation) -> None:
        """Something broke a rule; also what other observers report."""


class WireLog:
    """The observers of a bus, and the violations so far; `violations` may be asked from any thread."""

    def __init__(self) -> None:
        self.observers: tuple[Observer, ...] = ()
        self._lock = threading.Lock()
        self._kept: list[Violation] = []
        self._counts: Counter[Rule] = Counter()

    def subscribe(self, observer: Observer) -> None:
        """Show it everything from now on."""
        self.observers = (*self.observers, observer)

    def violation(self, violation: Violation) -> None:
        """Record a broken rule."""
        with self._lock:
            self._counts[violation.rule] += 1
            if len(self._kept) < MAX_KEPT:
                self._kept.append(violation)
        for observer in self.observers:
            observer.violation(violation)

    def violated(self, error: Violated, where: str) -> None:
        """Record what an exception carries."""
        self.violation(error.at(where))

    def tell(self, what: Callable[[Observer], None]) -> None:
        """Show something to every observer; what one of them finds violated is recorded."""
        for observer in self.observers:
            try:
                what(observer)
            except Violated as error:
                self.violated(error, type(observer).__name__)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The first of them, oldest first."""
        with self._lock:
            return tuple(self._kept)

    @property
    def counts(self) -> dict[Rule, int]:
        """How many of each kind there were, those not kept included."""
        with self._lock:
            return dict(self._counts)
