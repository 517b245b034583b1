"""A reference for every conversion between a guest's page size and Hyper-V's 4 KiB that can be asked for.

Pure functions of a page size and of what a driver wants. They follow from the interface's rules, which are
few, and not from the driver's arithmetic, which is what is on trial:

* everything on the wire counts in pages of 4 KiB, whatever the guest's;
* a guest allocates, aligns and rounds in pages of its own;
* a ring's header fills one page of the guest's, and the host is shown its first 4 KiB only;
* physically contiguous memory has consecutive page numbers.

"Source" names the place in Linux 6.12.117 that a function judges. `page_bytes` is 4096, 16384 or 65536.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "HV_PAGE",
    "RING_PAYLOADS",
    "SOCK_PAYLOADS",
    "SOCK_RING_BEFORE_5_0",
    "RingPair",
    "ballooning_offered",
    "bar_bytes",
    "buffer_bytes",
    "buffer_pages",
    "first_page_of",
    "gpadl_messages",
    "hints_of",
    "hv_pages",
    "largest_gpadl_pages",
    "offset_in_page",
    "pages_between",
    "pages_spanned",
    "ring_bytes",
    "ring_is_allocatable",
    "rings",
    "storvsc_limits",
    "storvsc_requests_per_channel",
    "xdp_mtu_limit",
]

HV_PAGE: Final = 4096
"""HV_HYP_PAGE_SIZE."""
_MESSAGE_BYTES: Final = 240
_RING_PADDING: Final = 8
"""A payload of so many headers gives up the room for one (VMBUS_HEADER_ADJ)."""

RING_PAYLOADS: Final[dict[str, tuple[int, str]]] = {
    "hv_utils": (3 * HV_PAGE, "drivers/hv/hv_util.c:579"),
    "hv_balloon": (16 << 10, "drivers/hv/hv_balloon.c:478"),
    "storvsc": (128 << 10, "drivers/scsi/storvsc_drv.c:2219"),
    "netvsc": (128 * HV_PAGE, "drivers/net/hyperv/netvsc_drv.c:2882"),
    "hv_sock": (6 * HV_PAGE, "net/vmw_vsock/hyperv_transport.c:23-24"),
    "hid-hyperv": (36 << 10, "drivers/hid/hid-hyperv.c:99"),
    "hyperv-keyboard": (36 << 10, "drivers/input/serio/hyperv-keyboard.c:78"),
    "pci-hyperv": (16 << 10, "drivers/pci/controller/pci-hyperv.c:469"),
}
"""What each driver wants of each of its two rings, in bytes, with its default module parameters."""

SOCK_PAYLOADS: Final = (6 * HV_PAGE, 64 * HV_PAGE)
"""Least and most that a socket's buffers make of its rings. Source: hyperv_transport.c:23-25, 376-383."""
SOCK_RING_BEFORE_5_0: Final = 6 * HV_PAGE
"""Hosts before VMBus 5.0 insist on rings of hv_sock's that are just so large, header included.

Source: net/vmw_vsock/hyperv_transport.c:18-24 and 373-375.
"""


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


# Addresses and ranges


def offset_in_page(address: int) -> int:
    """Where an address lies in its page of 4 KiB. Source: include/linux/hyperv.h:1796, offset_in_hvpage."""
    return address % HV_PAGE


def pages_spanned(offset: int, length: int) -> int:
    """Pages of 4 KiB that `length` bytes touch, from `offset` into the first one on.

    Source: include/linux/hyperv.h:1797, HVPFN_UP(offset + length); storvsc_drv.c:1811; netvsc.c:1093;
    netvsc_drv.c:375 and 388; rndis_filter.c:237.
    """
    if length == 0:
        return 0
    return (offset + length - 1) // HV_PAGE - offset // HV_PAGE + 1


def pages_between(address: int, length: int) -> tuple[int, ...]:
    """Numbers of the 4 KiB pages that contiguous memory lies in. Source: storvsc_drv.c:1844-1856."""
    first = address // HV_PAGE
    return tuple(range(first, first + pages_spanned(offset_in_page(address), length)))


