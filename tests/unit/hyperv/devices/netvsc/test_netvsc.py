"""Tests of harness.hyperv.devices.netvsc: NVSP, RNDIS and frames both ways, with a driver of the tests'."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from harness.hyperv.devices.receive_buffer import MAX_CONTROL, MAX_DATA
from harness.hyperv.net.checksum import internet_checksum
from harness.hyperv.net.host import IpHost
from harness.hyperv.net.streams import Sink
from harness.hyperv.rndis.offload import Offload
from harness.hyperv.violation import Rule
from harness.hyperv.wire.netvsc import NvspVersion

PAGES = pytest.mark.parametrize("page", [4096, 16384, 65536])
BYTES = random.Random(5).randbytes(1 << 17)  # noqa: S311 - content to compare, not a secret


def frame(size: int, seed: int = 0) -> bytes:
    """Not IP: nobody looks into it."""
    return b"\x02" * 6 + b"\x04" * 6 + b"\x88\xb5" + BYTES[seed : seed + size - 14]


def findings(netsim: Any) -> list[str]:
    """What the wire checker found of netvsc's rules."""
    return [str(each) for each in netsim.checker.report().findings if each.rule.driver == "netvsc"]


def of_device(driver: Any) -> list[str]:
    """What the device itself found, the wire checker's findings left out."""
    return [
        str(each)
        for each in driver.guest.log.violations
        if each.rule in (Rule.DEVICE, Rule.MESSAGE, Rule.GPADL)
    ]


def compared(netsim: Any, name: str) -> int:
    return sum(each.comparisons for each in netsim.checker.report().results if each.rule.name == name)


@PAGES
def test_a_section_and_back(netsim: Any, page: int) -> None:
    """A frame in the send buffer reaches the station; its answer comes through the receive buffer."""
    driver, device, mirror = netsim.driver(page=page)
    mirror.back = [frame(60, 3), frame(1514, 4)]
    assert driver.carry(driver.message(frame(700)), section=5) == 1
    assert mirror.got == [frame(700)]
    assert driver.frames() == [frame(60, 3), frame(1514, 4)]
    assert driver.batches[-1] == 2
    assert device.receive is not None
    assert device.receive.lent == 0
    assert driver.guest.violations == []
    assert findings(netsim) == []
    assert compared(netsim, "netvsc.section")


@PAGES
@pytest.mark.parametrize("offset", [0, 4, 4000, 4095, 9000])
def test_page_buffers(netsim: Any, page: int, offset: int) -> None:
    """A frame in ranges that cross pages of 4K and of the guest's arrives whole."""
    driver, device, mirror = netsim.driver(page=page, send_section_bytes=256, starting={"mtu": 9000})
    for size in (60, 1514, 9014):
        assert driver.carry(driver.message(frame(size, offset)), offset=offset) == 1
        assert mirror.got.pop() == frame(size, offset)
    assert dict(device.send.packets) == {"pages": 3 + 2}  # what initialises too
    assert findings(netsim) == []
    assert compared(netsim, "netvsc.consecutive")


@PAGES
def test_both(netsim: Any, page: int) -> None:
    """Messages in a section, of which the last goes on in page buffers, are one stream."""
    driver, device, mirror = netsim.driver(page=page)
    first, second = driver.message(frame(101), pad=3), driver.message(frame(1400, 9))
    assert driver.carry(first + second, section=2, split_at=len(first) + 44) == 1
    assert mirror.got == [frame(101), frame(1400, 9)]
    assert device.send.packets["both"] == 1
    assert findings(netsim) == []


@pytest.mark.parametrize("maximum", list(NvspVersion))
def test_versions(netsim: Any, maximum: NvspVersion) -> None:
    """The newest version that both know is agreed on, and everything works with it."""
    driver, device, mirror = netsim.driver(maximum=maximum)
    assert (driver.version, device.version) == (maximum, maximum)
    assert driver.carry(driver.message(frame(60)), section=0) == 1
    assert mirror.got == [frame(60)]


def test_too_old_a_guest(netsim: Any) -> None:
    """A version that is not known is refused as too new."""
    driver, device, _ = netsim.driver(start=False)
    answer = driver.post(struct.pack("<III", 1, 0x70000, 0x70000))
    assert struct.unpack_from("<IIII", answer)[3] == 3
    assert device.version is None


