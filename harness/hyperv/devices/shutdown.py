"""Shutdown: the host asks, the guest agrees and powers off by itself (hv_util.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from harness.hyperv.devices.integration import IntegrationService
from harness.hyperv.wire.integration import IcType, ShutdownBody
from harness.hyperv.wire.numbers import GuidOf

__all__ = ["Shutdown", "ShutdownKind"]


class ShutdownKind(IntEnum):
    """shutdown_msg_data.flags."""

    POWER_OFF = 0
    RESTART = 2
    HIBERNATE = 4


class Shutdown(IntegrationService):
    """`ask` sends a request; `statuses` are the guest's answers, 0 where it agreed."""

    name = "shutdown"
    TYPE = GuidOf.SHUTDOWN
    MESSAGE: ClassVar = IcType.SHUTDOWN
    VERSIONS: ClassVar = ((3, 2), (3, 1), (3, 0), (1, 0))

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[int] = []

    def ask(self, kind: ShutdownKind = ShutdownKind.POWER_OFF) -> bool:
        """Ask the guest; False when its driver is not ready."""
        return self.request(ShutdownBody(flags=kind).pack())

    def answered(self, status: int, body: bytes) -> None:
        """Whether it agreed; there is one answer to each request, and requests are ours."""
        self.statuses.append(status)
