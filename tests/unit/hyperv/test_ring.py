"""Tests of harness.hyperv.ring and channel against a guest that breaks its rings."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.violation import Rule

Sim = Any


def _rules(guest: Any) -> set[Rule]:
    return set(guest.log.counts)


@pytest.mark.parametrize("index", [0x3000, 0xFFFF_FFF8, 4, 1])
@pytest.mark.parametrize("field", ["write", "read"])
def test_an_index_outside_the_ring(sim: Sim, index: int, field: str) -> None:
    """An index of the guest's that no ring has breaks the channel, and nothing else."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    if field == "write":
        opened.out.set_word(0, index)
        guest.signal(opened.connection)
        guest.serve()
    else:
        opened.into.set_word(4, index)
        assert device.channel.send(b"8 bytes.")
    assert device.channel.broken
    assert _rules(guest) == {Rule.RING}
    assert device.packets == []
    assert not device.channel.send(b"8 bytes.")


def test_the_hosts_own_indices_are_not_the_guests_to_move(sim: Sim) -> None:
    """What a guest writes over the host's index is ignored: the next packet is read where it is due."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    guest.send(opened, sim.packet(b"first..."))
    opened.out.set_word(4, 0x1000)  # the host's read index
    opened.out.put(32, sim.packet(b"second..") + bytes(8))
    opened.out.set_word(0, 64)
    guest.signal(opened.connection)
    guest.serve()
    assert [packet.data for packet in device.packets] == [b"first...", b"second.."]
    assert opened.out.word(4) == 64


@pytest.mark.parametrize("len8", [0, 1, 5, 0xFFFF])
def test_a_length_that_cannot_be(sim: Sim, len8: int) -> None:
    """A packet shorter than its descriptor or longer than what was written breaks the channel."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    raw = bytearray(sim.packet(b"8 bytes."))
    struct.pack_into("<H", raw, 4, len8)
    guest.send(opened, bytes(raw))
    assert device.channel.broken
    assert _rules(guest) == {Rule.RING}


def test_a_packet_without_its_trailer(sim: Sim) -> None:
    """The word after a packet belongs to it: a write index right behind the payload breaks the channel."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    raw = sim.packet(b"8 bytes.")
    opened.out.put(0, raw)
    opened.out.set_word(0, len(raw))
    guest.signal(opened.connection)
    guest.serve()
    assert device.channel.broken
    assert device.packets == []


def test_a_packet_of_another_kind_is_passed_over(sim: Sim) -> None:
    """A packet that no driver sends is said; what comes after it is served."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    guest.send(opened, sim.packet(b"8 bytes.", kind=3))
    guest.send(opened, sim.packet(b"as usual"))
    assert [packet.data for packet in device.packets] == [b"as usual"]
    assert _rules(guest) == {Rule.PACKET}