def test_queries_and_sets(netsim: Any) -> None:
    """What Linux asks for: addresses, MTU, link, speed; an unknown thing is not supported."""
    driver, device, mirror = netsim.driver(mac=bytes.fromhex("00155d0000aa"), starting={"mtu": 4000})
    assert mirror.mtu == 4000
    assert driver.query(0x01010101) == bytes.fromhex("00155d0000aa")
    assert driver.query(0x00010106) == struct.pack("<I", 4000)
    assert driver.query(0x00010107) == struct.pack("<I", 100_000_000)
    assert driver.query(0x00010114) == bytes(4)
    assert driver.query(0x00020216) is None
    assert driver.set(0x00020216, b"") == 0xC00000BB
    name, value = "NetworkAddress".encode("utf-16-le"), "00155d0000bb".encode("utf-16-le")
    parameter = struct.pack("<5I", 20, len(name), 2, 20 + len(name), len(value)) + name + value
    assert driver.set(0x0001021B, parameter) == 0
    assert driver.query(0x01010102) == bytes.fromhex("00155d0000bb")
    (answer,) = {driver.control(8, b"")}
    assert struct.unpack_from("<I", answer, 4) == (0,)
    assert driver.guest.violations == []
    assert device.adapter.packet_filter == 0xD


@pytest.mark.parametrize("size", [112, 144, 156])
@pytest.mark.parametrize("offload", [Offload(checksum=False), Offload(), Offload(large_send_bytes=60000)])
def test_offload_capabilities(netsim: Any, size: int, offload: Offload) -> None:
    """What is offered is what is done, in the form that the driver's NDIS version knows."""
    driver, _, _ = netsim.driver(offload=offload)
    given = struct.pack("<BBH", 0xA7, 1, size).ljust(size, b"\0")
    answer = driver.query(0xFC01020D, given)
    assert struct.unpack_from("<BBH", answer) == (0xA7, 1, size)
    assert len(answer) == size
    send, checksums = struct.unpack_from("<II", answer, 4)
    assert (send, checksums) == ((2, 0x54) if offload.checksum else (0, 0))
    assert struct.unpack_from("<II", answer, 80) == ((2, 60000) if offload.large_send_bytes else (0, 0))
    parameters = bytes([0x80, 3, 28, 0, 1, 4, 4, 1, 1, 0, 0, 2, 1]).ljust(28, b"\0")
    if offload.large_send_bytes:
        assert driver.set(0xFC01020C, parameters) == 0
    else:
        assert driver.rndis(5, struct.pack("<5I", 9, 0xFC01020C, 28, 20, 0) + parameters, control=True) == 5


def tcp_frame(size: int, *, partial: bool) -> bytes:
    """A segment whose checksum is right, or is the pseudo header's sum only, as CHECKSUM_PARTIAL."""
    addresses = bytes([10, 9, 8, 2, 10, 9, 8, 1])
    head = struct.pack(">HHIIBBHHH", 1000, 9, 1, 0, 5 << 4, 0x10, 500, 0, 0)
    raw = head + BYTES[:size]
    pseudo = addresses + struct.pack(">BBH", 0, 6, len(raw))
    value = 0xFFFF - internet_checksum(pseudo) if partial else internet_checksum(pseudo + raw)
    raw = raw[:16] + struct.pack(">H", value) + raw[18:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(raw), 1, 0, 64, 6, 0) + addresses
    ip = ip[:10] + struct.pack(">H", internet_checksum(ip)) + ip[12:]
    return b"\x02" * 6 + b"\x04" * 6 + b"\x08\x00" + ip + raw


@pytest.mark.parametrize("size", [0, 1, 777, 1460])
def test_checksums_are_filled_in(netsim: Any, size: int) -> None:
    """What the driver leaves to us is what the kernel would have written."""
    driver, _, mirror = netsim.driver()
    asked = (0, 1 | 4 | 34 << 16)
    assert driver.carry(driver.message(tcp_frame(size, partial=True), [asked]), section=1) == 1
    assert mirror.got == [tcp_frame(size, partial=False)]


@pytest.mark.parametrize(
    "asked", [1 | 4 | 35 << 16, 1 | 8 | 34 << 16, 2 | 4 | 34 << 16, 1 | 4 | 1023 << 16], ids=hex
)
def test_checksums_that_do_not_fit(netsim: Any, asked: int) -> None:
    """A header elsewhere, another protocol, IPv6: a finding, and nothing is passed on."""
    driver, _, mirror = netsim.driver()
    assert driver.carry(driver.message(tcp_frame(100, partial=True), [(0, asked)]), section=1) == 5
    assert mirror.got == []
    assert [each.rule for each in driver.guest.log.violations] == [Rule.DEVICE]


