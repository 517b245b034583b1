"""Tests of harness.hyperv.pagemodel: hand-checked figures, and properties that hold at every page size."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.hyperv import pagemodel as p

H = 4096
PAGE = st.sampled_from([4096, 16384, 65536])
KIB = 1024


@pytest.mark.parametrize(
    ("driver", "page", "gpadl", "pages", "downstream", "data", "steps"),
    [
        ("hv_utils", 4 * KIB, 0x8000, 8, 4, 0x3000, {}),
        ("hv_utils", 16 * KIB, 0xA000, 10, 5, 0x4000, {0: 4, 5: 4}),
        ("hv_utils", 64 * KIB, 0x22000, 34, 17, 0x10000, {0: 16, 17: 16}),
        ("storvsc", 4 * KIB, 0x40000, 64, 32, 0x1F000, {}),
        ("storvsc", 16 * KIB, 0x3A000, 58, 29, 0x1C000, {0: 4, 29: 4}),
        ("storvsc", 64 * KIB, 0x42000, 66, 33, 0x20000, {0: 16, 33: 16}),
        ("netvsc", 4 * KIB, 0x100000, 256, 128, 0x7F000, {}),
        ("netvsc", 16 * KIB, 0xFA000, 250, 125, 0x7C000, {0: 4, 125: 4}),
        ("netvsc", 64 * KIB, 0xE2000, 226, 113, 0x70000, {0: 16, 113: 16}),
    ],
)
def test_rings_seen_by_hand(
    driver: str, page: int, gpadl: int, pages: int, downstream: int, data: int, steps: dict[int, int]
) -> None:
    """The rings of three drivers: those at 4K and 16K, and storvsc's at 64K, were seen on a wire."""
    size = p.ring_bytes(p.RING_PAYLOADS[driver][0], page)
    pair = p.rings(size, size, page)
    assert (pair.gpadl_bytes, pair.pages, pair.downstream) == (gpadl, pages, downstream)
    assert pair.data_bytes == (data, data)
    assert pair.steps == steps


@given(payload=st.integers(1, 1 << 21), page=PAGE)
def test_a_ring_holds_what_was_wanted(payload: int, page: int) -> None:
    """A ring is whole pages, has at least 7/8 of what was wanted as data, and less than a page too much."""
    size = p.ring_bytes(payload, page)
    data = size - page
    assert size % page == 0
    assert data >= payload * 7 / 8
    assert data < payload + page
    assert p.ring_is_allocatable(size, page)