@pytest.mark.parametrize(
    "head",
    [
        b"",
        struct.pack("<II", 0, 1),
        struct.pack("<II", 0, 0xFFFF_FFFF),
        struct.pack("<IIII", 0, 1, 0xFFFF_FFFF, 0),
        struct.pack("<IIIIQ", 0, 1, 4097, 0, 0x40000),
        struct.pack("<IIIIQ", 0, 2, 4096, 0, 0x40000),
    ],
)
def test_ranges_that_are_not_there(sim: Sim, head: bytes) -> None:
    """A count or a length beyond the packet's own bytes is a finding, whatever it claims."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    guest.send(opened, sim.packet(b"8 bytes.", kind=9, head=head))
    assert device.packets == []
    assert _rules(guest) == {Rule.PACKET}
    assert not device.channel.broken


@pytest.mark.parametrize(("field", "value"), [(0, 8), (4, 8), (12, 8), (64, 0)])
@pytest.mark.parametrize("which", [0, 1])
def test_rings_must_be_fresh(sim: Sim, field: int, value: int, which: int) -> None:
    """A header with an index or without the feature bit, in either ring, does not open."""
    guest = sim.guest(sim.Recorder())
    (offer,) = guest.connect()
    (relid,) = struct.unpack_from("<I", offer, 184)
    handle, pa = guest.share_buffer(relid, 8 * 4096)
    for header_pa in (pa, pa + 4 * 4096):
        guest.memory.store32(header_pa + 64, 1)
    guest.memory.store32(pa + which * 4 * 4096 + field, value)
    guest.post(struct.pack("<IIIIIII", 5, 0, relid, 1, handle, 0, 4) + bytes(120))
    (answer,) = guest.take_messages()
    assert struct.unpack_from("<I", answer, 16)[0] != 0
    assert _rules(guest) == {Rule.RING}


def test_a_header_elsewhere_does_not_open(sim: Sim) -> None:
    """Rings whose second header is one page off, as a forgotten page-size conversion has it, are refused."""
    guest = sim.guest(sim.Recorder(), page=16384)
    (offer,) = guest.connect()
    (relid,) = struct.unpack_from("<I", offer, 184)
    ring = 32768
    pa = guest.alloc(2 * ring)
    for at in (pa, pa + ring):
        guest.memory.store32(at + 64, 1)
    # All 4K pages in a row, the padding of the headers included.
    pfns = range(pa >> 12, (pa + 2 * ring) >> 12)
    handle = guest.share(relid, 2 * ring, pfns)
    downstream = (ring - (16384 - 4096)) // 4096
    guest.post(struct.pack("<IIIIIII", 5, 0, relid, 1, handle, 0, downstream) + bytes(120))
    (answer,) = guest.take_messages()
    assert struct.unpack_from("<I", answer, 16)[0] != 0
    assert "without the one for pending_send_sz" in guest.violations[0]


@pytest.mark.parametrize("downstream", [0, 1, 7, 8, 0xFFFF_FFFF])
def test_rings_without_data_do_not_open(sim: Sim, downstream: int) -> None:
    """A second ring that begins where the first has no data, or that has none itself, is refused."""
    guest = sim.guest(sim.Recorder())
    (offer,) = guest.connect()
    (relid,) = struct.unpack_from("<I", offer, 184)
    handle, _ = guest.share_buffer(relid, 8 * 4096)
    guest.post(struct.pack("<IIIIIII", 5, 0, relid, 1, handle, 0, downstream) + bytes(120))
    (answer,) = guest.take_messages()
    assert struct.unpack_from("<I", answer, 16)[0] != 0
    assert _rules(guest) == {Rule.RING}


def test_rings_taken_back_while_open(sim: Sim) -> None:
    """A guest that tears its rings down without closing loses the channel; the host touches nothing more."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    guest.post(struct.pack("<IIII", 11, 0, opened.relid, opened.gpadl))
    assert device.closes == 1
    assert not device.channel.send(b"8 bytes.")
    assert _rules(guest) == {Rule.STATE}
    assert guest.signal(opened.connection) == 0


WORDS = st.one_of(st.integers(0, 0xFFFF_FFFF), st.integers(0, 0x800).map(lambda word: word * 8))
ACTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("word"), st.sampled_from(["out", "into"]), st.sampled_from([0, 4, 8, 12, 64]), WORDS
        ),
        st.tuples(st.just("data"), st.integers(0, 0x2FFF), st.binary(max_size=64), st.none()),
        st.tuples(
            st.just("send"), st.sampled_from([6, 7, 9, 11, 3]), st.binary(max_size=80), st.binary(max_size=40)
        ),
        st.tuples(st.just("post"), st.integers(0, 26), st.binary(max_size=60), st.none()),
        st.tuples(st.just("signal"), st.none(), st.none(), st.none()),
        st.tuples(st.just("reply"), st.binary(max_size=2000), st.none(), st.none()),
    ),
    max_size=40,
)  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(acts=ACTS, page=st.sampled_from([4096, 16384]))
def test_nothing_a_guest_does_stops_the_host(sims: Any, acts: list[tuple[Any, ...]], page: int) -> None:
    """Rings, messages, signals of any content: nothing raises, nothing runs on, what waits is bounded."""
    with sims() as sim:
        device = sim.Recorder()
        device.echo = True
        guest, opened = sim.opened(device, page=page, size=2 << 20)
        for kind, first, second, third in acts:
            if kind == "word":
                getattr(opened, first).set_word(second, third)
            elif kind == "data":
                opened.out.put(first, second)
            elif kind == "send":
                head = third + bytes(-len(third) % 8)
                at = opened.out.word(0) % opened.out.size // 8 * 8
                raw = sim.packet(second, kind=first, head=head, flags=1)
                opened.out.put(at, raw + bytes(8))
                opened.out.set_word(0, (at + len(raw) + 8) % opened.out.size)
                guest.signal(opened.connection)
            elif kind == "post":
                guest.post(struct.pack("<III", first, 0, opened.relid) + second)
                guest.take_messages()
            elif kind == "signal":
                guest.signal(opened.connection)
            elif device.channel is not None:
                device.channel.send(first)
            guest.serve()
            guest.bus.poll(0.0)
            assert sum(channel.unsent for channel in guest.bus.channels) <= 1024
        # Whatever was done, a guest that begins again is served.
        guest.post(struct.pack("<II", 16, 0))
        guest.take_messages()
        (offer,) = guest.connect()
        opened = guest.open(offer)
        before = len(device.packets)
        guest.send(opened, sim.packet(b"as usual"))
        assert [packet.data for packet in device.packets[before:]] == [b"as usual"]
