"""hv_sock in Python: connections of either side, their ends, and a guest that says anything it likes."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.hyperv.channel import MAX_UNSENT
from harness.hyperv.devices.hvsock import MAX_CONNECTIONS, UNOPENED_S, SocketHost
from harness.hyperv.net.streams import Echo, Sink, Source
from harness.hyperv.wire.hvsock import port_of, service_id

ECHO, SOURCE, NOBODY = 7, 19, 99
OWN_PORT = 0x400
CONTENT = bytes(range(256)) * 200
TYPE_AT, INSTANCE_AT, USER_AT, RELID_AT = 8, 24, 60, 184
"""In an offer: two GUIDs, 16 bytes, flags, MMIO, 120 bytes of the user's, 4 more (vmbus_channel_offer)."""


class Guest:
    """The driver's part, with bytes packed by hand."""

    def __init__(self, sim: Any, clock: list[float], page: int = 4096) -> None:
        self.packet = sim.packet
        self.guest = sim.guest(page=page)
        self.sockets = SocketHost({ECHO: Echo, SOURCE: lambda: Source(CONTENT)}, clock=lambda: clock[0])
        self.guest.bus.services = self.sockets
        assert self.guest.connect() == []

    def want(self, service: UUID, endpoint: UUID) -> list[bytes]:
        """vmbus_send_tl_connect_request(): the offers that follow."""
        body = struct.pack("<II", 21, 0) + endpoint.bytes_le + service.bytes_le
        assert self.guest.post(body) == 0
        return list(self.guest.take_messages())

    def piece(self, opened: Any, data: bytes) -> None:
        """__hvs_send_data()."""
        self.guest.send(opened, self.packet(struct.pack("<II", 1, len(data)) + data))

    def pieces(self, opened: Any) -> list[bytes]:
        """hvs_stream_dequeue(), until nothing is there."""
        found = []
        for raw in self.guest.receive(opened):
            kind, offset8 = struct.unpack_from("<HH", raw)
            tag, size = struct.unpack_from("<II", raw, offset8 * 8)
            assert (kind, tag) == (6, 1)
            found.append(raw[offset8 * 8 + 8 :][:size])
        return found


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def guest(sim: Any, clock: list[float]) -> Guest:
    return Guest(sim, clock)


def _relid(offer: bytes) -> int:
    return int(struct.unpack_from("<I", offer, RELID_AT)[0])


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_a_connection_from_the_guest(sim: Any, clock: list[float], page: int) -> None:
    """The channel has the service for a type and the guest's endpoint for an instance; bytes come back."""
    guest = Guest(sim, clock, page)
    (offer,) = guest.want(service_id(ECHO), service_id(OWN_PORT))
    assert offer[TYPE_AT:INSTANCE_AT] == service_id(ECHO).bytes_le
    assert offer[INSTANCE_AT : INSTANCE_AT + 16] == service_id(OWN_PORT).bytes_le
    opened = guest.guest.open(offer, payload=24 << 10)
    guest.piece(opened, b"hello")
    guest.piece(opened, b", world")
    assert b"".join(guest.pieces(opened)) == b"hello, world"
    assert guest.guest.violations == []


def test_both_ends(guest: Guest) -> None:
    """When both streams have ended the channel is taken back, for which the guest waits."""
    (offer,) = guest.want(service_id(SOURCE), service_id(OWN_PORT))
    opened = guest.guest.open(offer, payload=24 << 10)
    got: list[bytes] = []
    while not got or got[-1]:
        got += guest.pieces(opened)
    assert b"".join(got) == CONTENT
    assert max(map(len, got)) == 16 << 10
    guest.guest.bus.poll(1.0)
    assert guest.guest.take_messages() == []
    guest.piece(opened, b"")
    guest.guest.bus.poll(1.1)
    assert guest.guest.take_messages() == [struct.pack("<III", 2, 0, _relid(offer))]
    assert guest.sockets.connections == []
    assert guest.guest.violations == []


def test_a_guest_that_closes_first(guest: Guest) -> None:
    """A channel that the guest closes without a word is taken back too, and not offered again."""
    (offer,) = guest.want(service_id(ECHO), service_id(OWN_PORT))
    guest.guest.open(offer, payload=24 << 10)
    assert guest.guest.post(struct.pack("<III", 7, 0, _relid(offer))) == 0
    guest.guest.bus.poll(1.0)
    assert guest.guest.take_messages() == [struct.pack("<III", 2, 0, _relid(offer))]
    guest.guest.bus.disconnect()
    assert guest.guest.contact(5 << 16 | 3) == (1, 4)
    assert guest.guest.offers() == []


