"""Tests of harness.hyperv.vmbus and what it stands on, by a guest that speaks Linux's side."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from harness.hyperv.channel import ChannelState
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.vmbus import LATE_POLLS, MAX_CHANNELS
from harness.hyperv.wire.numbers import VmbusVersion

# The fixture's Sim: tests have no package to import it from.
Sim = Any

PAGES = pytest.mark.parametrize("page", [4096, 16384, 65536])


@PAGES
def test_a_packet_there_and_back(sim: Sim, page: int) -> None:
    """At each page size a channel opens on rings as Linux lays them out, and carries data both ways."""
    device = sim.Recorder()
    device.echo = True
    guest, opened = sim.opened(device, page=page, size=32 << 20)
    guest.send(opened, sim.packet(b"sixteen bytes !!", flags=1, request_id=77))
    (answer,) = guest.receive(opened)
    assert struct.unpack("<HHHHQ", answer[:16]) == (11, 2, 4, 0, 77)
    assert answer[16:] == b"sixteen bytes !!"
    assert device.packets[0].wants_completion
    assert guest.take_events() == {opened.relid}
    assert guest.violations == []


@PAGES
def test_rings_wrap(sim: Sim, page: int) -> None:
    """Packets that cross the end of either ring arrive whole, whatever their lengths."""
    device = sim.Recorder()
    device.echo = True
    guest, opened = sim.opened(device, page=page, size=32 << 20)
    sent = 0
    for number in range(200 if page == 65536 else 60):
        data = bytes([number]) * (8 + 8 * (number * 37 % 200))
        guest.send(opened, sim.packet(data, request_id=number))
        (answer,) = guest.receive(opened)
        assert answer[16:] == data
        assert device.packets[-1].trailer == device.packets[-1].start_bytes << 32
        sent += len(data) + 24
    assert sent > opened.out.size
    assert guest.violations == []


def test_version_is_negotiated_down(sim: Sim) -> None:
    """A host of 4.1 refuses what is newer, and takes messages where old guests post them."""
    guest = sim.guest(sim.Recorder(), maximum=VmbusVersion.V4_1)
    guest.enable_synic()
    for version in (5 << 16 | 3, 5 << 16 | 2, 5 << 16 | 1, 5 << 16):
        assert guest.contact(version) == (0, 0)
    assert guest.contact(4 << 16 | 1, connection=1) == (1, 0)
    assert guest.bus.version is VmbusVersion.V4_1
    assert len(guest.offers()) == 1
    assert guest.bus.refused_versions == [0x50003, 0x50002, 0x50001, 0x50000]


def test_a_version_of_the_future_is_refused(sim: Sim) -> None:
    """A version that does not exist is refused without a violation: newer guests try it first."""
    guest = sim.guest()
    guest.enable_synic()
    assert guest.contact(6 << 16) == (0, 0)
    assert guest.violations == []


def test_messages_wait_for_their_slot(sim: Sim) -> None:
    """Offers come one at a time through one slot, each after the guest's EOM, none lost."""
    devices = [sim.Recorder(f"d{number}", number) for number in range(1, 40)]
    guest = sim.guest(*devices)
    offers = guest.connect()
    assert [offer[8 + 32 - 16 : 8 + 32] for offer in offers] == [
        device.offer().instance.bytes_le for device in devices
    ]
    relids = [struct.unpack_from("<I", offer, 184)[0] for offer in offers]
    assert len({relid // 8 for relid in relids}) == len(relids)


def test_close_and_open_again(sim: Sim) -> None:
    """A channel that was closed opens anew on other rings, and the device is told of both."""
    device = sim.Recorder()
    guest = sim.guest(device)
    (offer,) = guest.connect()
    first = guest.open(offer)
    guest.post(struct.pack("<III", 7, 0, first.relid))
    guest.post(struct.pack("<IIII", 11, 0, first.relid, first.gpadl))
    assert guest.take_messages() == [struct.pack("<III", 12, 0, first.gpadl)]
    assert device.closes == 1
    second = guest.open(offer)
    guest.send(second, sim.packet(b"again..."))
    assert device.packets[-1].data == b"again..."
    assert guest.violations == []


def test_rescind_and_release(sim: Sim) -> None:
    """A device that is taken away is closed, said to be gone, and its relid forgotten when released."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    guest.bus.rescind(device)
    assert guest.take_messages() == [struct.pack("<III", 2, 0, opened.relid)]
    assert device.closes == 1
    guest.post(struct.pack("<III", 7, 0, opened.relid))  # Linux closes it all the same
    guest.post(struct.pack("<III", 13, 0, opened.relid))
    assert guest.bus.channels == ()
    assert guest.violations == []


def test_hot_plug(sim: Sim) -> None:
    """A device that comes later is offered at once, with a relid of its own."""
    guest, opened = sim.opened(sim.Recorder())
    guest.bus.add(sim.Recorder("late", 2))
    (offer,) = guest.take_messages()
    assert struct.unpack_from("<I", offer)[0] == 1
    assert struct.unpack_from("<I", offer, 184)[0] != opened.relid


def test_unload_gives_everything_back(sim: Sim) -> None:
    """UNLOAD closes channels and lists, is answered, and a new kernel can connect as the first did."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    guest.post(struct.pack("<II", 16, 0))
    assert guest.take_messages() == [struct.pack("<II", 17, 0)]
    assert device.closes == 1
    assert guest.bus.version is None
    assert opened.out.write(sim.packet(b"nobody..")) is not None
    guest.signal(opened.connection)
    guest.serve()
    assert device.packets == []
    assert len(guest.connect()) == 1


def test_interrupts_follow_the_channel(sim: Sim) -> None:
    """MODIFYCHANNEL moves a channel's interrupts to another processor, and 5.3 acknowledges it."""
    device = sim.Recorder()
    guest, opened = sim.opened(device, vps=2)
    guest.post(struct.pack("<IIII", 22, 0, opened.relid, 1))
    assert guest.take_messages() == [struct.pack("<IIII", 24, 0, opened.relid, 0)]
    guest.interrupts.clear()
    device.channel.send(b"to VP 1.")
    assert guest.interrupts == [1]
    assert guest.take_events(1) == {opened.relid}
    assert guest.take_events(0) == set()


def test_the_guest_is_woken_once(sim: Sim) -> None:
    """Only the packet that makes the ring non-empty interrupts, and none does while the guest masks."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    guest.interrupts.clear()
    for _ in range(3):
        device.channel.send(b"8 bytes.")
    assert guest.interrupts == [0]
    guest.receive(opened)
    opened.into.set_word(8, 1)
    device.channel.send(b"8 bytes.")
    assert guest.interrupts == [0]


def test_a_full_ring_waits_for_room(sim: Sim) -> None:
    """What does not fit is kept in order, and written when the guest has made room and says so."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    sent = [bytes([number]) * 1024 for number in range(40)]
    assert all(device.channel.send(data) for data in sent)
    assert device.channel.unsent > 20
    assert opened.into.word(12) == 1024 + 16 + 8
    assert [packet[16:] for packet in guest.receive(opened)] == sent
    assert device.channel.unsent == 0
    assert guest.violations == []


def test_a_guest_that_waits_for_room_is_woken(sim: Sim) -> None:
    """With pending_send_sz set, the read that makes enough room interrupts the guest, and none else."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    while opened.out.write(sim.packet(bytes(1000))) is not None:
        pass
    opened.out.set_word(12, 1024)
    guest.interrupts.clear()
    guest.signal(opened.connection)
    guest.serve()
    assert guest.interrupts == [0]
    assert opened.out.word(4) == opened.out.word(0)
    opened.out.set_word(12, 1024)
    guest.send(opened, sim.packet(b"8 bytes."))  # there was room enough before this one was read
    assert guest.interrupts == [0]


def test_answers_are_never_dropped(sim: Sim) -> None:
    """A guest that sends and does not read is left waiting, with what it costs the host bounded."""
    device = sim.Recorder()
    device.echo = True
    guest, opened = sim.opened(device)
    for number in range(20_000):
        if (due := opened.out.write(sim.packet(bytes(8), request_id=number))) is None:
            break
        if due:
            guest.signal(opened.connection)
        guest.serve()
    assert device.channel.unsent <= 300
    served = len(device.packets)
    answers = guest.receive(opened)
    guest.bus.poll(0.0)
    guest.serve()
    answers += guest.receive(opened)
    assert len(device.packets) > served
    ids = [struct.unpack_from("<Q", answer, 8)[0] for answer in answers]
    assert ids == list(range(len(ids)))
    assert guest.violations == []


def test_a_missing_signal_is_a_finding(sim: Sim) -> None:
    """A packet without the signal that is due is served late and said; one with it is not."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    assert opened.out.write(sim.packet(b"psst....")) is True
    for _ in range(LATE_POLLS - 1):
        guest.bus.poll(0.0)
        guest.serve()
    assert device.packets == []
    guest.bus.poll(0.0)
    guest.serve()
    assert len(device.packets) == 1
    assert guest.log.counts == {Rule.SIGNAL: 1}


def test_ranges_reach_the_device(sim: Sim) -> None:
    """A GPA-direct packet's page list is given to the device, beside its payload."""
    device = sim.Recorder()
    guest, opened = sim.opened(device)
    head = struct.pack("<II", 0, 2) + struct.pack("<IIQQ", 5000, 100, 0x40100, 0x40222)
    head += struct.pack("<IIQ", 8, 4088, 0x40300)
    guest.send(opened, sim.packet(b"command.", kind=9, head=head))
    (packet,) = device.packets
    assert [(each.byte_count, each.byte_offset, each.pfns) for each in packet.ranges] == [
        (5000, 100, (0x40100, 0x40222)),
        (8, 4088, (0x40300,)),
    ]
    assert packet.data == b"command."


def test_closing_during_a_packet(sim: Sim) -> None:
    """A device may rescind itself from within its own packet: the rest of the ring is left alone."""

    device = sim.Recorder()
    guest, opened = sim.opened(device)
    device.packet = lambda channel, packet: guest.bus.rescind(device)
    opened.out.write(sim.packet(b"1......."))
    opened.out.write(sim.packet(b"2......."))
    guest.signal(opened.connection)
    guest.serve()
    assert guest.bus.channels[0].state is ChannelState.RESCINDED
    assert guest.violations == []


def test_relids_are_used_again(sim: Any) -> None:
    """A device that comes and goes has a number if the guest releases it; without, there is an end."""
    guest = sim.guest()
    guest.connect()
    for _ in range(2 * MAX_CHANNELS):
        device = sim.Recorder()
        guest.bus.add(device)
        (offer,) = guest.take_messages()
        (relid,) = struct.unpack_from("<I", offer, 184)
        guest.bus.rescind(device)
        guest.take_messages()
        guest.post(struct.pack("<III", 13, 0, relid))
    assert guest.violations == []
    for _ in range(MAX_CHANNELS):
        guest.bus.add(sim.Recorder())
        guest.take_messages()
    with pytest.raises(Violated, match="channels at a time"):
        guest.bus.add(sim.Recorder())
