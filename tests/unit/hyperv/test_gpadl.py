"""Tests of harness.hyperv.gpadl: page lists, whole and in pieces, and what is no list."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.gpadl import MAX_GPADLS, Gpadls, PagedView, view_of
from harness.hyperv.memory import GuestMemory
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.packets import GpaRange

Sim = Any
BASE = 0x4000_0000
PFN = BASE >> 12


@pytest.mark.parametrize("pages", [1, 26, 27, 54, 55, 4096])
def test_lists_of_all_lengths(sim: Sim, pages: int) -> None:
    """A list that fills one message, and those that need more, are taken as the guest sent them."""
    guest, opened = sim.opened(sim.Recorder(), size=32 << 20)
    handle, pa = guest.share_buffer(opened.relid, pages * 4096)
    gpadl = guest.bus.gpadls.get(handle)
    assert gpadl.pfns == tuple(range(pa >> 12, (pa >> 12) + pages))
    assert gpadl.byte_count == gpadl.view.size_bytes == pages * 4096
    assert guest.violations == []


def test_a_view_crosses_pages_that_are_apart(sim: Sim) -> None:
    """Reading and writing through a view hits each page where its number says, from an offset on."""
    guest = sim.guest()
    view = PagedView(guest.memory, [PFN + 7, PFN + 3, PFN + 4], offset=100, size=3 * 4096 - 100)
    data = bytes(number & 0xFF for number in range(3 * 4096 - 100))
    view.write(0, data)
    assert view.read(0, len(data)) == data
    assert guest.memory.read(BASE + 7 * 4096 + 100, 3996) == data[:3996]
    assert guest.memory.read(BASE + 3 * 4096, 8192) == data[3996:]
    assert list(view.pieces(3990, 10)) == [(BASE + 8 * 4096 - 6, 6), (BASE + 3 * 4096, 4)]


@settings(deadline=None)
@given(
    pfns=st.lists(st.integers(PFN, PFN + 15), min_size=1, max_size=6),
    offset=st.integers(0, 5000), size=st.integers(0, 20000),
    at=st.integers(-5, 21000), length=st.integers(-1, 21000),
)  # fmt: skip
def test_views_are_as_wide_as_they_say(pfns: list[int], offset: int, size: int, at: int, length: int) -> None:
    """An access within the view gives the bytes asked for, in pieces that are RAM; others are refused."""
    memory = GuestMemory(bytearray(16 * 4096), BASE)
    try:
        view = PagedView(memory, pfns, offset=offset, size=size)
    except Violated:
        assert offset + size > len(pfns) * 4096
        return
    inside = at >= 0 and length >= 0 and at + length <= size
    try:
        pieces = list(view.pieces(at, length))
    except Violated:
        assert not inside
        return
    assert inside
    assert sum(piece for _, piece in pieces) == length
    flat = [pa for pfn in pfns for pa in range(pfn << 12, (pfn << 12) + 4096)]
    wanted = flat[offset + at : offset + at + length]
    assert [pa for start, piece in pieces for pa in range(start, start + piece)] == wanted


def test_a_range_of_a_packet_is_a_view(sim: Sim) -> None:
    """`view_of` reads what a range describes; one whose pages are not RAM is refused at once."""
    guest = sim.guest()
    guest.memory.write(BASE + 0x5FF0, b"sixteen bytes !!and more")
    where = GpaRange(byte_count=24, byte_offset=0xFF0, pfns=(PFN + 5, PFN + 6))
    assert view_of(guest.memory, where).read(0, 24) == b"sixteen bytes !!and more"
    with pytest.raises(Violated, match="not RAM"):
        view_of(guest.memory, GpaRange(byte_count=8, byte_offset=0, pfns=(0,)))


def _header(handle: int, *, buflen: int, count: int, bytes_: int, offset: int, pfns: list[int]) -> bytes:
    return struct.pack("<IIIIHHII", 8, 0, 8, handle, buflen, count, bytes_, offset) + struct.pack(
        f"<{len(pfns)}Q", *pfns
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (_header(1, buflen=24, count=2, bytes_=4096, offset=0, pfns=[PFN]), "2 ranges"),
        (_header(1, buflen=8, count=1, bytes_=0, offset=0, pfns=[PFN]), "0 bytes"),
        (_header(1, buflen=16, count=1, bytes_=100, offset=4096, pfns=[PFN]), "offset 4096"),
        (_header(1, buflen=16, count=1, bytes_=4097, offset=0, pfns=[PFN]), "span 2 pages"),
        (_header(1, buflen=24, count=1, bytes_=4096, offset=0, pfns=[PFN, PFN]), "span 1 pages"),
        (_header(1, buflen=16, count=1, bytes_=4096, offset=0, pfns=[]), "without page numbers"),
        (_header(1, buflen=16, count=1, bytes_=4096, offset=0, pfns=[1]), "not RAM"),
        (_header(1, buflen=16, count=1, bytes_=0xFFFF_FFFF, offset=0, pfns=[PFN]), "span"),
    ],
)
def test_a_list_that_is_none_is_refused(sim: Sim, message: bytes, words: str) -> None:
    """What contradicts itself or names no RAM is answered with a status, said, and forgotten."""
    guest, _ = sim.opened(sim.Recorder())
    assert guest.post(message) == 0
    (answer,) = guest.take_messages()
    kind, _, relid, handle, status = struct.unpack("<IIIII", answer)
    assert (kind, relid, handle) == (10, 8, 1)
    assert status != 0
    assert len(guest.violations) == 1
    assert words in guest.violations[0]
    with pytest.raises(Violated):
        guest.bus.gpadls.get(1)
    assert guest.post(_header(1, buflen=16, count=1, bytes_=4096, offset=0, pfns=[PFN])) == 0
    assert struct.unpack_from("<I", guest.take_messages()[0], 16) == (0,)


def test_a_handle_is_used_once(sim: Sim) -> None:
    """A second list under a handle in use is refused, and the first one stays."""
    guest, opened = sim.opened(sim.Recorder())
    guest.post(_header(opened.gpadl, buflen=16, count=1, bytes_=4096, offset=0, pfns=[PFN]))
    assert "in use" in guest.violations[0]
    assert guest.bus.gpadls.get(opened.gpadl).byte_count > 4096


def test_pages_are_let_go_of(sim: Sim) -> None:
    """After a teardown nothing of ours reads or writes the pages, even with a view kept from before."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    handle, _ = guest.share_buffer(opened.relid, 8192)
    view = device.channel.gpadl(handle).view
    view.write(0, b"mine")
    guest.post(struct.pack("<IIII", 11, 0, opened.relid, handle))
    assert guest.take_messages() == [struct.pack("<III", 12, 0, handle)]
    with pytest.raises(Violated, match="taken back"):
        view.write(0, b"not mine")
    with pytest.raises(Violated, match="no finished list"):
        device.channel.gpadl(handle)


