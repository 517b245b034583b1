"""netvsc's receive buffer: sections that the host fills, and has back when the driver has read them.

Source: Linux drivers/net/hyperv/netvsc.c, netvsc_init_buf() and netvsc_receive().
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from harness.hyperv.channel import Channel
from harness.hyperv.gpadl import Gpadl
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.netvsc import RECEIVE_BUFFER_ID, NvspType, RndisSend, nvsp

__all__ = ["MAX_CONTROL", "MAX_DATA", "ReceiveBuffer", "section_bytes"]

LEAST_SECTION_BYTES: Final = 1728
"""NETVSC_RECV_SECTION_SIZE."""
_HEADERS_BYTES: Final = 14 + 44 + 16
"""Of a frame, of RNDIS, and of what is known of its checksums."""
MAX_SECTIONS: Final = 1 << 14
MAX_RANGES: Final = 32
"""Frames in one packet; Linux takes 562 (NVSP_RSC_MAX)."""
MAX_DATA: Final = 512
"""Frames that wait for a section; further ones are dropped, as any link does."""
MAX_CONTROL: Final = 64
"""Answers that wait: with more, the driver gives nothing back."""
_UNSENT: Final = 64
"""Packets in the channel's own queue, beyond which frames wait here."""


def section_bytes(mtu: int) -> int:
    """How large a section has to be for a frame of that MTU."""
    return max(LEAST_SECTION_BYTES, mtu + _HEADERS_BYTES + 63 & ~63)


@dataclass(slots=True)
class _Waiting:
    message: bytes
    control: bool
    channel: Channel


class ReceiveBuffer:
    """Cut into sections of one size; raises Violated when there is not one.

    Arguments: `most`, sections at most.
    """

    def __init__(self, gpadl: Gpadl, size_bytes: int, most: int = MAX_SECTIONS) -> None:
        self.size_bytes = size_bytes
        self.sections = min(most, MAX_SECTIONS, gpadl.byte_count // size_bytes)
        if not self.sections:
            raise Violated(
                Rule.DEVICE, f"a receive buffer of {gpadl.byte_count} bytes for frames of {size_bytes}"
            )
        self.dropped = 0
        """Frames for which there was no room."""
        self.least_free = self.sections
        """The fewest sections that were free at any time."""
        self._view = gpadl.view
        self._free = deque(range(self.sections))
        self._lent: dict[int, tuple[int, list[int]]] = {}
        self._waiting: deque[_Waiting] = deque()
        self._next_id = 1
        self.is_revoked = False

    @property
    def lent(self) -> int:
        """Sections that the driver has."""
        return self.sections - len(self._free)

    def put(self, channel: Channel, message: bytes, *, control: bool) -> None:
        """A message for the driver, sent by `flush`; raises Violated where too many answers wait."""
        if self.is_revoked or len(message) > self.size_bytes:
            self.dropped += 1
            return
        if control:
            if sum(each.control for each in self._waiting) >= MAX_CONTROL:
                raise Violated(Rule.DEVICE, f"{MAX_CONTROL} answers wait, and no section is given back")
        elif len(self._waiting) >= MAX_DATA:
            self.flush()
            if len(self._waiting) >= MAX_DATA:
                self.dropped += 1
                return
        self._waiting.append(_Waiting(message, control, channel))

    def flush(self) -> None:
        """Send what waits, as far as there are sections; frames for one channel go together."""
        while self._waiting and self._free:
            first = self._waiting[0]
            if first.channel.unsent > _UNSENT:
                return
            batch = [self._waiting.popleft()]
            while (
                self._waiting and not first.control and len(batch) < min(MAX_RANGES, len(self._free))
                and self._waiting[0].channel is first.channel and not self._waiting[0].control
            ):  # fmt: skip
                batch.append(self._waiting.popleft())
            self._send(first.channel, batch)

    def _send(self, channel: Channel, batch: list[_Waiting]) -> None:
        sections, ranges = [], []
        for each in batch:
            section = self._free.popleft()
            sections.append(section)
            self._view.write(section * self.size_bytes, each.message)
            ranges.append((len(each.message), section * self.size_bytes))
        self.least_free = min(self.least_free, len(self._free))
        request_id, self._next_id = self._next_id, self._next_id + 1
        body = nvsp(NvspType.SEND_RNDIS_PACKET, RndisSend(channel_type=int(batch[0].control)))
        if channel.send_ranges(body, request_id=request_id, set_id=RECEIVE_BUFFER_ID, ranges=tuple(ranges)):
            self._lent[request_id] = (channel.relid, sections)
        else:
            self._free.extend(sections)
            self.dropped += len(batch)

    def completed(self, channel: Channel, request_id: int) -> None:
        """The driver has read a packet; raises Violated where it had none of that id on that channel."""
        relid, sections = self._lent.get(request_id, (None, []))
        if relid != channel.relid:
            raise Violated(Rule.DEVICE, f"packet {request_id} given back, which is not lent on this channel")
        del self._lent[request_id]
        self._free.extend(sections)

    def closed(self, channel: Channel) -> None:
        """A channel is gone: what it had is free, what waits for it is dropped."""
        for request_id in [each for each, (relid, _) in self._lent.items() if relid == channel.relid]:
            self._free.extend(self._lent.pop(request_id)[1])
        kept = deque(each for each in self._waiting if each.channel is not channel)
        self.dropped += len(self._waiting) - len(kept)
        self._waiting = kept

    def revoke(self) -> None:
        """The driver wants it back: nothing more is written, completions are still taken."""
        self.is_revoked = True
        self._waiting.clear()
