"""Tests of harness.hyperv.devices.balloon, with a guest that speaks as hv_balloon.c does."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.devices import balloon as balloon_module
from harness.hyperv.devices.balloon import Balloon
from harness.hyperv.violation import Rule

Sim = Any
FIRST = 0x4000_0000 >> 12
WIN10, WIN8 = 2 << 16, 1 << 16


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("<HHI", kind, 8 + len(body), 1) + body


def _said(packet: bytes) -> tuple[int, bytes]:
    """The type of a message of the host's, and what comes after its header."""
    kind, size, _ = struct.unpack_from("<HHI", packet, 16)
    return kind, packet[24 : 16 + size]


def _response(ranges: list[tuple[int, int]], *, more: bool = False) -> bytes:
    head = struct.pack("<II", 0, int(more) | len(ranges) << 1)
    return _message(7, head + b"".join(struct.pack("<Q", first | count << 40) for first, count in ranges))


class Driver:
    """balloon_probe() done: a guest that can balloon, or cannot."""

    def __init__(self, sim: Sim, *, can: int = 1) -> None:
        self.sim, self.device = sim, Balloon()
        self.guest, self.opened = sim.opened(self.device)
        self.send(_message(1, struct.pack("<II", WIN10, 0)))
        assert self.receive() == [(2, struct.pack("<Q", 1))]
        self.send(_message(3, struct.pack("<QQQ", can, 0, 2**64 - 1)))
        assert self.receive() == [(4, struct.pack("<Q", 1))]

    def send(self, message: bytes) -> None:
        self.guest.send(self.opened, self.sim.packet(message))

    def receive(self) -> list[tuple[int, bytes]]:
        return [_said(packet) for packet in self.guest.receive(self.opened)]


@pytest.fixture
def driver(sim: Sim) -> Driver:
    """One that can balloon."""
    return Driver(sim)


def test_versions(sim: Sim) -> None:
    """A version that does not exist is refused, and an older one taken: the driver goes down by itself."""
    device = Balloon()
    guest, opened = sim.opened(device)
    for version, accepted in ((9 << 16, 0), (WIN8, 1)):
        guest.send(opened, sim.packet(_message(1, struct.pack("<II", version, 0))))
        (answer,) = guest.receive(opened)
        assert _said(answer) == (2, struct.pack("<Q", accepted))
    assert device.version == WIN8


def test_reports(driver: Driver) -> None:
    """What the guest has and wants is kept, the last of it."""
    for available in (1000, 900):
        driver.send(_message(5, struct.pack("<QQQQII", available, 50, 0, 0, 0, 0)))
    assert driver.device.status is not None
    assert (driver.device.status.available, driver.device.reports) == (900, 2)
    assert driver.guest.violations == []


def test_there_and_back(driver: Driver) -> None:
    """Pages are asked for, come in as many answers as it takes, and all go back."""
    device = driver.device
    assert device.inflate(1024)
    assert driver.receive() == [(6, struct.pack("<II", 1024, 0))]
    assert not device.inflate(1)
    driver.send(_response([(FIRST, 512)], more=True))
    assert device.is_busy
    driver.send(_response([(FIRST + 512, 512)]))
    assert (device.is_busy, device.held_pages) == (False, 1024)
    assert device.deflate()
    ((kind, body),) = driver.receive()
    assert (kind, struct.unpack_from("<II", body)) == (8, (0, 2))
    assert struct.unpack_from("<QQ", body, 8) == (FIRST | 512 << 40, FIRST + 512 | 512 << 40)
    assert device.is_busy
    driver.send(_message(9, b""))
    assert (device.is_busy, device.held_pages) == (False, 0)
    assert driver.guest.violations == []


def test_many_ranges_go_back_in_several_messages(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is longer than the guest's buffer; all but the last say that more comes."""
    monkeypatch.setattr(balloon_module, "_RANGES_PER_MESSAGE", 2)
    driver.device.inflate(5)
    driver.send(_response([(FIRST + 2 * number, 1) for number in range(5)]))
    driver.receive()
    driver.device.deflate()
    heads = [struct.unpack_from("<II", body) for _, body in driver.receive()]
    assert heads == [(1, 2), (1, 2), (0, 1)]


def test_a_guest_that_does_not_balloon(sim: Sim) -> None:
    """It is not asked: at 16K and 64K Linux says that it cannot."""
    driver = Driver(sim, can=0)
    assert driver.device.is_ready
    assert not driver.device.inflate(1)
    assert not driver.device.deflate()
    assert driver.receive() == []


@pytest.mark.parametrize(
    "message",
    [
        _response([(FIRST, 1)]),  # nobody asked
        _message(9, b""),
        _message(7, struct.pack("<II", 0, 100 << 1)),
        _message(2, struct.pack("<Q", 1)),
        _message(1, b""),
        struct.pack("<HHI", 5, 4000, 1),
        struct.pack("<HHI", 5, 2, 1),
        b"",
    ],
)
def test_nonsense(driver: Driver, message: bytes) -> None:
    """What no driver says is a finding, and changes nothing."""
    driver.send(message)
    assert len(driver.guest.violations) == 1
    assert (driver.device.held, driver.device.is_busy) == ([], False)


@pytest.mark.parametrize(
    "ranges", [[(FIRST, 11)], [(0, 1)], [(FIRST, 0)], [((1 << 40) - 1, 2)], [(FIRST, (1 << 24) - 1)]]
)
def test_wrong_pages(driver: Driver, ranges: list[tuple[int, int]]) -> None:
    """Pages that are not RAM, or more than were asked for, are not taken."""
    driver.device.inflate(10)
    driver.send(_response(ranges))
    assert driver.guest.log.counts == {Rule.DEVICE: 1}
    assert driver.device.held == []


def test_what_is_kept_is_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest cannot make the host keep ranges without end."""
    monkeypatch.setattr(balloon_module, "MAX_RANGES", 3)
    driver.device.inflate(100)
    for _ in range(3):
        driver.send(_response([(FIRST, 1), (FIRST + 2, 1)], more=True))
    assert len(driver.device.held) == 2
    assert len(driver.guest.violations) == 2


def test_closing(driver: Driver) -> None:
    """A driver that goes takes its pages with it, and its successor begins anew."""
    driver.device.inflate(2)
    driver.send(_response([(FIRST, 2)]))
    driver.device.closed()
    assert (driver.device.held, driver.device.is_ready, driver.device.is_busy) == ([], False, False)


RANGES = st.lists(
    st.tuples(st.integers(FIRST - 2, FIRST + 3000) | st.integers(0, 2**40 - 1), st.integers(0, 600))
)
MESSAGES = st.one_of(
    RANGES.map(lambda ranges: _response(ranges[:20], more=len(ranges) % 2 == 1)),
    st.tuples(st.integers(0, 12) | st.integers(0, 0xFFFF), st.binary(max_size=64)).map(
        lambda one: _message(*one)
    ),
    st.binary(max_size=40),
)


@given(messages=st.lists(MESSAGES, max_size=10), asked=st.integers(1, 600), back=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_message(sims: Any, messages: list[bytes], asked: int, back: bool) -> None:
    """Whatever a guest says, nothing raises; it never holds more than was asked for, and all of it is RAM."""
    with sims() as sim:
        driver = Driver(sim)
        device = driver.device
        device.inflate(asked)
        for message in messages:
            driver.send(message)
            if back:
                device.deflate()
        driver.guest.bus.poll(1.0)
        assert device.held_pages <= asked
        for each in device.held:
            assert driver.guest.memory.has_page(each.first)
            assert driver.guest.memory.has_page(each.first + each.count - 1)