def test_lists_are_bounded(sim: Sim) -> None:
    """More lists than anybody needs are refused; those torn down make room again."""
    guest, _ = sim.opened(sim.Recorder())
    gpadls: Gpadls = guest.bus.gpadls
    refused = 0
    for handle in range(1, MAX_GPADLS + 50):
        guest.post(_header(handle, buflen=32, count=1, bytes_=3 * 4096, offset=0, pfns=[PFN]))
        refused += len(guest.take_messages())
    assert refused == 50
    for handle in range(1, MAX_GPADLS + 50):
        gpadls.tear_down(handle)
    assert gpadls._pages == len(gpadls.get(0xE1E11).pfns)


def test_a_channel_reads_its_own_lists_only(sim: Sim) -> None:
    """A list that was made for another channel is refused to a device."""
    first, second = sim.Recorder("one", 1), sim.Recorder("two", 2)
    guest = sim.guest(first, second)
    one, two = (guest.open(offer) for offer in guest.connect())
    handle, _ = guest.share_buffer(two.relid, 4096)
    with pytest.raises(Violated) as caught:
        first.channel.gpadl(handle)
    assert caught.value.rule is Rule.GPADL
    assert second.channel.gpadl(handle).relid == two.relid != one.relid


MESSAGES = st.lists(
    st.one_of(
        st.binary(max_size=240),
        st.builds(
            lambda kind, rest: struct.pack("<II", kind, 0) + rest,
            st.sampled_from([8, 9, 11]), st.binary(max_size=232),
        ),
        st.builds(
            lambda handle, count, offset, pfns: _header(
                handle, buflen=8 + 8 * ((offset + count + 4095) // 4096), count=1, bytes_=count,
                offset=offset, pfns=pfns,
            ),
            st.integers(1, 3), st.integers(0, 1 << 18), st.integers(0, 4095),
            st.lists(st.integers(PFN, PFN + 40), max_size=26),
        ),
        st.builds(
            lambda handle, pfns: struct.pack("<IIII", 9, 0, 0, handle) + struct.pack(f"<{len(pfns)}Q", *pfns),
            st.integers(1, 3), st.lists(st.integers(PFN, PFN + 2100), max_size=28),
        ),
        st.builds(lambda handle: struct.pack("<IIII", 11, 0, 8, handle), st.integers(1, 3)),
    ),
    max_size=30,
)  # fmt: skip


@settings(deadline=None)
@given(messages=MESSAGES)
def test_any_messages_leave_the_count_right(messages: list[bytes]) -> None:
    """However lists are begun, continued and torn down, pages are counted as they are held."""
    gpadls = Gpadls(GuestMemory(bytearray(1 << 20), BASE))
    for message in messages:
        kind = struct.unpack_from("<I", message.ljust(4, b"\0"))[0]
        try:
            if kind == 8:
                gpadls.take_header(message)
            elif kind == 9:
                gpadls.take_body(message)
            elif kind == 11 and len(message) >= 16:
                gpadls.tear_down(struct.unpack_from("<I", message, 12)[0])
        except Violated:
            pass
    held = sum(len(gpadl.pfns) for gpadl in gpadls._whole.values())
    held += sum(partial.wanted for partial in gpadls._partial.values())
    assert gpadls._pages == held
    gpadls.tear_down_all()
    assert gpadls._pages == 0
