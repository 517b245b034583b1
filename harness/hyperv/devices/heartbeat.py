"""Heartbeat: every second a number, which the guest answers with the one after it (hv_util.c)."""

from __future__ import annotations

from typing import ClassVar, Final

from harness.hyperv.devices.integration import IntegrationService
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.integration import HeartbeatBody, IcType
from harness.hyperv.wire.numbers import GuidOf

__all__ = ["Heartbeat"]

_PERIOD_S: Final = 1.0


class Heartbeat(IntegrationService):
    """Counts the guest's beats in `beats`."""

    name = "heartbeat"
    TYPE = GuidOf.HEARTBEAT
    MESSAGE: ClassVar = IcType.HEARTBEAT
    VERSIONS: ClassVar = ((3, 0), (1, 0))

    def __init__(self) -> None:
        super().__init__()
        self.beats = 0
        self._sequence = 0
        self._next_s = 0.0

    def tick(self, now_s: float) -> None:
        """See Device."""
        if self.is_ready and now_s >= self._next_s and not self._unanswered:
            self._next_s = now_s + _PERIOD_S
            self._sequence += 1
            self.request(HeartbeatBody(sequence=self._sequence).pack())

    def answered(self, status: int, body: bytes) -> None:
        """The number after ours, and status 0."""
        seen = HeartbeatBody.unpack(body).sequence
        if status or seen != self._sequence + 1:
            raise Violated(
                Rule.DEVICE, f"beat {self._sequence} was answered with {seen}, status {status:#x}", self.name
            )
        self._sequence = seen
        self.beats += 1
