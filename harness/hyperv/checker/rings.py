"""Lists of pages, rings and buffers, judged when they are announced, whether or not the bus accepts them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from harness.hyperv import pagemodel as model
from harness.hyperv.checker.tally import Tally
from harness.hyperv.gpadl import Gpadl
from harness.hyperv.memory import GuestMemory
from harness.hyperv.violation import Violated
from harness.hyperv.wire import messages as m
from harness.hyperv.wire.messages import MessageType, OfferFlags
from harness.hyperv.wire.numbers import GuidOf, VmbusVersion

__all__ = ["DRIVERS", "RingRules"]

DRIVERS: Final[Mapping[UUID, str]] = {
    GuidOf.HEARTBEAT: "hv_utils",
    GuidOf.TIME_SYNC: "hv_utils",
    GuidOf.SHUTDOWN: "hv_utils",
    GuidOf.KVP: "hv_utils",
    GuidOf.VSS: "hv_utils",
    GuidOf.BALLOON: "hv_balloon",
    GuidOf.SCSI: "storvsc",
    GuidOf.NETWORK: "netvsc",
}
"""Which driver of Linux takes which interface type."""
_RING_RULE: Final = {
    "hv_utils": "utils.ring", "storvsc": "storvsc.ring", "netvsc": "netvsc.ring", "hv_sock": "sock.ring",
    "hv_balloon": "balloon.ring",
}  # fmt: skip
_BY_HOST_AT: Final = 4
"""Of an offer's user-defined bytes: the first of a pipe's own (struct vmbus_channel_offer, u.pipe)."""
_INDICES: Final = slice(0, 8)
_FEATURE_BITS_AT: Final = 64
_MAX_PARTIAL: Final = 1024


class RingRules:
    """The rules whose names begin with gpadl, ring and buffer, and each driver's ring size.

    Arguments: `payloads`, what drivers want of each ring where a module parameter says otherwise.
    """

    def __init__(
        self, tally: Tally, page_bytes: int, memory: GuestMemory, payloads: Mapping[str, int]
    ) -> None:
        self._tally = tally
        self._memory = memory
        self._page = page_bytes
        self._payloads = {driver: size for driver, (size, _) in model.RING_PAYLOADS.items()} | dict(payloads)
        self.version: VmbusVersion | None = None
        """That was agreed on."""
        self._partial: dict[int, list[int]] = {}
        self.drivers: dict[int, str] = {}
        """The driver of each channel that was offered, by relid; where unknown, the interface type."""
        self.opened: set[str] = set()
        """Drivers that have tried to open a channel."""
        self.gpadls: dict[int, Gpadl] = {}
        self._rings: set[int] = set()
        self._accepted: set[int] = set()
        """Sockets that the host has connected: their rings are as large as the listener's buffers."""

    def name(self, relid: int) -> str:
        """A channel as findings call it."""
        return f"{self.drivers.get(relid, 'channel')} (channel {relid})"

    def message(self, payload: bytes, *, from_guest: bool) -> None:
        """A channel message of either side; what is malformed is the bus's to say."""
        try:
            kind = m.message_type(payload)
            if not from_guest:
                if kind is MessageType.OFFER_CHANNEL:
                    offer = m.OfferChannel.of(payload)
                    found = DRIVERS.get(offer.interface_type, str(offer.interface_type))
                    if offer.flags & OfferFlags.TLNPI_PROVIDER_OFFER:
                        found = "hv_sock"  # its types are ports
                        if offer.user_defined[_BY_HOST_AT]:
                            self._accepted.add(offer.child_relid)
                    self.drivers[offer.child_relid] = found
            elif kind is MessageType.GPADL_HEADER:
                self._header(payload)
            elif kind is MessageType.GPADL_BODY:
                self._body(payload)
            elif kind is MessageType.OPEN_CHANNEL:
                self._open(m.OpenChannel.of(payload))
            elif kind in (MessageType.INITIATE_CONTACT, MessageType.UNLOAD):
                self.forget()
        except Violated:
            return

    def forget(self) -> None:
        """The guest has let go of the bus."""
        self._partial.clear()
        self.drivers.clear()
        self.gpadls.clear()
        self._rings.clear()
        self._accepted.clear()

    # Lists

    def _header(self, payload: bytes) -> None:
        header = m.GpadlHeader.of(payload)
        where = self.name(header.child_relid)
        pages = (header.range_buflen - 8) // 8
        self._tally.equal(
            "gpadl.bytes", where, (header.byte_offset, header.byte_count), (0, pages * model.HV_PAGE)
        )
        if len(self._partial) < _MAX_PARTIAL:
            self._partial[header.gpadl] = list(model.gpadl_messages(max(1, pages)))
        self._piece(header.gpadl, where, payload[m.HEADER_BYTES + m.GpadlHeader.size_bytes() :])

    def _body(self, payload: bytes) -> None:
        body = m.GpadlBody.of(payload)
        self._piece(body.gpadl, "hv_vmbus", payload[m.HEADER_BYTES + m.GpadlBody.size_bytes() :])

    def _piece(self, handle: int, where: str, numbers: bytes) -> None:
        stray = next(
            (
                pfn
                for (pfn,) in struct.iter_unpack("<Q", numbers[: len(numbers) // 8 * 8])
                if not self._memory.has_page(pfn)
            ),
            None,
        )
        seen = "" if stray is None else f"page number {stray:#x}"
        self._tally.holds("gpadl.ram", where, stray is None, seen, "RAM")
        expected = self._partial.get(handle)
        if expected is None:
            return
        self._tally.equal("gpadl.split", where, len(numbers) // 8, expected.pop(0))
        if not expected:
            del self._partial[handle]

    def created(self, gpadl: Gpadl) -> None:
        """A list is complete; one that comes after the rings is a buffer."""
        self.gpadls[gpadl.handle] = gpadl
        if gpadl.relid in self._rings:
            self._buffer(gpadl)

    def closed(self, relid: int) -> None:
        """A channel is closed: the next list of its is that of rings again."""
        self._rings.discard(relid)

    def torn_down(self, gpadl: Gpadl) -> None:
        """The guest has its pages back."""
        self.gpadls.pop(gpadl.handle, None)

    def _buffer(self, gpadl: Gpadl) -> None:
        each = self._page // model.HV_PAGE
        firsts = gpadl.pfns[::each]
        wanted = model.buffer_pages([pfn // each for pfn in firsts], self._page)
        where = self.name(gpadl.relid)
        if wanted == gpadl.pfns:
            self._tally.holds("buffer.runs", where, True, "", "")
            return
        at = next(
            (i for i, pair in enumerate(zip(gpadl.pfns, wanted, strict=False)) if pair[0] != pair[1]),
            len(gpadl.pfns),
        )
        seen = f"page {at} is number {gpadl.pfns[at]:#x}" if at < len(gpadl.pfns) else f"it has {at} pages"
        self._tally.holds(
            "buffer.runs", where, False, seen,
            f"number {wanted[at]:#x}" if at < len(wanted) else f"a multiple of {each}",
        )  # fmt: skip

    # Rings

    def _open(self, request: m.OpenChannel) -> None:
        driver = self.drivers.get(request.child_relid)
        gpadl = self.gpadls.get(request.gpadl)
        if driver is None or gpadl is None:
            return
        self.opened.add(driver)
        self._rings.add(request.child_relid)
        where = self.name(request.child_relid)
        accepted = request.child_relid in self._accepted and not self._is_old
        pair = self._expected("" if accepted else driver, gpadl)
        if accepted:
            least, most = (2 * model.ring_bytes(size, self._page) for size in model.SOCK_PAYLOADS)
            self._tally.holds(
                "sock.ring", where, least <= gpadl.byte_count <= most,
                f"rings of {gpadl.byte_count:#x} bytes together", f"{least:#x} to {most:#x}",
            )  # fmt: skip
        elif driver in _RING_RULE:
            self._tally.equal(_RING_RULE[driver], where, gpadl.byte_count, pair.gpadl_bytes)
        downstream = request.downstream_page
        self._tally.equal("ring.downstream", where, downstream, pair.downstream)
        steps = {
            index: following - pfn
            for index, (pfn, following) in enumerate(itertools.pairwise(gpadl.pfns))
            if following - pfn != 1
        }
        self._tally.equal("ring.steps", where, dict(list(steps.items())[:8]), pair.steps)
        each = self._page // model.HV_PAGE
        for index in (0, pair.downstream):
            if index < len(gpadl.pfns):
                self._tally.equal("ring.alignment", where, gpadl.pfns[index] % each, 0)
        for index in (0, downstream):
            self._ring_header(gpadl, index, where)

    def _expected(self, driver: str, gpadl: Gpadl) -> model.RingPair:
        """By the driver's payload, or, for a driver that is not known, two rings that are alike."""
        if driver == "hv_sock" and self._is_old:
            size = model.SOCK_RING_BEFORE_5_0
        elif driver in self._payloads:
            size = model.ring_bytes(self._payloads[driver], self._page)
        else:
            size = (len(gpadl.pfns) // 2 - 1) * model.HV_PAGE + self._page
        return model.rings(size, size, self._page)

    @property
    def _is_old(self) -> bool:
        """True below 5.0, where hosts say how large hv_sock's rings are."""
        return self.version is not None and self.version < VmbusVersion.V5_0

    def _ring_header(self, gpadl: Gpadl, index: int, where: str) -> None:
        """Where the host looks for a header: what is there is read through the list, as the host does."""
        if index >= len(gpadl.pfns):
            self._tally.holds("ring.header", where, False, f"page {index} of {len(gpadl.pfns)}", "a header")
            return
        start = gpadl.view.read(index * model.HV_PAGE, _FEATURE_BITS_AT + 4)
        features = int.from_bytes(start[_FEATURE_BITS_AT:], "little")
        self._tally.holds(
            "ring.header", where, features & 1 == 1 and not any(start[_INDICES]),
            f"page {index} begins with {start[_INDICES].hex()} and feature bits {features:#x}",
            "indices of 0 and feature bit 0",
        )  # fmt: skip
