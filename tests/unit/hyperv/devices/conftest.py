"""storvsc in Python: what Linux's driver sends, with bytes packed by hand, at any page size."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.disk import ScsiDisk
from harness.hyperv.scsi.inquiry import DiskIdentity

HV = 4096
BASE_PA = 0x4000_0000


class Ended:
    """A completion: SRB status, SCSI status, sense, and the length that was transferred."""

    def __init__(self, raw: bytes) -> None:
        self.operation, self.flags, self.status = struct.unpack_from("<III", raw)
        self.body = raw[12:]
        self.srb, self.scsi = raw[14], raw[15]
        self.sense_length = raw[21]
        (self.length,) = struct.unpack_from("<I", raw, 24)
        self.sense = raw[28:48]

    @property
    def key(self) -> tuple[int, int, int]:
        return self.sense[2], self.sense[12], self.sense[13]


class Driver:
    """storvsc_drv.c, the parts that speak: initialisation and commands."""

    def __init__(self, guest: Any, opened: Any, packet: Callable[..., bytes]) -> None:
        self.guest, self.opened, self.packet = guest, opened, packet
        self.answers: dict[int, Ended] = {}
        self.unsolicited: list[bytes] = []
        self._id = 0
        self.buffer_pa = guest.alloc(1 << 20)

    def collect(self) -> None:
        """storvsc_on_channel_callback()."""
        for raw in self.guest.receive(self.opened):
            kind, offset8, _, _, request_id = struct.unpack_from("<HHHHQ", raw)
            if kind == 11:
                self.answers[request_id] = Ended(raw[offset8 * 8 :])
            else:
                self.unsolicited.append(raw[offset8 * 8 :])

    def post(self, body: bytes, *, head: bytes = b"", flags: int = 1) -> int:
        self._id += 1
        self.guest.send(
            self.opened,
            self.packet(body, kind=9 if head else 6, head=head, flags=flags, request_id=self._id),
        )
        self.collect()
        return self._id

    def operation(self, number: int, payload: bytes = b"") -> Ended:
        """storvsc_execute_vstor_op()."""
        return self.answers[self.post(struct.pack("<III", number, 1, 0) + payload.ljust(52, b"\0"))]

    def initialise(self, versions: tuple[int, ...] = (0x602, 0x600, 0x501)) -> int:
        """storvsc_channel_init(): the version agreed on."""
        assert self.operation(7).status == 0
        agreed = 0
        for version in versions:
            if self.operation(9, struct.pack("<HH", version, 0)).status == 0:
                agreed = version
                break
        assert agreed
        assert self.operation(10).status == 0
        assert self.operation(8).status == 0
        return agreed

    def start(
        self, cdb: bytes, *, length: int = 0, write: bool = False, offset: int = 0,
        at: tuple[int, int, int] = (0, 0, 0), pages: tuple[int, ...] | None = None,
        range_length: int | None = None, cdb_length: int | None = None,
    ) -> int:  # fmt: skip
        """storvsc_queuecommand(): the request's id. `at` is path, target, LUN."""
        path, target, lun = at
        direction = 2 if not length else int(not write)
        srb = struct.pack(
            "<HBBBBBBBBBBI16s4xHBBIII", 52, 0, 0, 0, path, target, lun,
            len(cdb) if cdb_length is None else cdb_length, 20, direction, 0, length, cdb, 0, 0xFF, 0x20,
            8 | (0x80 if write else 0x40), 60, 0,
        )  # fmt: skip
        body = struct.pack("<III", 3, 1, 0) + srb
        assert len(body) == 64
        if not length:
            return self.post(body)
        size = length if range_length is None else range_length
        if pages is None:
            first = (self.buffer_pa + offset) // HV
            pages = tuple(range(first, (self.buffer_pa + offset + size + HV - 1) // HV))
        head = struct.pack("<IIII", 0, 1, size, offset % HV) + struct.pack(f"<{len(pages)}Q", *pages)
        return self.post(body, head=head)

    def command(self, cdb: bytes, **options: Any) -> Ended:
        return self.answers[self.start(cdb, **options)]

    def read_buffer(self, length: int, offset: int = 0) -> bytes:
        start = self.buffer_pa - BASE_PA + offset
        return bytes(self.guest.ram[start : start + length])

    def fill_buffer(self, data: bytes, offset: int = 0) -> None:
        start = self.buffer_pa - BASE_PA + offset
        self.guest.ram[start : start + len(data)] = data

    def told(self, cdb: bytes, length: int) -> bytes:
        """A command that only asks: what it was told."""
        self.fill_buffer(b"\xaa" * length)
        ended = self.command(cdb, length=length)
        assert (ended.srb, ended.scsi) == (1, 0), (ended.srb, ended.scsi, ended.key)
        return self.read_buffer(ended.length)


def read_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


class Stor:
    """Makes disks with a driver each, and has the commands that tests send."""

    read_10 = staticmethod(read_10)
    write_10 = staticmethod(write_10)

    def __init__(self, sim: Any) -> None:
        self.sim = sim
        self.backings: list[Backing] = []

    def driver(
        self, *, blocks: int = 4096, page: int = HV, initialise: bool = True, unmap: int = 0,
        read_only: bool = False, **options: Any,
    ) -> tuple[Driver, Storvsc]:  # fmt: skip
        """A guest with storvsc's driver on a disk of zeros."""
        backing = Backing(blocks * 512)
        self.backings.append(backing)
        identity = DiskIdentity(max_unmap_blocks=unmap)
        device = Storvsc(ScsiDisk(backing, identity, read_only=read_only), **options)
        guest = self.sim.guest(device, page=page, size=32 << 20)
        (offer,) = guest.connect()
        driver = Driver(guest, guest.open(offer, 128 << 10), self.sim.packet)
        if initialise:
            driver.initialise()
        return driver, device


@pytest.fixture
def stor(sim: Any) -> Iterator[Stor]:
    """Makes disks with drivers: `stor.driver(page=16384)`."""
    made = Stor(sim)
    yield made
    for backing in made.backings:
        backing.close()
