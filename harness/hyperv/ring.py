"""A channel's two rings in guest memory, as the host sees them.

Each is a header of one 4 KiB page and data pages that wrap around (struct hv_ring_buffer, Linux
include/linux/hyperv.h; the protocol: drivers/hv/ring_buffer.c). The guest pads the header to its own page
size and leaves the padding out of the GPADL, so that the host never sees it.

The index that is ours to move is kept on our side too: what the guest makes of the copy in its memory
cannot move us. Its own index, and every length, is checked whenever it is used.
"""

from __future__ import annotations

from typing import Final

from harness.hyperv.gpadl import PagedView
from harness.hyperv.memory import HV_PAGE_BYTES, HV_PAGE_SHIFT, GuestMemory, fence
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.packets import DESCRIPTOR_BYTES, TRAILER_BYTES, Packet, parse_packet

__all__ = ["MAX_PACKET_BYTES", "RingReader", "RingWriter"]

WRITE_INDEX: Final = 0
READ_INDEX: Final = 4
INTERRUPT_MASK: Final = 8
PENDING_SEND_SIZE: Final = 12
FEATURE_BITS: Final = 64
FEATURE_PENDING_SEND_SIZE: Final = 1

MAX_PACKET_BYTES: Final = 0xFFFF * 8
"""What len8 can say."""


class _Ring:
    """The header and the data of a ring; `pfns` are its 4K pages, header first.

    Raises Violated unless the guest has just made it.
    """

    def __init__(self, memory: GuestMemory, pfns: tuple[int, ...]) -> None:
        if len(pfns) < 2:
            raise Violated(Rule.RING, f"a ring of {len(pfns)} pages has no room for data")
        self._memory = memory
        self.header_pa = pfns[0] << HV_PAGE_SHIFT
        self.data_bytes = (len(pfns) - 1) * HV_PAGE_BYTES
        self._data = PagedView(memory, pfns[1:], size=self.data_bytes)
        if not memory.has_page(pfns[0]):
            raise Violated(Rule.MEMORY, f"the ring's header is page {pfns[0]:#x}, which is not RAM")
        self._check_fresh()

    def load(self, field: int) -> int:
        """A word of the header, such as FEATURE_BITS."""
        return self._memory.load32(self.header_pa + field)

    def _store(self, field: int, value: int) -> None:
        self._memory.store32(self.header_pa + field, value)

    def _index(self, field: int) -> int:
        """An index of the guest's; raises Violated when it is outside the data or not a multiple of 8."""
        index = self.load(field)
        if index >= self.data_bytes or index % 8:
            name = "write" if field == WRITE_INDEX else "read"
            raise Violated(Rule.RING, f"{name} index {index:#x} in {self.data_bytes:#x} bytes of data")
        return index

    def _get(self, at: int, size_bytes: int) -> bytes:
        first = min(size_bytes, self.data_bytes - at)
        data = self._data.read(at, first)
        return data if first == size_bytes else data + self._data.read(0, size_bytes - first)

    def _put(self, at: int, data: bytes) -> None:
        first = min(len(data), self.data_bytes - at)
        self._data.write(at, data[:first])
        if first < len(data):
            self._data.write(0, data[first:])

    @property
    def feature_bits(self) -> int:
        """As the guest initialised them."""
        return self.load(FEATURE_BITS)

    def _check_fresh(self) -> None:
        """Raise Violated unless it is as a guest must hand it over: empty, its features announced."""
        words = {"write index": WRITE_INDEX, "read index": READ_INDEX, "pending send size": PENDING_SEND_SIZE}
        for name, field in words.items():
            if self.load(field):
                raise Violated(
                    Rule.RING, f"the header at {self.header_pa:#x} begins with {name} {self.load(field):#x}"
                )
        if not self.feature_bits & FEATURE_PENDING_SEND_SIZE:
            raise Violated(
                Rule.RING, f"the header at {self.header_pa:#x} has feature bits {self.feature_bits:#x},"
                " without the one for pending_send_sz: is the header where the guest put it?",
            )  # fmt: skip

    def revoke(self) -> None:
        """The guest has its pages back."""
        self._data.revoke()