@PAGES
def test_large_sends(netsim: Any, page: int) -> None:
    """A segment of 40 KB is passed on whole, its lengths and checksums made right."""
    driver, device, mirror = netsim.driver(page=page, offload=Offload(large_send_bytes=60000))
    whole = tcp_frame(40_000, partial=False)
    sent = bytearray(tcp_frame(40_000, partial=True))
    sent[16:18] = sent[24:26] = bytes(2)
    info = (2, 1460 | 34 << 20 | 1 << 30)
    assert driver.carry(driver.message(bytes(sent), [info]), offset=1000) == 1
    assert mirror.got == [whole]
    assert device.largest_frame == len(whole)
    for wrong in (1461 | 34 << 20 | 1 << 30, 34 << 20 | 1 << 30, 1460 | 34 << 20, 1460 | 54 << 20 | 1 << 30):
        assert driver.carry(driver.message(bytes(sent), [(2, wrong)])) == 5
    assert driver.carry(driver.message(bytes(sent))) == 5  # longer than the link takes
    assert len(driver.guest.violations) == 5
    assert mirror.got == [whole]


def test_received_checksums(netsim: Any) -> None:
    """Once the driver wants to know, it is told of checksums that are right, and of no others."""
    driver, _, mirror = netsim.driver()
    good, bad = tcp_frame(100, partial=False), tcp_frame(100, partial=True)

    def told() -> list[int | None]:
        mirror.back = [good, bad, frame(60)]
        driver.carry(driver.message(frame(60)), section=0)
        values: list[int | None] = []
        for _, _, message in driver.into:
            at, size = struct.unpack_from("<II", message, 8 + 20)
            assert size in (0, 16)
            values.append(struct.unpack_from("<IIII", message, 8 + at)[3] if size else None)
        driver.into.clear()
        return values

    assert told() == [None, None, None]
    assert driver.set(0xFC01020C, bytes([0x80, 3, 28, 0, 1, 4, 4]).ljust(28, b"\0")) == 0
    assert told() == [8 | 32, 32, None]


def test_link(netsim: Any) -> None:
    """The link's state is told when it changes and when asked; while down, nothing goes either way."""
    driver, device, mirror = netsim.driver()
    for up in (False, True):
        device.set_link(up)
        driver.collect()
        ((_, channel_type, message),) = driver.into
        driver.into.clear()
        assert channel_type == 1
        assert struct.unpack_from("<III", message) == (7, 20, 0x4001000B if up else 0x4001000C)
        assert driver.query(0x00010114) == struct.pack("<I", not up)
        mirror.back, mirror.got = [frame(60)], []
        driver.carry(driver.message(frame(60)), section=0)
        assert (len(mirror.got), len(driver.frames())) == (int(up), int(up))


def test_filter(netsim: Any) -> None:
    """With a filter of 0, as of an interface that is down, nothing is received."""
    driver, _, mirror = netsim.driver()
    assert driver.set(0x1010E, bytes(4)) == 0
    mirror.due = [frame(60)]
    driver.guest.bus.poll(0.0)
    driver.collect()
    assert driver.into == []


def test_nobody_gives_sections_back(netsim: Any) -> None:
    """With no section free frames wait, then are dropped; what waited comes when there are sections."""
    driver, device, mirror = netsim.driver(receive_sections=10)
    driver.hold = True
    mirror.due = [frame(100, seed) for seed in range(10 + MAX_DATA + 7)]
    device.tick(0.0)
    driver.collect()
    assert len(driver.frames()) == 10
    assert device.receive is not None
    assert (device.receive.lent, device.receive.dropped, device.receive.least_free) == (10, 7, 0)
    for _ in range(2 * MAX_CONTROL):
        driver.rndis(8, struct.pack("<I", 1), control=True)
    assert len(driver.guest.violations) == MAX_CONTROL
    assert "no section is given back" in driver.guest.violations[0]
    driver.hold = False
    driver.release()
    driver.collect()
    got = [message[44:] for _, kind, message in driver.into if kind == 0]
    assert got == [frame(100, seed) for seed in range(10, 10 + MAX_DATA)]
    assert device.receive.lent == 0


def test_completions_that_are_not_due(netsim: Any) -> None:
    """A packet given back twice, or never lent, is a finding."""
    driver, _, mirror = netsim.driver()
    driver.hold = True
    mirror.due = [frame(60)]
    driver.guest.bus.poll(0.0)
    driver.collect()
    ((_, request_id),) = driver.held
    driver.release()
    for wrong in (request_id, 12345):
        driver.guest.send(driver.opened, driver.packet(bytes(8), kind=11, request_id=wrong))
    assert len(driver.guest.violations) == 2
    assert "not lent" in driver.guest.violations[0]


