"""A guest in Python: the other side of every ring, message and call, with bytes packed by hand.

It follows Linux (drivers/hv, arch/arm64/hyperv) and imports none of the structures that it tests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from harness.hyperv.channel import Channel, Device, Offer
from harness.hyperv.hypercall import Hypercalls, ReferenceClock
from harness.hyperv.memory import GuestMemory
from harness.hyperv.synic import Synic
from harness.hyperv.vmbus import VmBus
from harness.hyperv.wire.numbers import VmbusVersion
from harness.hyperv.wire.packets import Packet
from harness.hyperv.wirelog import WireLog

BASE_PA = 0x4000_0000
HV = 4096
M64 = (1 << 64) - 1


class Recorder:
    """A device that keeps what it is given, and answers what `reply` says."""

    def __init__(self, name: str = "recorder", number: int = 1) -> None:
        self.name = name
        self.number = number
        self.channel: Channel | None = None
        self.packets: list[Packet] = []
        self.closes = 0
        self.ticks = 0
        self.echo = False

    def offer(self) -> Offer:
        return Offer(interface_type=UUID(int=self.number), instance=UUID(int=self.number << 64))

    def opened(self, channel: Channel) -> None:
        self.channel = channel

    def packet(self, channel: Channel, packet: Packet) -> None:
        self.packets.append(packet)
        if self.echo:
            channel.complete(packet.request_id, packet.data)

    def tick(self, now_s: float) -> None:
        self.ticks += 1

    def closed(self) -> None:
        self.closes += 1


@dataclass
class GuestRing:
    """One ring as Linux sees it: a header of a guest page, then data that is contiguous."""

    guest: SimGuest
    header_pa: int
    data_pa: int
    size: int

    def word(self, offset: int) -> int:
        return int(struct.unpack_from("<I", self.guest.ram, self.header_pa - BASE_PA + offset)[0])

    def set_word(self, offset: int, value: int) -> None:
        struct.pack_into("<I", self.guest.ram, self.header_pa - BASE_PA + offset, value)

    def put(self, at: int, data: bytes) -> None:
        for number, byte in enumerate(data):
            self.guest.ram[self.data_pa - BASE_PA + (at + number) % self.size] = byte

    def get(self, at: int, size: int) -> bytes:
        start = self.data_pa - BASE_PA
        return bytes(self.guest.ram[start + (at + number) % self.size] for number in range(size))

    def room(self) -> int:
        """hv_get_bytes_to_write()."""
        read, write = self.word(4), self.word(0)
        return self.size - (write - read) if write >= read else read - write

    def write(self, packet: bytes) -> bool | None:
        """hv_ringbuffer_write(): whether the host is to be signalled; None: -EAGAIN."""
        if self.room() <= len(packet) + 8:
            return None
        old = self.word(0)
        self.put(old, packet + struct.pack("<Q", old << 32))
        self.set_word(0, (old + len(packet) + 8) % self.size)
        return not self.word(8) and old == self.word(4)

    def read(self) -> tuple[bytes, bool] | None:
        """hv_pkt_iter_first() and _close(): a packet, and whether the host waits for its room."""
        read, write = self.word(4), self.word(0)
        if read == write:
            return None
        size = struct.unpack("<H", self.get(read + 4, 2))[0] * 8
        packet = self.get(read, size)
        self.set_word(4, (read + size + 8) % self.size)
        pending = self.word(12)
        room = self.room()
        return packet, bool(pending and room > pending and room - size - 8 <= pending)


def packet(data: bytes, *, kind: int = 6, head: bytes = b"", flags: int = 0, request_id: int = 0) -> bytes:
    """A packet's bytes, payload padded to 8."""
    data += bytes(-len(data) % 8)
    offset8 = (16 + len(head)) // 8
    return struct.pack("<HHHHQ", kind, offset8, offset8 + len(data) // 8, flags, request_id) + head + data


@dataclass
class Opened:
    """A channel that the guest has opened."""

    relid: int
    connection: int
    gpadl: int
    out: GuestRing
    into: GuestRing


@dataclass
class SimGuest:
    """The guest: its RAM, its page size, and the host's objects that it talks to."""

    devices: tuple[Device, ...] = ()
    page: int = HV
    vps: int = 1
    maximum: VmbusVersion = VmbusVersion.V5_3
    size: int = 8 << 20
    interrupts: list[int] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ram = bytearray(self.size)
        self.memory = GuestMemory(self.ram, BASE_PA)
        self.log = WireLog()
        self.synic = Synic(self.memory, self.vps, self.interrupts.append, self.log)
        self.bus = VmBus(self.memory, self.synic, self.devices, self.log, maximum=self.maximum)
        self.calls = Hypercalls(self.memory, self.synic, self.bus, self.log, ReferenceClock())
        self._free_pa = BASE_PA + (1 << 16)
        self._handle = 0xE1E10
        self._input_pa = self.alloc(HV)
        self.simp = [self.alloc(HV) for _ in range(self.vps)]
        self.siefp = [self.alloc(HV) for _ in range(self.vps)]
        self.events: list[tuple[int, int]] = []

    def close(self) -> None:
        self.memory.close()

    @property
    def violations(self) -> list[str]:
        return [str(violation) for violation in self.log.violations]

    # Memory and calls

    def alloc(self, size: int) -> int:
        """Whole guest pages, contiguous."""
        pa = -(-self._free_pa // self.page) * self.page
        self._free_pa = pa + -(-size // self.page) * self.page
        assert self._free_pa <= BASE_PA + self.size
        return pa

    def call(self, vp: int, *registers: int) -> list[int]:
        x = [0x4600_0001, *registers, *([0] * 18)][:18]
        self.calls.handle(vp, x)
        return x

    def set_register(self, register: int, value: int, vp: int = 0) -> int:
        return self.call(vp, 0x51 | 1 << 16 | 1 << 32, M64, 0xFFFF_FFFE, register, 0, value, 0)[0]

    def get_register(self, register: int, vp: int = 0) -> list[int]:
        return self.call(vp, 0x50 | 1 << 16 | 1 << 32, M64, 0xFFFF_FFFE, register)

    def enable_synic(self) -> None:
        """hv_synic_enable_regs()."""
        for vp in range(self.vps):
            assert self.set_register(0xA0013, self.simp[vp] | 1, vp) == 1 << 32
            assert self.set_register(0xA0012, self.siefp[vp] | 1, vp) == 1 << 32
            assert self.set_register(0xA0002, 18 | 1 << 17, vp) == 1 << 32
            assert self.set_register(0xA0010, 1, vp) == 1 << 32

    def post(self, body: bytes, connection: int = 4) -> int:
        """HVCALL_POST_MESSAGE."""
        at = self._input_pa - BASE_PA
        self.ram[at : at + 256] = struct.pack("<IIII", connection, 0, 1, len(body)) + body.ljust(240, b"\0")
        return self.call(0, 0x5C, self._input_pa)[0]

    def signal(self, connection: int) -> int:
        """HVCALL_SIGNAL_EVENT."""
        return self.call(0, 0x5D | 1 << 16, connection)[0]

    def take_messages(self, vp: int = 0) -> list[bytes]:
        """vmbus_on_msg_dpc() until the slot stays empty; returns what came, oldest first."""
        taken = []
        at = self.simp[vp] - BASE_PA + 2 * 256
        while struct.unpack_from("<I", self.ram, at)[0]:
            size, flags = self.ram[at + 4], self.ram[at + 5]
            taken.append(bytes(self.ram[at + 16 : at + 16 + size]))
            struct.pack_into("<I", self.ram, at, 0)
            if flags & 1:
                assert self.set_register(0xA0014, 0, vp) == 1 << 32
        return taken

    def take_events(self, vp: int = 0) -> set[int]:
        """The relids whose flag is set, cleared on the way."""
        at = self.siefp[vp] - BASE_PA + 2 * 256
        found = {bit for bit in range(2048) if self.ram[at + bit // 8] >> bit % 8 & 1}
        self.ram[at : at + 256] = bytes(256)
        return found

    # The bus

    def contact(self, version: int, connection: int = 4) -> tuple[int, int]:
        """INITIATE_CONTACT: supported, and the connection for what follows."""
        body = struct.pack("<IIIIQQQ", 14, 0, version, 0, 2 if version >= 5 << 16 else 0x4000_5000, 0, 0)
        assert self.post(body, connection) == 0
        (answer,) = self.take_messages()
        kind, _, supported, _, _, message_connection = struct.unpack("<IIBBHI", answer)
        assert kind == 15
        return supported, message_connection

    def offers(self) -> list[bytes]:
        """REQUESTOFFERS: the offers."""
        assert self.post(struct.pack("<II", 3, 0)) == 0
        *offers, end = self.take_messages()
        assert struct.unpack("<II", end) == (4, 0)
        return offers

    def connect(self) -> list[bytes]:
        """From nothing to offers."""
        self.enable_synic()
        assert self.contact(5 << 16 | 3) == (1, 4)
        return self.offers()

    def gpadl_messages(
        self, relid: int, handle: int, size: int, pfns: Iterable[int], *, offset: int = 0
    ) -> list[bytes]:
        """create_gpadl_header(): 26 page numbers in the first message, 28 in each further one."""
        numbers = list(pfns)
        first, rest = numbers[:26], numbers[26:]
        out = [
            struct.pack("<IIIIHHII", 8, 0, relid, handle, 8 + 8 * len(numbers), 1, size, offset)
            + struct.pack(f"<{len(first)}Q", *first)
        ]
        while rest:
            part, rest = rest[:28], rest[28:]
            out.append(struct.pack("<IIII", 9, 0, 0, handle) + struct.pack(f"<{len(part)}Q", *part))
        return out

    def share(self, relid: int, size: int, pfns: Iterable[int]) -> int:
        """vmbus_establish_gpadl(): the handle."""
        self._handle += 1
        for body in self.gpadl_messages(relid, self._handle, size, pfns):
            assert self.post(body) == 0
        (answer,) = self.take_messages()
        assert struct.unpack("<IIIII", answer) == (10, 0, relid, self._handle, 0), answer.hex()
        return self._handle

    def share_buffer(self, relid: int, size: int) -> tuple[int, int]:
        """A buffer of whole guest pages: handle and address."""
        pa = self.alloc(size)
        return self.share(relid, size, (pa // HV + index for index in range(size // HV))), pa

    def open(self, offer: bytes, payload: int = 12 << 10, vp: int = 0) -> Opened:
        """vmbus_alloc_ring() and vmbus_open(), with the header's padding left out of the GPADL."""
        relid, _, _, _, connection = struct.unpack("<IBBHI", offer[8 + 176 :])
        ring = payload if payload >= 8 * self.page else payload + self.page
        ring = -(-ring // self.page) * self.page
        pa = self.alloc(2 * ring)
        rings = [
            GuestRing(guest=self, header_pa=at, data_pa=at + self.page, size=ring - self.page)
            for at in (pa, pa + ring)
        ]
        pfns: list[int] = []
        for each in rings:
            each.set_word(64, 1)
            pfns += [each.header_pa // HV, *range(each.data_pa // HV, (each.data_pa + each.size) // HV)]
        handle = self.share(relid, len(pfns) * HV, pfns)
        downstream = (ring - (self.page - HV)) // HV
        body = struct.pack("<IIIIIII", 5, 0, relid, relid, handle, vp, downstream) + bytes(120)
        assert self.post(body) == 0
        (answer,) = self.take_messages()
        assert struct.unpack("<IIIII", answer) == (6, 0, relid, relid, 0), (answer.hex(), self.violations)
        self.serve()
        return Opened(relid=relid, connection=connection, gpadl=handle, out=rings[0], into=rings[1])

    def send(self, opened: Opened, raw: bytes) -> None:
        """Write a packet, signal if that is due, and let the host serve."""
        due = opened.out.write(raw)
        assert due is not None, "the guest's ring is full"
        if due:
            assert self.signal(opened.connection) == 0
        self.serve()

    def receive(self, opened: Opened) -> list[bytes]:
        """All packets that wait, with a signal for the host where it waits for room."""
        taken = []
        while (got := opened.into.read()) is not None:
            taken.append(got[0])
            if got[1]:
                assert self.signal(opened.connection) == 0
                self.serve()
        return taken

    def serve(self) -> None:
        """The host's thread, until it has nothing left to do at once."""
        for _ in range(10_000):
            if not self.bus.serve():
                return
        raise AssertionError("the host never comes to an end")


class Sim:
    """Makes guests, and what tests need beside them: tests have no package to import it from."""

    Guest = SimGuest
    Recorder = Recorder
    packet = staticmethod(packet)
    BASE_PA = BASE_PA

    def __init__(self) -> None:
        self.made: list[SimGuest] = []

    def __enter__(self) -> Sim:
        return self

    def __exit__(self, *_: object) -> None:
        for guest in self.made:
            guest.close()

    def guest(self, *devices: Device, page: int = HV, **options: object) -> SimGuest:
        made = SimGuest(devices=devices, page=page, **options)  # type: ignore[arg-type]
        self.made.append(made)
        return made

    def opened(self, device: Device, *, page: int = HV, **options: object) -> tuple[SimGuest, Opened]:
        """A guest that has opened the channel of its one device."""
        made = self.guest(device, page=page, **options)
        (offer,) = made.connect()
        return made, made.open(offer)


@pytest.fixture(scope="module")
def sims() -> type[Sim]:
    """`sims()` as a context makes guests, for tests that run many times over."""
    return Sim


@pytest.fixture
def sim() -> Iterator[Sim]:
    """Makes simulated guests: `sim.guest(device, page=16384)`."""
    with Sim() as made:
        yield made
