"""Tests of harness.hyperv.checker.network: each rule broken by a netvsc that makes the mistake."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

Watch = Callable[..., Any]

HV = 4096
PAGES = pytest.mark.parametrize("page", [4096, 16384, 65536])
LARGE = pytest.mark.parametrize("page", [16384, 65536])
SECTION = 6144


class Net:
    """netvsc on a watched guest: buffers shared, then packets in them or beside them."""

    def __init__(self, watched: Any, *, send_bytes: int = 1 << 20, receive_bytes: int = 1 << 20) -> None:
        self.watched = watched
        self.send_pa = self._share(send_bytes, 104)
        self.receive_pa = self._share(receive_bytes, 101)
        self.pa = watched.guest.alloc(1 << 20)

    def _share(self, size: int, kind: int) -> int:
        pa = int(self.watched.guest.alloc(size))
        handle = self.watched.share([pa // HV + index for index in range(size // HV)])
        self.watched.send(struct.pack("<IIH30x", kind, handle, 0))
        return pa

    def complete(self, body: bytes) -> None:
        self.watched.device.channel.complete(1, body)
        self.watched.guest.receive(self.watched.opened)

    def agree(self) -> None:
        """The host's answers: sections of 6144 to send and of 1728 to receive."""
        self.complete(struct.pack("<III", 105, 1, SECTION))
        self.complete(struct.pack("<IIIIIII", 102, 1, 1, 0, 1728, 600, 0))

    def rndis(self, pa: int, length: int, kind: int = 1) -> None:
        struct.pack_into("<II", self.watched.guest.ram, pa - 0x4000_0000, kind, length)

    def sent(
        self, section: int, size: int, ranges: list[tuple[int, int, list[int]]] | None = None, **more: Any
    ) -> None:
        self.watched.send(struct.pack("<IIII24x", 107, 0, section, size), ranges, **more)

    def direct(self, pieces: list[tuple[int, int]], **more: Any) -> None:
        """Pieces of memory, each address and length, as init_page_array() gives them."""
        self.sent(
            0xFFFF_FFFF, 0,
            [
                (length, pa % HV, list(range(pa // HV, (pa + length + HV - 1) // HV)))
                for pa, length in pieces
            ], **more,
        )  # fmt: skip

    @property
    def broken(self) -> set[str]:
        return {name.removeprefix("netvsc.") for name in self.watched.broken}


@pytest.fixture
def net(watch: Watch) -> Callable[..., Net]:
    def make(page: int, **options: int) -> Net:
        watched = watch("netvsc", page)
        watched.open()
        return Net(watched, **options)

    return make


@PAGES
def test_a_good_driver(net: Callable[..., Net], page: int) -> None:
    """Packets in the send buffer, several in one section, beside it, and half in it, break nothing."""
    made = net(page)
    made.agree()
    made.rndis(made.send_pa, 200)
    made.sent(0, 200)
    at = made.send_pa + 5 * SECTION
    made.rndis(at, 64)
    made.rndis(at + 64, 100)
    made.sent(5, 164)
    made.rndis(made.pa + 4090, 9090)
    made.direct([(made.pa + 4090, 90), (made.pa + 20000, 9000)])
    made.rndis(made.send_pa, 9090)
    made.sent(0, 90, [(9000, 100, list(range(made.pa // HV, made.pa // HV + 3)))])
    made.rndis(made.pa, 40, kind=4)
    made.direct([(made.pa, 40)])
    assert made.watched.broken == set()
    for name in (
        "buffer", "ranges", "offset", "consecutive", "ram", "descriptor", "section", "rndis"
    ):  # fmt: skip
        assert made.watched.compared(f"netvsc.{name}") >= 2, name


@LARGE
def test_buffers_that_are_not_rounded(net: Callable[..., Net], page: int) -> None:
    """A send buffer of 255 times 4 KiB: whole pages of Hyper-V's but not of the guest's."""
    assert net(page, send_bytes=255 * HV).watched.broken == {"buffer.runs", "netvsc.buffer"}


@PAGES
def test_sections_that_do_not_fit(net: Callable[..., Net], page: int) -> None:
    """A receive buffer that is smaller than the sections that the host made of it."""
    made = net(page)
    made.complete(struct.pack("<IIIIIII", 102, 1, 1, 0, 1728, 607, 0))
    assert made.broken == {"buffer"}


@LARGE
def test_offset_in_the_guests_page(net: Callable[..., Net], page: int) -> None:
    """offset_in_page() for offset_in_hvpage()."""
    made = net(page)
    made.rndis(made.pa + 5000, 60)
    made.sent(0xFFFF_FFFF, 0, [(60, 5000, list(range(made.pa // HV, made.pa // HV + 2)))])
    assert made.broken == {"offset"}


@LARGE
def test_numbers_of_the_guests_pages(net: Callable[..., Net], page: int) -> None:
    """page_to_pfn() for page_to_hvpfn()."""
    made = net(page)
    made.rndis(made.pa, 5060)
    made.sent(
        0xFFFF_FFFF, 0,
        [(60, 0, [made.pa // HV]), (5000, 0, [made.pa // page, made.pa // page + 1])],
    )  # fmt: skip
    assert made.broken == {"ram"}


@LARGE
def test_a_step_of_a_guest_page(net: Callable[..., Net], page: int) -> None:
    """netvsc_build_mpb_array() that steps by guest pages."""
    made = net(page)
    made.rndis(made.pa, 9000)
    first = made.pa // HV
    made.sent(0xFFFF_FFFF, 0, [(9000, 0, [first + index * (page // HV) for index in range(3)])])
    assert made.broken == {"consecutive"}


@LARGE
def test_the_header_at_another_page(net: Callable[..., Net], page: int) -> None:
    """virt_to_hvpfn() of the page's beginning: what is there is no RNDIS message."""
    made = net(page)
    made.rndis(made.pa + 2 * HV + 64, 60)
    made.direct([(made.pa + 2 * HV + 64, 60)])
    assert made.broken == set()
    made.sent(0xFFFF_FFFF, 0, [(60, 64, [made.pa // HV])])
    assert made.broken == {"rndis"}


@PAGES
def test_lengths_that_do_not_add_up(net: Callable[..., Net], page: int) -> None:
    """A message longer or shorter than what is sent, or of a type that no guest sends."""
    for length, kind in ((61, 1), (40, 1), (4, 1), (60, 0x80000002)):
        made = net(page)
        made.rndis(made.pa, length, kind)
        made.direct([(made.pa, 60)])
        assert made.broken == {"rndis"}


@PAGES
def test_ranges(net: Callable[..., Net], page: int) -> None:
    """No range, an empty one, and more than 32."""
    made = net(page)
    made.sent(0xFFFF_FFFF, 0)
    assert "ranges" in made.broken
    made = net(page)
    made.rndis(made.pa, 60)
    made.direct([(made.pa, 60), (made.pa + HV, 0)])
    assert made.broken == {"ranges"}
    made = net(page)
    made.rndis(made.pa, 33 * 60)
    made.direct([(made.pa + index * 60, 60) for index in range(33)])
    assert made.broken >= {"ranges"}


@PAGES
def test_descriptors(net: Callable[..., Net], page: int) -> None:
    """Ranges with room behind them, and ranges that overrun the array on the driver's stack."""
    made = net(page)
    made.rndis(made.pa, 60)
    made.direct([(made.pa, 60)], pad=bytes(8))
    assert made.broken == {"descriptor"}
    made = net(page)
    made.rndis(made.pa, 70 * HV)
    made.direct([(made.pa, 70 * HV)])
    assert made.broken == {"descriptor"}


@PAGES
def test_beyond_the_send_buffer(net: Callable[..., Net], page: int) -> None:
    """A section whose bytes end beyond the buffer."""
    made = net(page)
    made.agree()
    made.sent((1 << 20) // SECTION, SECTION)
    assert made.broken == {"section"}