@PAGES
def test_mtu_change(netsim: Any, page: int) -> None:
    """Halt, revoke, close, open: new buffers fit the new MTU, and the old ones are not touched."""
    driver, device, mirror = netsim.driver(page=page)
    old = driver.receive_section
    driver.stop()
    assert device.receive is None
    before = bytes(driver.guest.ram)
    mirror.due = [frame(60)]
    driver.guest.bus.poll(0.0)
    assert bytes(driver.guest.ram) == before
    offer_relid = driver.opened.relid
    channel = next(each for each in driver.guest.bus.channels if each.relid == offer_relid)
    offer = bytes(8 + 176) + struct.pack("<IBBHI", channel.relid, 0, 0, 1, 0x2000 + channel.relid)
    again = netsim.again(driver.guest, driver.guest.open(offer, 512 << 10), driver.packet)
    again.start(mtu=9000)
    assert again.receive_section >= 9000 > old
    mirror.back = [frame(9014, 1)]
    assert again.carry(again.message(frame(9014)), offset=50) == 1
    assert again.frames() == [frame(9014, 1)]
    assert device.opens == 2
    assert driver.guest.violations == []
    assert findings(netsim) == []


def sub_channel(netsim: Any, driver: Any, count: int = 1) -> list[Any]:
    """rndis_set_subchannel() and netsvc_sc_open(): the opened sub-channels."""
    answer = driver.post(struct.pack("<III", 133, 1, count))
    kind, status, agreed = struct.unpack_from("<III", answer)
    assert (kind, status) == (133, 1)
    offers = driver.guest.take_messages()
    assert len(offers) == agreed
    opened = []
    for index, offer in enumerate(offers, start=1):
        assert struct.unpack_from("<H", offer, 8 + 32 + 16 + 4 + 120)[0] == index
        opened.append(driver.guest.open(offer, 512 << 10, vp=index))
    return opened


@PAGES
def test_sub_channels(netsim: Any, page: int) -> None:
    """A sub-channel carries frames both ways, as the table of receive-side scaling says."""
    driver, device, mirror = netsim.driver(page=page, vps=2, channels=2)
    caps = driver.query(0x00010203, bytes(18))
    assert struct.unpack_from("<I", caps, 12) == (2,)
    (sub,) = sub_channel(netsim, driver, 3)
    assert device.sub_channels == 1
    table = struct.pack("<4I", 1, 1, 1, 1)
    rss = struct.pack("<BBHHHIHHIHHIIII", 0x89, 2, 40, 0, 0, 0x101, 16, 0, 40, 40, 0, 56, 0, 0, 0)
    assert driver.set(0x00010204, rss + table + bytes(40)) == 0
    mirror.back = [tcp_frame(10, partial=False), frame(60)]
    assert driver.carry(driver.message(frame(60)), section=0, opened=sub) == 1
    driver.collect()
    by_channel = {opened.relid: message[44:] for opened, _, message in driver.into}
    assert by_channel == {sub.relid: tcp_frame(10, partial=False), driver.opened.relid: frame(60)}
    assert dict(device.frames) == {"netvsc.1": 1}
    assert driver.guest.violations == []
    assert findings(netsim) == []
    assert compared(netsim, "netvsc.section")


def test_sub_channels_end(netsim: Any) -> None:
    """A closed sub-channel is rescinded, as Linux waits for; its number is used again, without end."""
    driver, device, _ = netsim.driver(vps=2, channels=2)
    relids = set()
    for _ in range(300):
        answer = driver.post(struct.pack("<III", 133, 1, 1))
        assert struct.unpack_from("<I", answer, 4) == (1,)
        (offer,) = driver.guest.take_messages()
        (relid,) = struct.unpack_from("<I", offer, 8 + 176)
        relids.add(relid)
        device.closed()
        device._channel = driver.guest.bus.channel_of(device)
        device.version = NvspVersion.V6_1
        (rescind,) = driver.guest.take_messages()
        assert struct.unpack("<III", rescind) == (2, 0, relid)
        assert driver.guest.post(struct.pack("<III", 13, 0, relid)) == 0
    assert len(relids) == 1
    assert driver.guest.violations == []


