"""netvsc in Python: what Linux's driver sends, with bytes packed by hand, at any page size."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import pytest

from harness.hyperv.checker import WireChecker
from harness.hyperv.devices.netvsc import Netvsc

HV = 4096
BASE_PA = 0x4000_0000
NO_SECTION = 0xFFFF_FFFF
VERSIONS = (0x60001, 0x60000, 0x50000, 0x40000, 0x30002, 2)


class Mirror:
    """A station that keeps what it gets and gives back what a test puts in."""

    def __init__(self) -> None:
        self.mtu = 0
        self.got: list[bytes] = []
        self.back: list[bytes] = []
        self.due: list[bytes] = []

    def link_mtu(self, mtu: int) -> None:
        self.mtu = mtu

    def receive(self, data: bytes, now_s: float) -> Iterable[bytes]:
        self.got.append(data)
        back, self.back = self.back, []
        return back

    def tick(self, now_s: float) -> Iterable[bytes]:
        due, self.due = self.due, []
        return due


class Driver:
    """netvsc.c and rndis_filter.c, the parts that speak. `into` is what came through the receive buffer."""

    def __init__(self, guest: Any, opened: Any, packet: Any, *, hold: bool = False) -> None:
        self.guest, self.opened, self.packet = guest, opened, packet
        self.hold = hold
        """True: packets are not given back until `release`."""
        self.completions: dict[int, bytes] = {}
        self.into: list[tuple[Any, int, bytes]] = []
        """Channel, channel type and message."""
        self.held: list[tuple[Any, int]] = []
        self.batches: list[int] = []
        self.version = self.section = self.receive_section = 0
        self.receive_pa = self.send_pa = 0
        self._id = 0

    # Packets

    def collect(self, opened: Any = None) -> None:
        """netvsc_poll()."""
        opened = opened or self.opened
        while True:
            packets = self.guest.receive(opened)
            for raw in packets:
                kind, offset8, _, _, request_id = struct.unpack_from("<HHHHQ", raw)
                data = raw[offset8 * 8 :]
                if kind == 11:
                    self.completions[request_id] = data
                    continue
                assert kind == 7, raw.hex()
                set_id, _, _, count = struct.unpack_from("<HBBI", raw, 16)
                assert set_id == 0xCAFE
                nvsp, channel_type = struct.unpack_from("<II", data)
                assert nvsp == 107
                self.batches.append(count)
                for index in range(count):
                    size, at = struct.unpack_from("<II", raw, 24 + 8 * index)
                    assert size <= self.receive_section
                    assert at % self.receive_section == 0
                    start = self.receive_pa - BASE_PA + at
                    self.into.append((opened, channel_type, bytes(self.guest.ram[start : start + size])))
                self.held.append((opened, request_id))
            if not self.hold:
                self.release()
            if not packets:
                return

    def release(self) -> None:
        """send_recv_completions()."""
        held, self.held = self.held, []
        for opened, request_id in held:
            body = struct.pack("<II", 108, 1)
            self.guest.send(opened, self.packet(body, kind=11, request_id=request_id))

    def post(
        self, body: bytes, *, ranges: list[tuple[int, int, list[int]]] | None = None, flags: int = 1,
        opened: Any = None,
    ) -> bytes:  # fmt: skip
        """A message of ours; the completion, or nothing where none was wanted."""
        self._id += 1
        head = b""
        if ranges is not None:
            head = struct.pack("<II", 0, len(ranges))
            for size, offset, pfns in ranges:
                head += struct.pack(f"<II{len(pfns)}Q", size, offset, *pfns)
        self.guest.send(
            opened or self.opened,
            self.packet(
                body.ljust(40, b"\0"), kind=9 if head else 6, head=head, flags=flags, request_id=self._id
            ),
        )
        self.collect(opened)
        return self.completions.pop(self._id, b"")

    # NVSP

    def negotiate(self, versions: Iterable[int] = VERSIONS) -> int:
        """negotiate_nvsp_ver() until it agrees."""
        for version in versions:
            answer = self.post(struct.pack("<III", 1, version, version))
            kind, agreed, _, status = struct.unpack_from("<IIII", answer)
            assert kind == 2
            if status == 1:
                assert agreed == version
                self.version = version
                return version
        raise AssertionError("no version was agreed on")

    def buffers(self, *, receive: int = 1 << 20, send: int = 1 << 20) -> None:
        """netvsc_init_buf()."""
        for size, kind, buffer_id in ((receive, 101, 0xCAFE), (send, 104, 0)):
            size = -(-size // self.guest.page) * self.guest.page
            handle, pa = self.guest.share_buffer(self.opened.relid, size)
            answer = self.post(struct.pack("<IIH", kind, handle, buffer_id))
            assert struct.unpack_from("<II", answer) == (kind + 1, 1)
            if kind == 101:
                sections, offset, each, count, end = struct.unpack_from("<IIIII", answer, 8)
                assert (sections, offset, end) == (1, 0, each * count)
                assert 1 <= count <= size // each
                self.receive_pa, self.receive_section, self.receive_count = pa, each, count
            else:
                self.send_pa, (self.section,) = pa, struct.unpack_from("<I", answer, 8)
        self.pages_pa = self.guest.alloc(1 << 19)

    def start(self, *, mtu: int = 1500, versions: Iterable[int] = VERSIONS, **sizes: int) -> None:
        """netvsc_connect_vsp() and rndis_filter_init_device(), then a filter that lets all in."""
        if self.negotiate(versions) > 2:
            assert self.post(struct.pack("<IIIQ", 125, mtu + 14, 0, 0x88), flags=0) == b""
        self.post(struct.pack("<III", 100, 6, 0x1E), flags=0)
        self.buffers(**sizes)
        answer = self.control(2, struct.pack("<III", 1, 0, 0x4000))
        assert struct.unpack_from("<I", answer, 4) == (0,)
        assert self.set(0x1010E, struct.pack("<I", 0xD)) == 0

    def stop(self) -> None:
        """rndis_filter_device_remove(): halt, revoke, close, give back."""
        self.rndis(3, struct.pack("<I", 77), control=True)
        self.post(struct.pack("<IH", 103, 0xCAFE), flags=0)
        self.post(struct.pack("<IH", 106, 0), flags=0)
        self.guest.post(struct.pack("<III", 7, 0, self.opened.relid))

    # RNDIS

    def carry(
        self, stream: bytes, *, control: bool = False, section: int | None = None, split_at: int = 0,
        opened: Any = None, offset: int = 0,
    ) -> int:  # fmt: skip
        """Send messages: in a section, in pages, or (with `split_at`) the first so many bytes in a section.

        The completion's status.
        """
        head, rest = (
            (stream, b"") if section is not None and not split_at else (stream[:split_at], stream[split_at:])
        )
        index = NO_SECTION
        if section is not None:
            index = section
            at = self.send_pa - BASE_PA + section * self.section
            self.guest.ram[at : at + len(head)] = head
        ranges = None
        if rest:
            at = self.pages_pa - BASE_PA + offset
            self.guest.ram[at : at + len(rest)] = rest
            # A first range that ends in the middle of a page, as an skb's linear part does.
            cut = min(len(rest), 100)
            ranges = [
                self._range(self.pages_pa + offset + start, size)
                for start, size in ((0, cut), (cut, len(rest) - cut)) if size
            ]  # fmt: skip
        body = struct.pack("<IIII", 107, int(control), index, len(head) if section is not None else 0)
        answer = self.post(body, ranges=ranges, opened=opened)
        kind, status = struct.unpack_from("<II", answer)
        assert kind == 108
        return int(status)

    @staticmethod
    def _range(pa: int, size: int) -> tuple[int, int, list[int]]:
        pages = (pa % HV + size + HV - 1) // HV
        return size, pa % HV, [pa // HV + index for index in range(pages)]

    def rndis(self, kind: int, body: bytes, **options: Any) -> int:
        return self.carry(struct.pack("<II", kind, 8 + len(body)) + body, **options)

    def control(self, kind: int, body: bytes) -> bytes:
        """rndis_filter_send_request(), always in pages: the answer's body."""
        self._request = getattr(self, "_request", 0) + 1
        assert self.rndis(kind, struct.pack("<I", self._request) + body, control=True, offset=HV - 30) == 1
        ((_, channel_type, message),) = self.into
        self.into.clear()
        answer, size, request = struct.unpack_from("<III", message)
        assert (channel_type, answer, size, request) == (1, kind | 1 << 31, len(message), self._request)
        return message[8:]

    def query(self, oid: int, given: bytes = b"") -> bytes | None:
        answer = self.control(4, struct.pack("<IIII", oid, len(given), 20, 0) + given)
        _, status, size, offset = struct.unpack_from("<IIII", answer)
        assert offset == 16
        assert size == len(answer) - 16
        return answer[16:] if status == 0 else None

    def set(self, oid: int, value: bytes) -> int:
        answer = self.control(5, struct.pack("<IIII", oid, len(value), 20, 0) + value)
        return int(struct.unpack_from("<I", answer, 4)[0])

    @staticmethod
    def message(frame: bytes, information: Iterable[tuple[int, int]] = (), pad: int = 0) -> bytes:
        """netvsc_xmit(): an RNDIS packet with its information."""
        info = b"".join(struct.pack("<IIII", 16, kind, 12, value) for kind, value in information)
        head = struct.pack("<9I", 36 + len(info), len(frame), 0, 0, 0, 36 if info else 0, len(info), 0, 0)
        return struct.pack("<II", 1, 44 + len(info) + len(frame) + pad) + head + info + frame + bytes(pad)

    def frames(self) -> list[bytes]:
        """Frames that came so far, with what they were said to be."""
        out = []
        for _, channel_type, message in self.into:
            kind, size, data_at, data_size = struct.unpack_from("<IIII", message)
            assert (channel_type, kind, size) == (0, 1, len(message))
            out.append(message[8 + data_at : 8 + data_at + data_size])
        self.into.clear()
        return out


