"""Guest pages by their numbers: GPADLs, which a guest announces once, and ranges that a packet carries."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.hyperv.memory import HV_PAGE_BYTES, HV_PAGE_SHIFT, GuestMemory
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.messages import HEADER_BYTES, GpadlBody, GpadlHeader
from harness.hyperv.wire.packets import GpaRange

__all__ = ["MAX_GPADLS", "MAX_TOTAL_PAGES", "Gpadl", "Gpadls", "PagedView", "view_of"]

MAX_GPADLS: Final = 1024
MAX_TOTAL_PAGES: Final = 1 << 18
"""Of all GPADLs, 1 GiB; netvsc's largest receive buffer is 31 MiB (drivers/net/hyperv/hyperv_net.h)."""
RANGE_BYTES: Final = 8
"""gpa_range's byte_count and byte_offset."""


class PagedView:
    """Guest memory that is contiguous to the guest's eyes, read and written by offset.

    Raises Violated (Rule.MEMORY) when a page is not RAM or an access leaves the view, and after `revoke`.
    """

    def __init__(self, memory: GuestMemory, pfns: Sequence[int], *, offset: int = 0, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > len(pfns) * HV_PAGE_BYTES:
            raise Violated(Rule.MEMORY, f"{size} bytes at {offset} need more than {len(pfns)} pages")
        self._memory = memory
        self._offset = offset
        self._revoked = False
        self.size_bytes = size
        self._starts: list[int] = []
        self._bases: list[int] = []
        for index, pfn in enumerate(pfns):
            if not memory.has_page(pfn):
                raise Violated(
                    Rule.MEMORY, f"page {index} of {len(pfns)} is number {pfn:#x}, which is not RAM"
                )
            at, pa = index << HV_PAGE_SHIFT, pfn << HV_PAGE_SHIFT
            if not self._starts or pa != self._bases[-1] + at - self._starts[-1]:
                self._starts.append(at)
                self._bases.append(pa)
        self._starts.append(len(pfns) << HV_PAGE_SHIFT)

    def pieces(self, offset: int, size_bytes: int) -> Iterable[tuple[int, int]]:
        """Physical address and length of each contiguous piece of a part of the view."""
        if self._revoked:
            raise Violated(Rule.STATE, "the pages were taken back by the guest")
        if offset < 0 or size_bytes < 0 or offset + size_bytes > self.size_bytes:
            raise Violated(Rule.MEMORY, f"{size_bytes} bytes at {offset} of a buffer of {self.size_bytes}")
        at, end = self._offset + offset, self._offset + offset + size_bytes
        index = bisect.bisect_right(self._starts, at) - 1
        while at < end:
            taken = min(end, self._starts[index + 1]) - at
            yield self._bases[index] + at - self._starts[index], taken
            at += taken
            index += 1

    def read(self, offset: int, size_bytes: int) -> bytes:
        """A copy of a part of it."""
        return b"".join(self._memory.read(pa, length) for pa, length in self.pieces(offset, size_bytes))

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store into a part of it."""
        done = 0
        for pa, length in self.pieces(offset, len(data)):
            self._memory.write(pa, data[done : done + length])
            done += length

    def revoke(self) -> None:
        """The guest has its pages back: nothing of ours may touch them again."""
        self._revoked = True


def view_of(memory: GuestMemory, where: GpaRange) -> PagedView:
    """The bytes of a range that came with a packet."""
    return PagedView(memory, where.pfns, offset=where.byte_offset, size=where.byte_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpadl:
    """A list of guest pages under a handle (Guest Physical Address Descriptor List)."""

    handle: int
    relid: int
    """The channel it was made for."""
    byte_count: int
    byte_offset: int
    pfns: tuple[int, ...]
    view: PagedView = field(repr=False, compare=False)


@dataclass(slots=True)
class _Partial:
    header: GpadlHeader
    wanted: int
    pfns: list[int]


class Gpadls:
    """All GPADLs of a guest, finished and unfinished, within bounds.

    `take_header` and `take_body` return the GPADL once its last page number has come. Whoever catches their
    Violated answers with a creation status other than 0: the handle is then free again.
    """

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory
        self._whole: dict[int, Gpadl] = {}
        self._partial: dict[int, _Partial] = {}
        self._pages = 0

    def take_header(self, payload: bytes) -> Gpadl | None:
        """GPADL_HEADER: what is announced, and the first page numbers."""
        header = GpadlHeader.of(payload)
        if header.gpadl in self._whole or header.gpadl in self._partial:
            raise Violated(Rule.GPADL, f"handle {header.gpadl:#x} is in use")
        if header.range_count != 1:
            raise Violated(Rule.GPADL, f"{header.range_count} ranges, where drivers make one")
        spanned = (header.byte_offset + header.byte_count + HV_PAGE_BYTES - 1) >> HV_PAGE_SHIFT
        if header.byte_count == 0 or header.byte_offset >= HV_PAGE_BYTES:
            raise Violated(Rule.GPADL, f"{header.byte_count} bytes at offset {header.byte_offset}")
        if header.range_buflen != RANGE_BYTES + 8 * spanned:
            raise Violated(
                Rule.GPADL,
                f"{header.byte_count:#x} bytes at offset {header.byte_offset} span {spanned} pages, and"
                f" range_buflen is {header.range_buflen}, not {RANGE_BYTES + 8 * spanned}",
            )
        if len(self._whole) + len(self._partial) >= MAX_GPADLS or self._pages + spanned > MAX_TOTAL_PAGES:
            raise Violated(Rule.GPADL, f"more than {MAX_GPADLS} lists or {MAX_TOTAL_PAGES} pages at a time")
        self._pages += spanned
        partial = _Partial(header, spanned, [])
        self._partial[header.gpadl] = partial
        return self._add(partial, payload[HEADER_BYTES + GpadlHeader.size_bytes() :])

    def take_body(self, payload: bytes) -> Gpadl | None:
        """GPADL_BODY: more page numbers."""
        body = GpadlBody.of(payload)
        partial = self._partial.get(body.gpadl)
        if partial is None:
            raise Violated(Rule.GPADL, f"more pages for handle {body.gpadl:#x}, which expects none")
        return self._add(partial, payload[HEADER_BYTES + GpadlBody.size_bytes() :])

    def _add(self, partial: _Partial, numbers: bytes) -> Gpadl | None:
        header = partial.header
        try:
            if len(numbers) < 8:
                raise Violated(Rule.GPADL, f"a message without page numbers for handle {header.gpadl:#x}")
            partial.pfns += struct.unpack_from(f"<{len(numbers) // 8}Q", numbers)
            if len(partial.pfns) < partial.wanted:
                return None
            pfns = tuple(partial.pfns[: partial.wanted])
            view = PagedView(self._memory, pfns, offset=header.byte_offset, size=header.byte_count)
        except Violated as error:
            self._forget(header.gpadl)
            raise Violated(Rule.GPADL, f"handle {header.gpadl:#x}: {error.what}") from None
        del self._partial[header.gpadl]
        whole = Gpadl(
            handle=header.gpadl, relid=header.child_relid, byte_count=header.byte_count,
            byte_offset=header.byte_offset, pfns=pfns, view=view,
        )  # fmt: skip
        self._whole[header.gpadl] = whole
        return whole

    def expecting(self, handle: int) -> int | None:
        """The channel of an unfinished GPADL, or None where there is none of that handle."""
        partial = self._partial.get(handle)
        return None if partial is None else partial.header.child_relid

    def _forget(self, handle: int) -> None:
        partial = self._partial.pop(handle, None)
        if partial is not None:
            self._pages -= partial.wanted

    def get(self, handle: int) -> Gpadl:
        """The finished GPADL of that handle; raises Violated."""
        found = self._whole.get(handle)
        if found is None:
            raise Violated(Rule.GPADL, f"there is no finished list with handle {handle:#x}")
        return found

    def tear_down(self, handle: int) -> Gpadl | None:
        """Forget it, finished or not, and let nobody use its pages; returns it if it was finished."""
        self._forget(handle)
        whole = self._whole.pop(handle, None)
        if whole is not None:
            self._pages -= len(whole.pfns)
            whole.view.revoke()
        return whole

    def tear_down_all(self) -> None:
        """The guest has let go of the bus."""
        for handle in (*self._partial, *self._whole):
            self.tear_down(handle)

    def of_channel(self, relid: int) -> tuple[Gpadl, ...]:
        """Those that were made for a channel."""
        return tuple(gpadl for gpadl in self._whole.values() if gpadl.relid == relid)
