"""Time: the host's clock and the reference counter at one moment, first to be set, then as samples.

Source: Linux drivers/hv/hv_util.c, timesync_onchannelcallback() and adj_guesttime().
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Final

from harness.hyperv.devices.integration import IntegrationService
from harness.hyperv.wire.integration import IcType, TimeSyncBody
from harness.hyperv.wire.numbers import GuidOf

__all__ = ["TimeSync"]

_PERIOD_S: Final = 5.0
_SYNC, _SAMPLE = 1, 2
_SINCE_1601: Final = 116_444_736_000_000_000
"""1970 in units of 100 ns (WLTIMEDELTA)."""


class TimeSync(IntegrationService):
    """`reference` is the partition's counter, as guests read it from TIME_REF_COUNT."""

    name = "timesync"
    TYPE = GuidOf.TIME_SYNC
    MESSAGE: ClassVar = IcType.TIME_SYNC
    VERSIONS: ClassVar = ((4, 0),)
    """3.0 and 1.0 have another body, without the counter."""

    def __init__(self, reference: Callable[[], int]) -> None:
        super().__init__()
        self.answers = 0
        self._reference = reference
        self._next_s = 0.0
        self._synced = False

    def closed(self) -> None:
        """See Device."""
        super().closed()
        self._synced = False

    def tick(self, now_s: float) -> None:
        """See Device."""
        if self.is_ready and now_s >= self._next_s and not self._unanswered:
            self._next_s = now_s + _PERIOD_S
            host_time = time.time_ns() // 100 + _SINCE_1601
            flags = _SAMPLE if self._synced else _SYNC
            body = TimeSyncBody(host_time=host_time, reference_time=self._reference(), flags=flags)
            self._synced = self.request(body.pack()) or self._synced

    def answered(self, status: int, body: bytes) -> None:
        """The guest sends it back as it was; its status says nothing."""
        self.answers += 1