class NetSim:
    """Makes adapters with a driver each."""

    again = Driver

    def __init__(self, sim: Any) -> None:
        self.sim = sim

    def driver(
        self, *, page: int = HV, start: bool = True, vps: int = 1, station: Any = None, hold: bool = False,
        starting: dict[str, Any] | None = None, **options: Any,
    ) -> tuple[Driver, Netvsc, Any]:  # fmt: skip
        """A guest with netvsc's driver on an adapter; everything it does is watched by the wire checker."""
        made = station or Mirror()
        device = Netvsc(made, **options)
        guest = self.sim.guest(device, page=page, size=16 << 20, vps=vps)
        self.checker = WireChecker(guest.log, guest.memory, page)
        guest.enable_synic()
        monitor = [guest.alloc(page) for _ in range(2)]
        guest.post(struct.pack("<IIIIQQQ", 14, 0, 0x50003, 0, 2, *monitor))
        guest.take_messages()
        (offer,) = guest.offers()
        driver = Driver(guest, guest.open(offer, 512 << 10), self.sim.packet, hold=hold)
        if start:
            driver.start(**(starting or {}))
        return driver, device, made


@pytest.fixture(scope="module")
def netsims() -> type[NetSim]:
    """`netsims(sim)` makes adapters, for tests that run many times over."""
    return NetSim


@pytest.fixture
def netsim(sim: Any) -> NetSim:
    """Makes adapters with drivers: `netsim.driver(page=16384)`."""
    return NetSim(sim)