def first_page_of(guest_pfn: int, page_bytes: int) -> int:
    """The first 4 KiB page of a page of the guest's. Source: include/linux/hyperv.h:1799, page_to_hvpfn."""
    return guest_pfn * page_bytes // HV_PAGE


def hv_pages(guest_pages: int, page_bytes: int) -> int:
    """Pages of the guest's, counted in 4 KiB. Source: drivers/hv/hv_balloon.c:1155, num_avail."""
    return guest_pages * page_bytes // HV_PAGE


def buffer_pages(guest_pfns: Sequence[int], page_bytes: int) -> tuple[int, ...]:
    """The page numbers of a buffer that vmalloc() put together from pages of the guest's.

    Source: include/linux/hyperv.h:1782, virt_to_hvpfn; drivers/hv/channel.c:94, hv_gpadl_hvpfn (BUFFER).
    """
    each = page_bytes // HV_PAGE
    return tuple(pfn * each + index for pfn in guest_pfns for index in range(each))


# Rings


def ring_bytes(payload_bytes: int, page_bytes: int) -> int:
    """A ring with its header, in bytes, for a driver that wants `payload_bytes`.

    Whole pages; the header's page comes on top unless the payload is eight of them or more.
    Source: include/linux/hyperv.h:183-189, VMBUS_HEADER_ADJ and VMBUS_RING_SIZE.
    """
    header = page_bytes if payload_bytes < _RING_PADDING * page_bytes else 0
    return _up(payload_bytes + header, page_bytes)