def test_closing_the_primary_takes_sub_channels_along(netsim: Any) -> None:
    """Open or only offered, sub-channels are rescinded when the primary or they themselves are closed."""
    driver, device, mirror = netsim.driver(vps=3, channels=3)
    first, second = sub_channel(netsim, driver, 2)
    driver.hold = True
    mirror.due = [frame(60)]
    driver.guest.post(struct.pack("<III", 7, 0, first.relid))
    (rescind,) = driver.guest.take_messages()
    assert struct.unpack("<III", rescind) == (2, 0, first.relid)
    assert device.sub_channels == 1
    driver.stop()
    (rescind,) = driver.guest.take_messages()
    assert struct.unpack("<III", rescind) == (2, 0, second.relid)
    assert device.sub_channels == 0
    assert driver.guest.violations == []


def test_out_of_turn(netsim: Any) -> None:
    """Messages before their time, twice, or not for a driver to send, are findings; each is answered."""
    driver, _, _ = netsim.driver(start=False)
    for body in (
        struct.pack("<IIH", 101, 1, 0xCAFE), struct.pack("<IIII", 107, 0, 0xFFFFFFFF, 0),
        struct.pack("<I", 102), struct.pack("<I", 9999), struct.pack("<III", 1, 9, 3),
    ):  # fmt: skip
        assert struct.unpack_from("<I", driver.post(body), 0)[0] in (102, 108, 2)
    assert len(of_device(driver)) == 5
    driver.start()
    for body in (
        struct.pack("<III", 1, 2, 2), struct.pack("<IIH", 101, 1, 0xCAFE), struct.pack("<IIH", 104, 1, 0),
        struct.pack("<IIIQ", 125, 1514, 0, 0), struct.pack("<III", 133, 2, 1), struct.pack("<IH", 103, 1),
    ):  # fmt: skip
        assert driver.post(body)
    assert len(of_device(driver)) == 11


@pytest.mark.parametrize(
    ("section", "size"), [(170, 104), (0xFFFFFFFE, 104), (0, 6145), (1, 1 << 31), (0, 0)], ids=str
)
def test_sections_out_of_bounds(netsim: Any, section: int, size: int) -> None:
    """A section beyond the buffer, and more bytes than a section has, are not read."""
    driver, _, mirror = netsim.driver()
    start = driver.send_pa - 0x4000_0000
    if 104 <= size < 8192 and section < 171:
        # A message that would be taken if the section were.
        message = driver.message(frame(60), pad=size - 104)
        at = start + section * 6144
        driver.guest.ram[at : at + size] = message
    assert driver.post(struct.pack("<IIII", 107, 0, section, size))
    assert len(of_device(driver)) == 1
    assert mirror.got == []


@pytest.mark.parametrize(
    "change", [
        (4, 59), (4, 2000), (4, 7), (8, 0xFFFFFFF0), (8, 35), (12, 1000), (12, 13), (16 + 4, 1), (28, 1),
        (28, 0xFFFFFFF0), (32, 17), (32, 1 << 30), (44, 11), (44, 32), (52, 13), (52, 11), (52, 0xFFFFFFFF),
    ], ids=str,
)  # fmt: skip
def test_lengths_in_a_packet(netsim: Any, change: tuple[int, int]) -> None:
    """Every length and offset in a packet's headers, when wrong, is a finding, and nothing is passed on."""
    driver, _, mirror = netsim.driver()
    message = bytearray(driver.message(frame(100), [(8, 1)]))
    at, value = change
    struct.pack_into("<I", message, at, value)
    assert driver.carry(bytes(message), section=0) == 5
    assert len(of_device(driver)) == 1
    assert mirror.got == []


def test_with_a_host_behind_it(netsim: Any) -> None:
    """A ping through rings, NVSP, RNDIS and the IP host, with the checksum left to the adapter."""
    host = IpHost({9: Sink})
    driver, _, _ = netsim.driver(station=host)
    rest = struct.pack(">HH", 1, 1) + BYTES[:500]
    echo = struct.pack(">BBH", 8, 0, internet_checksum(bytes([8, 0, 0, 0]) + rest)) + rest
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(echo), 1, 0, 64, 1, 0) + bytes([10, 9, 8, 2, 10, 9, 8, 1])
    ip = ip[:10] + struct.pack(">H", internet_checksum(ip)) + ip[12:]
    sent = host.mac + bytes.fromhex("00155d000001") + b"\x08\x00" + ip + echo
    assert driver.carry(driver.message(sent), section=0) == 1
    (answer,) = driver.frames()
    assert (answer[:6], answer[34], answer[38:]) == (sent[6:12], 0, rest)
