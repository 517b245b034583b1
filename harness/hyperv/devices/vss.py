"""Snapshots: the host has the guest's file systems frozen and thawed, by a daemon there (hv_snapshot.c).

Without a daemon the kernel answers the first negotiation after 55 s, and requests with a failure.
"""

from __future__ import annotations

from typing import ClassVar

from harness.hyperv.devices.integration import IntegrationService
from harness.hyperv.wire.integration import IcType, VssBody, VssOperation
from harness.hyperv.wire.numbers import GuidOf

__all__ = ["Vss"]


class Vss(IntegrationService):
    """`ask` sends an operation; `answers` are those to it, with what was asked and the guest's status."""

    name = "vss"
    TYPE = GuidOf.VSS
    MESSAGE: ClassVar = IcType.VSS
    VERSIONS: ClassVar = ((7, 0), (6, 0), (5, 0))

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, int]] = []

    def ask(self, operation: VssOperation) -> bool:
        """Send an operation; False when the driver is not ready."""
        return self.request(VssBody(operation=operation).pack())

    def answered(self, status: int, body: bytes) -> None:
        """What was asked, and how it went."""
        self.answers.append((VssBody.unpack(body).operation, status))