def ring_is_allocatable(size_bytes: int, page_bytes: int) -> bool:
    """Whether vmbus_alloc_ring() takes it; hv_sock's 24 KiB of VMBus below 5.0 it takes at 4K only.

    Source: drivers/hv/channel.c:173; net/vmw_vsock/hyperv_transport.c:23 and 373.
    """
    return size_bytes % page_bytes == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RingPair:
    """Two rings as the host is shown them."""

    offsets: tuple[int, ...]
    """For each page of 4 KiB in the GPADL, where it lies in the guest's allocation, in bytes."""
    downstream: int
    """Index of the second ring's header: OPENCHANNEL's downstream_ringbuffer_pageoffset."""

    @property
    def pages(self) -> int:
        """Pages of 4 KiB in the GPADL."""
        return len(self.offsets)

    @property
    def gpadl_bytes(self) -> int:
        """What the GPADL says it has."""
        return len(self.offsets) * HV_PAGE

    @property
    def data_bytes(self) -> tuple[int, int]:
        """Data of the first and the second ring, without their headers."""
        return (self.downstream - 1) * HV_PAGE, (self.pages - self.downstream - 1) * HV_PAGE

    @property
    def steps(self) -> dict[int, int]:
        """Index i to the distance of page i+1 from page i, in pages, where that is not one."""
        pages = [offset // HV_PAGE for offset in self.offsets]
        return {
            index: following - page
            for index, (page, following) in enumerate(itertools.pairwise(pages))
            if following - page != 1
        }

    def pfns(self, first_pfn: int) -> tuple[int, ...]:
        """The page numbers of an allocation that begins at that 4 KiB page."""
        return tuple(first_pfn + offset // HV_PAGE for offset in self.offsets)


def rings(send_bytes: int, receive_bytes: int, page_bytes: int) -> RingPair:
    """Two rings in one allocation, each with a header of a guest page of which 4 KiB are shown.

    Source: drivers/hv/channel.c:39 hv_gpadl_size, :68 hv_ring_gpadl_send_hvpgoffset, :94 hv_gpadl_hvpfn
    (RING), :712; include/linux/hyperv.h:158, hv_ring_buffer.reserved2.
    """
    offsets: list[int] = []
    starts: list[int] = []
    for base, size in ((0, send_bytes), (send_bytes, receive_bytes)):
        starts.append(len(offsets))
        offsets.append(base)
        offsets += range(base + page_bytes, base + size, HV_PAGE)
    return RingPair(offsets=tuple(offsets), downstream=starts[1])


# GPADLs


def gpadl_messages(pages: int) -> tuple[int, ...]:
    """Page numbers in each message that announces `pages` of them.

    Messages have 240 bytes: GPADL_HEADER has 8 of message header, 12 of its own and 8 of gpa_range before the
    numbers, GPADL_BODY has 16. Source: drivers/hv/channel.c:335-391, create_gpadl_header.
    """
    header, body = (_MESSAGE_BYTES - 28) // 8, (_MESSAGE_BYTES - 16) // 8
    counts = [min(pages, header)]
    while (left := pages - sum(counts)) > 0:
        counts.append(min(left, body))
    return tuple(counts)


def largest_gpadl_pages() -> int:
    """The most page numbers that range_buflen can count, which is 16 bits wide and in bytes.

    Source: include/linux/hyperv.h, vmbus_channel_gpadl_header.range_buflen; channel.c:348.
    """
    return (0xFFFF - 8) // 8


def buffer_bytes(sections: int, section_bytes: int, page_bytes: int) -> int:
    """netvsc's receive or send buffer. Source: drivers/net/hyperv/netvsc.c:348 and 459."""
    return _up(sections * section_bytes, page_bytes)


# storvsc


def storvsc_limits(max_transfer_bytes: int) -> tuple[int, int]:
    """max_sectors (of 512 bytes) and sg_tablesize for a host's limit, the same at every page size.

    Every segment but the first and the last is whole pages of 4 KiB. Source: storvsc_drv.c:2030-2049.
    """
    whole = max_transfer_bytes // HV_PAGE
    return whole * HV_PAGE // 512, whole + 1


def storvsc_requests_per_channel(ring_data_bytes: int) -> int:
    """Requests of 32 page numbers that fit into a ring's data. Source: storvsc_drv.c:2220-2224.

    Each takes MAX_MULTIPAGE_BUFFER_PACKET (0x18 bytes, 8 of range, 32 numbers), a vstor_packet and 8 bytes.
    """
    return ring_data_bytes // _up(0x18 + 8 + 32 * 8 + 64 + 8, 8)


# Others


def ballooning_offered(page_bytes: int) -> bool:
    """Whether hv_balloon offers ballooning. Source: drivers/hv/hv_balloon.c:1687, ballooning_enabled()."""
    return page_bytes == HV_PAGE


def hints_of(guest_pfn: int, length_bytes: int, page_bytes: int) -> tuple[bool, int, int]:
    """A free-page hint: large or not, first page in its unit, and units beyond the first.

    Source: drivers/hv/hv_balloon.c:1598-1618. `large` goes by get_order(), which counts pages of the guest's,
    while additional_pages has 11 bits: 16 MiB at 64K are 4096 units of 4 KiB and do not fit.
    """
    large = _order(length_bytes, page_bytes) >= 9
    unit = HV_PAGE << 9 if large else HV_PAGE
    return large, guest_pfn * page_bytes // unit, length_bytes // unit - 1


def _order(length_bytes: int, page_bytes: int) -> int:
    return (-(-length_bytes // page_bytes) - 1).bit_length()


def bar_bytes(size_bytes: int, page_bytes: int) -> int:
    """MMIO space that a BAR takes. Source: drivers/pci/controller/pci-hyperv.c:2122, get_bar_size()."""
    return _up(size_bytes, page_bytes)


def xdp_mtu_limit(page_bytes: int, *, headroom: int = 256, shared_info: int = 320) -> int:
    """The largest MTU with XDP: headroom, frame and shared info in one page of the guest's.

    Source: drivers/net/hyperv/netvsc_bpf.c:136; `shared_info` is struct skb_shared_info, aligned to 64 bytes
    as the frame is.
    """
    return (page_bytes - headroom - shared_info) // 64 * 64 - 14