class RingReader(_Ring):
    """The guest's ring to the host: we move the read index.

    `read` copies packets out, `commit` gives their room back. All raise Violated when the guest breaks the
    ring; it cannot be used any further then.
    """

    def __init__(self, memory: GuestMemory, pfns: tuple[int, ...]) -> None:
        super().__init__(memory, pfns)
        self._at = 0
        self._committed = 0

    def available(self) -> int:
        """Bytes that the guest has written and we have not read."""
        return (self._index(WRITE_INDEX) - self._at) % self.data_bytes

    def read(self) -> Packet | None:
        """The next packet, copied, or None. Its length is read once: the guest may change it meanwhile."""
        available = self.available()
        if available == 0:
            return None
        if available < DESCRIPTOR_BYTES + TRAILER_BYTES:
            raise Violated(Rule.RING, f"{available} bytes in the ring are less than a packet")
        start = self._at
        descriptor = self._get(start, DESCRIPTOR_BYTES)
        size_bytes = int.from_bytes(descriptor[4:6], "little") * 8
        if not DESCRIPTOR_BYTES <= size_bytes <= available - TRAILER_BYTES:
            raise Violated(Rule.RING, f"a packet of {size_bytes} bytes where {available} are in the ring")
        rest = self._get(
            (start + DESCRIPTOR_BYTES) % self.data_bytes, size_bytes - DESCRIPTOR_BYTES + TRAILER_BYTES
        )
        raw = descriptor + rest[: size_bytes - DESCRIPTOR_BYTES]
        trailer = int.from_bytes(rest[-TRAILER_BYTES:], "little")
        self._at = (start + size_bytes + TRAILER_BYTES) % self.data_bytes
        return parse_packet(raw, start_bytes=start, trailer=trailer)

    def commit(self) -> bool:
        """Give back the room of all packets read; True when the guest waits for it and must be interrupted.

        As hv_pkt_iter_close() does on the other side: only when this read is what makes enough room.
        """
        freed = (self._at - self._committed) % self.data_bytes
        self._committed = self._at
        self._store(READ_INDEX, self._at)
        fence()
        wanted = self.load(PENDING_SEND_SIZE)
        if not wanted:
            return False
        room = self.data_bytes - self.available()
        return room > wanted and room - freed <= wanted

    def mask(self, masked: bool) -> bool:
        """Tell the guest not to signal, or to do so again; True when there is something to read by then."""
        self._store(INTERRUPT_MASK, int(masked))
        fence()
        return self.available() > 0


class RingWriter(_Ring):
    """The host's ring to the guest: we move the write index."""

    def __init__(self, memory: GuestMemory, pfns: tuple[int, ...]) -> None:
        super().__init__(memory, pfns)
        self._at = 0
        self._store(FEATURE_BITS, self.feature_bits | FEATURE_PENDING_SEND_SIZE)

    def room(self) -> int:
        """Bytes that can be written; the last is never used, since equal indices mean empty."""
        return (self._index(READ_INDEX) - self._at - 1) % self.data_bytes

    def fits(self, size_bytes: int) -> bool:
        """True when a packet of that size can ever be written."""
        return size_bytes <= MAX_PACKET_BYTES and size_bytes + TRAILER_BYTES < self.data_bytes

    def write(self, packet: bytes) -> bool | None:
        """Write a packet; True: the guest is to be interrupted, False: it is awake, None: there is no room.

        Without room the guest is asked, through pending_send_sz, to signal once there is.
        """
        needed = len(packet) + TRAILER_BYTES
        if self.room() < needed:
            self._store(PENDING_SEND_SIZE, needed)
            fence()
            if self.room() < needed:
                return None
        self._store(PENDING_SEND_SIZE, 0)
        start = self._at
        self._put(start, packet + (start << 32).to_bytes(TRAILER_BYTES, "little"))
        fence()
        self._at = (start + needed) % self.data_bytes
        self._store(WRITE_INDEX, self._at)
        fence()
        if self.load(INTERRUPT_MASK):
            return False
        # The guest reads until the ring is empty, so that only the first packet needs to wake it.
        return self._index(READ_INDEX) == start