def test_nobody_there(guest: Guest) -> None:
    """A service that is not offered is not answered, and counted: Linux gives up by itself."""
    assert guest.want(service_id(NOBODY), service_id(OWN_PORT)) == []
    assert guest.sockets.refused == {"no such service": 1}
    assert guest.guest.violations == []


def test_never_opened(guest: Guest, clock: list[float]) -> None:
    """What the guest does not open is taken back after half a minute."""
    (offer,) = guest.want(service_id(ECHO), service_id(OWN_PORT))
    guest.guest.bus.poll(UNOPENED_S - 1)
    assert guest.guest.take_messages() == []
    guest.guest.bus.poll(UNOPENED_S)
    assert guest.guest.take_messages() == [struct.pack("<III", 2, 0, _relid(offer))]


def test_a_connection_from_the_host(guest: Guest) -> None:
    """It is offered unasked, of the guest's port for a type, and says who began."""
    sink = Sink()
    made = guest.sockets.connect(guest.guest.bus, 5000, sink)
    (offer,) = guest.guest.take_messages()
    assert port_of(UUID(bytes_le=offer[TYPE_AT:INSTANCE_AT])) == 5000
    assert offer[USER_AT : USER_AT + 5] == struct.pack("<IB", 0, 1)
    opened = guest.guest.open(offer, payload=24 << 10)
    guest.piece(opened, b"to the host")
    guest.piece(opened, b"")
    assert sink.size_bytes == 11
    assert made.opened_once


def test_no_more_than_so_many(guest: Guest) -> None:
    """A guest that connects without end has so many channels, and the rest is refused."""
    for number in range(MAX_CONNECTIONS + 5):
        guest.want(service_id(ECHO), service_id(OWN_PORT + number))
    assert len(guest.sockets.connections) == MAX_CONNECTIONS
    assert guest.sockets.refused == {"too many connections": 5}


def test_a_guest_that_does_not_read(guest: Guest) -> None:
    """What waits for a guest that only sends is bounded: its own pieces are not read meanwhile."""
    (offer,) = guest.want(service_id(ECHO), service_id(OWN_PORT))
    opened = guest.guest.open(offer, payload=24 << 10)
    raw = guest.packet(struct.pack("<II", 1, 4000) + bytes(4000))
    for _ in range(4 * MAX_UNSENT):
        if opened.out.write(raw) is None:
            break
        guest.guest.signal(opened.connection)
        guest.guest.serve()
    else:
        pytest.fail("everything was read")
    (channel,) = guest.guest.bus.channels
    assert channel.unsent <= MAX_UNSENT + 1


@pytest.mark.parametrize("body", [b"", struct.pack("<II", 2, 0), struct.pack("<II", 1, 9)])
def test_what_is_no_piece(guest: Guest, body: bytes) -> None:
    """A header that is short, of another type, or announces more than is there is a finding, and no more."""
    (offer,) = guest.want(service_id(ECHO), service_id(OWN_PORT))
    opened = guest.guest.open(offer, payload=24 << 10)
    guest.guest.send(opened, guest.packet(body))
    assert len(guest.guest.violations) == 1
    guest.piece(opened, b"still there")
    assert guest.pieces(opened) == [b"still there"]


def test_services_of_no_port(guest: Guest) -> None:
    """A request whose endpoints are no ports' is a finding; one for a host without services too."""
    assert guest.want(UUID(int=1), service_id(OWN_PORT)) == []
    guest.guest.bus.services = None
    assert guest.want(service_id(ECHO), service_id(OWN_PORT)) == []
    assert len(guest.guest.violations) == 2


@given(bodies=st.lists(st.binary(max_size=64), max_size=8), kind=st.sampled_from([6, 7, 9, 11]))
def test_any_packet(sims: Any, bodies: list[bytes], kind: int) -> None:
    """Whatever a guest writes into a socket's ring, nothing raises, and the host comes to an end."""
    with sims() as sim:
        guest = Guest(sim, [0.0])
        (offer,) = guest.want(service_id(ECHO), service_id(OWN_PORT))
        opened = guest.guest.open(offer, payload=24 << 10)
        for body in bodies:
            guest.guest.send(opened, guest.packet(body, kind=kind))
        guest.guest.bus.poll(1.0)