@given(send=st.integers(2, 40), receive=st.integers(2, 40), page=PAGE)
def test_the_gap_is_all_that_is_left_out(send: int, receive: int, page: int) -> None:
    """The host is shown each byte of both allocations once, but for what pads the two headers."""
    pair = p.rings(send * page, receive * page, page)
    shown = {offset + at for offset in pair.offsets for at in (0, H - 1)}
    assert len(shown) == 2 * pair.pages
    hidden = {0: send, send: receive}
    for guest_page in range(send + receive):
        in_page = [offset for offset in pair.offsets if offset // page == guest_page]
        expected = 1 if guest_page in hidden else page // H
        assert in_page == [guest_page * page + index * H for index in range(expected)]
    assert pair.offsets[pair.downstream] == send * page
    assert sum(pair.data_bytes) == (send + receive - 2) * page


@given(send=st.integers(2, 40), receive=st.integers(2, 40), page=PAGE, base=st.integers(1, 1 << 30))
def test_ring_steps(send: int, receive: int, page: int, base: int) -> None:
    """Page numbers step by one but after each header, by the header's guest page; at 4K everywhere."""
    pair = p.rings(send * page, receive * page, page)
    numbers = pair.pfns(base)
    assert numbers[0] == base
    steps = {i: b - a for i, (a, b) in enumerate(itertools.pairwise(numbers)) if b - a != 1}
    assert steps == pair.steps
    assert set(steps) == (set() if page == H else {0, pair.downstream})
    assert set(steps.values()) <= {page // H}


@given(offset=st.integers(0, 1 << 20), length=st.integers(0, 1 << 20))
def test_pages_spanned(offset: int, length: int) -> None:
    """As many pages as differ among the addresses of all bytes, and as the macro of the drivers counts."""
    ends = {offset, offset + length - 1} if length else set()
    spanned = p.pages_spanned(offset, length)
    assert spanned == (max(ends) // H - min(ends) // H + 1 if ends else 0)
    if offset < H and length:
        assert spanned == (offset + length + H - 1) >> 12


@given(address=st.integers(0, 1 << 48), length=st.integers(1, 1 << 18))
def test_pages_between(address: int, length: int) -> None:
    """First and last byte are in the first and the last page, and the pages follow each other."""
    pages = p.pages_between(address, length)
    assert pages[0] * H <= address < (pages[0] + 1) * H
    assert pages[-1] * H <= address + length - 1 < (pages[-1] + 1) * H
    assert list(pages) == list(range(pages[0], pages[-1] + 1))
    assert p.offset_in_page(address) < H


@given(pfns=st.lists(st.integers(0, 1 << 36), max_size=40), page=PAGE)
def test_vmalloc_buffers(pfns: list[int], page: int) -> None:
    """Each guest page is whole, in order, and begins on a boundary of its size."""
    numbers = p.buffer_pages(pfns, page)
    each = page // H
    assert len(numbers) == len(pfns) * each
    for index, pfn in enumerate(pfns):
        run = numbers[index * each : (index + 1) * each]
        assert run[0] * H == pfn * page == p.first_page_of(pfn, page) * H
        assert [number - run[0] for number in run] == list(range(each))
    assert p.hv_pages(len(pfns), page) == len(numbers)


@given(pages=st.integers(1, 9000))
def test_messages_carry_every_page(pages: int) -> None:
    """All page numbers are carried, every message but the last is full, and none is over 240 bytes."""
    counts = p.gpadl_messages(pages)
    assert sum(counts) == pages
    assert min(counts) > 0
    assert 28 + 8 * counts[0] <= 240
    assert all(16 + 8 * count <= 240 for count in counts[1:])
    assert all(count == 28 for count in counts[1:-1])


def test_messages_seen_by_hand() -> None:
    """netvsc's 16 MiB receive buffer takes one header of 26 and 146 bodies; range_buflen ends at 8190."""
    counts = p.gpadl_messages(4096)
    assert (counts[0], len(counts) - 1, counts[1], counts[-1]) == (26, 146, 28, 10)
    assert p.largest_gpadl_pages() == 8190


@pytest.mark.parametrize(("page", "send"), [(4096, 0xFF000), (16384, 0x100000), (65536, 0x100000)])
def test_netvsc_buffers(page: int, send: int) -> None:
    """netvsc's default buffers: 170 sections of 6144 to send, 9709 of 1728 to receive."""
    assert p.buffer_bytes((1 << 20) // 6144, 6144, page) == send
    assert p.buffer_bytes((16 << 20) // 1728, 1728, page) == 16 << 20


@given(sections=st.integers(1, 10000), size=st.integers(1, 8192), page=PAGE)
def test_buffers_are_whole_pages(sections: int, size: int, page: int) -> None:
    """A buffer has room for all sections and less than a page more."""
    made = p.buffer_bytes(sections, size, page)
    assert made % page == 0
    assert 0 <= made - sections * size < page


def test_storvsc_limits() -> None:
    """512 KiB: 1024 sectors in 129 segments; an odd limit is rounded down to 4 KiB."""
    assert p.storvsc_limits(512 << 10) == (1024, 129)
    assert p.storvsc_limits((512 << 10) + 4095) == (1024, 129)


def test_storvsc_requests() -> None:
    """About as many requests of 128 KiB fit at every page size."""
    counts = []
    for page in (4096, 16384, 65536):
        size = p.ring_bytes(128 << 10, page)
        counts.append(p.storvsc_requests_per_channel(p.rings(size, size, page).data_bytes[0]))
    assert counts == [352, 318, 364]


def test_hv_sock_on_old_hosts() -> None:
    """Rings of 24 KiB, which hosts below VMBus 5.0 insist on, can be had at 4K only."""
    assert [p.ring_is_allocatable(24 << 10, page) for page in (4096, 16384, 65536)] == [True, False, False]


@given(pfn=st.integers(0, 1 << 30), order=st.integers(0, 13), page=PAGE)
def test_free_page_hints(pfn: int, order: int, page: int) -> None:
    """A hint names the range it is given, no more and no less, in units of 4 KiB or 2 MiB."""
    pfn, length = pfn << order, page << order
    large, first, more = p.hints_of(pfn, length, page)
    unit = 2 << 20 if large else H
    assert first * unit == pfn * page
    assert (more + 1) * unit == length
    assert large == (order >= 9)


def test_hints_that_do_not_fit() -> None:
    """At 64K, page_reporting_order=8 asks for more units of 4 KiB than the hint's 11 bits can hold."""
    over = [
        (page, order)
        for page in (4096, 16384, 65536)
        for order in range(9)
        if p.hints_of(0, page << order, page)[2] >= 1 << 11
    ]
    assert over == [(65536, 8)]


def test_others() -> None:
    """Ballooning at 4K only; a BAR takes whole pages; with XDP at 4K, an MTU of 3506 is the largest."""
    assert [p.ballooning_offered(page) for page in (4096, 16384, 65536)] == [True, False, False]
    assert [p.bar_bytes(4096, page) for page in (4096, 16384, 65536)] == [4096, 16384, 65536]
    assert p.xdp_mtu_limit(4096) == 3506
    assert p.xdp_mtu_limit(16384) == 16384 - 256 - 320 - 14
