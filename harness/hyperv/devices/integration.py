"""What the integration services share: versions are agreed on, then each request gets its answer.

Source: Linux drivers/hv/hv_util.c and channel_mgmt.c, vmbus_prep_negotiate_resp(). The guest sends every
message of the host's back, as a response.
"""

from __future__ import annotations

from typing import ClassVar, Final
from uuid import UUID, uuid5

from harness.hyperv.channel import Channel, Offer
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.integration import (
    HEADERS_BYTES,
    IcFlag,
    IcHeader,
    IcType,
    NegotiateBody,
    PipeHeader,
)
from harness.hyperv.wire.packets import Packet, PacketType

__all__ = ["IntegrationService", "Version"]

Version = tuple[int, int]
_INSTANCES: Final = UUID("6772616e-756c-6500-0000-766d62757300")
_FRAMEWORKS: Final[tuple[Version, ...]] = ((3, 0), (1, 0))
VERSION_BYTES: Final = 4
MAX_UNANSWERED: Final = 16


class IntegrationService:
    """Base of the services: what differs is in `answered`, and in what each sends."""

    name: ClassVar[str]
    TYPE: ClassVar[UUID]
    MESSAGE: ClassVar[IcType]
    VERSIONS: ClassVar[tuple[Version, ...]]
    """Those that the host knows, in order of preference."""

    def __init__(self) -> None:
        self.framework: Version | None = None
        self.version: Version | None = None
        """Of the service, once both sides have agreed."""
        self.negotiations = 0
        self._channel: Channel | None = None
        self._request = 0
        self._unanswered: set[int] = set()

    def offer(self) -> Offer:
        """See Device; the instance is the same in every guest."""
        return Offer(interface_type=self.TYPE, instance=uuid5(_INSTANCES, self.name))

    def opened(self, channel: Channel) -> None:
        """See Device: begins to negotiate."""
        self._channel = channel
        self._unanswered.clear()
        versions = b"".join(
            major.to_bytes(2, "little") + minor.to_bytes(2, "little")
            for major, minor in (*_FRAMEWORKS, *self.VERSIONS)
        )
        head = NegotiateBody(framework_count=len(_FRAMEWORKS), service_count=len(self.VERSIONS))
        self._send(IcType.NEGOTIATE, head.pack() + versions)

    def closed(self) -> None:
        """See Device."""
        self._channel = None
        self.version = self.framework = None

    def tick(self, now_s: float) -> None:
        """See Device."""

    @property
    def is_ready(self) -> bool:
        """True while the channel is open and versions are agreed on."""
        return self._channel is not None and self.version is not None

    def request(self, body: bytes) -> bool:
        """Send a request of this service's; False when it cannot take one now."""
        if not self.is_ready or len(self._unanswered) >= MAX_UNANSWERED:
            return False
        return self._send(self.MESSAGE, body)

    def _send(self, kind: IcType, body: bytes) -> bool:
        if self._channel is None:
            return False
        self._request += 1
        framework = self.framework or _FRAMEWORKS[0]
        version = self.version or self.VERSIONS[0]
        header = IcHeader(
            framework_major=framework[0], framework_minor=framework[1], type=kind,
            service_major=version[0], service_minor=version[1], body_bytes=len(body),
            transaction=self._request & 0xFF, flags=IcFlag.TRANSACTION | IcFlag.REQUEST,
        ).pack()  # fmt: skip
        pipe = PipeHeader(size=len(header) + len(body)).pack()
        sent = self._channel.send(pipe + header + body, request_id=self._request)
        if sent:
            self._unanswered.add(self._request)
        return sent

    def packet(self, channel: Channel, packet: Packet) -> None:
        """See Device: an answer of the guest's."""
        if packet.type is not PacketType.DATA_INBAND:
            raise Violated(Rule.DEVICE, f"answered with a packet of type {packet.type.name}", self.name)
        if packet.request_id not in self._unanswered:
            raise Violated(Rule.DEVICE, f"answered request {packet.request_id}, which is not open", self.name)
        self._unanswered.remove(packet.request_id)
        header = IcHeader.unpack(packet.data, PipeHeader.size_bytes())
        body = packet.data[HEADERS_BYTES : HEADERS_BYTES + header.body_bytes]
        if len(body) != header.body_bytes or not header.flags & IcFlag.RESPONSE:
            raise Violated(
                Rule.DEVICE, f"an answer with flags {header.flags:#x} and {len(body)} bytes", self.name
            )
        if header.type == IcType.NEGOTIATE:
            self._negotiated(body)
        elif header.type == self.MESSAGE:
            self.answered(header.status, body)
        else:
            raise Violated(Rule.DEVICE, f"an answer of type {header.type}", self.name)

    def _negotiated(self, body: bytes) -> None:
        counts = NegotiateBody.unpack(body)
        if (counts.framework_count, counts.service_count) != (1, 1):
            raise Violated(Rule.DEVICE, "the guest knows none of the versions offered", self.name)
        at = NegotiateBody.size_bytes()
        if len(body) < at + 2 * VERSION_BYTES:
            raise Violated(Rule.DEVICE, "an answer without the versions that it announces", self.name)
        numbers = [int.from_bytes(body[at + 2 * index : at + 2 * index + 2], "little") for index in range(4)]
        framework, version = (numbers[0], numbers[1]), (numbers[2], numbers[3])
        if framework not in _FRAMEWORKS or version not in self.VERSIONS:
            raise Violated(
                Rule.DEVICE, f"chose versions {framework} and {version}, which were not offered", self.name
            )
        self.framework, self.version = framework, version
        self.negotiations += 1

    def answered(self, status: int, body: bytes) -> None:
        """An answer to a request of this service's."""
        raise NotImplementedError
