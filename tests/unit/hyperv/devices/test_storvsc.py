"""Tests of harness.hyperv.devices.storvsc, by a driver that speaks Linux's side."""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import pytest

from harness.hyperv.devices.faults import Fault
from harness.hyperv.scsi.command import CAPACITY_CHANGED, MEDIUM_READ_ERROR
from harness.hyperv.violation import Rule
from harness.hyperv.wire.storvsc import SrbStatus, VstorVersion

# The fixture's Stor: tests have no package to import it from.
Stor = Any

PAGES = pytest.mark.parametrize("page", [4096, 16384, 65536])
MIB = bytes(range(256)) * 4096


@PAGES
def test_written_and_read_back(stor: Stor, page: int) -> None:
    """At each page size, data at any block and offset comes back, and the rest of the disk stays."""
    driver, device = stor.driver(page=page)
    random_ = random.Random(page)  # noqa: S311 - content to compare, not a secret
    disk = bytearray(4096 * 512)
    for _ in range(60):
        blocks = random_.randrange(1, 200)
        lba, offset = random_.randrange(4096 - blocks), 512 * random_.randrange(40)
        data = random_.randbytes(blocks * 512)
        driver.fill_buffer(data, offset)
        ended = driver.command(stor.write_10(lba, blocks), length=len(data), write=True, offset=offset)
        assert (ended.srb, ended.scsi, ended.length) == (1, 0, len(data))
        disk[lba * 512 : lba * 512 + len(data)] = data
        driver.fill_buffer(bytes(len(data)), offset)
        ended = driver.command(stor.read_10(lba, blocks), length=len(data), offset=offset)
        assert (ended.srb, ended.scsi, ended.length) == (1, 0, len(data))
        assert driver.read_buffer(len(data), offset) == data
    whole = device.disk.backing.read(0, 4096 * 512)
    assert hashlib.md5(whole).digest() == hashlib.md5(disk).digest()  # noqa: S324 - to compare
    assert driver.guest.violations == []
    assert device.bytes_read == device.bytes_written > 0
    assert max(device.pages) > 20


def test_scattered_pages(stor: Stor) -> None:
    """Data goes to the pages that are listed, in their order, and to nothing beside them."""
    driver, device = stor.driver()
    device.disk.backing.write(0, MIB[:8192])
    base = driver.buffer_pa // 4096
    ended = driver.command(stor.read_10(0, 16), length=8192, pages=(base + 9, base + 2))
    assert ended.srb == 1
    assert driver.read_buffer(4096, 9 * 4096) == MIB[:4096]
    assert driver.read_buffer(4096, 2 * 4096) == MIB[4096:8192]
    assert driver.read_buffer(4096, 3 * 4096) == bytes(4096)


@pytest.mark.parametrize(
    ("maximum", "agreed"),
    [(VstorVersion.WIN10, 0x602), (VstorVersion.WIN8_1, 0x600), (VstorVersion.WIN8, 0x501)],
)
def test_versions(stor: Stor, maximum: VstorVersion, agreed: int) -> None:
    """The guest asks from new to old and gets the newest that the host has."""
    driver, device = stor.driver(initialise=False, maximum=maximum)
    assert driver.initialise() == agreed
    assert device.version == agreed


def test_an_old_host_is_refused_by_all(stor: Stor) -> None:
    """A host of Windows 7 agrees to nothing that Linux asks for today, and to 4.2 when asked."""
    driver, device = stor.driver(initialise=False, maximum=VstorVersion.WIN7)
    assert driver.operation(7).status == 0
    for version in (0x602, 0x600, 0x501, 0x999):
        assert driver.operation(9, struct.pack("<HH", version, 0)).status != 0
    assert driver.operation(9, struct.pack("<HH", 0x402, 0)).status == 0
    assert device.version is VstorVersion.WIN7


def test_properties(stor: Stor) -> None:
    """The host's limit reaches the guest, with no sub-channels."""
    driver, _ = stor.driver(initialise=False, max_transfer_bytes=0x20000)
    driver.operation(7)
    driver.operation(9, struct.pack("<HH", 0x602, 0))
    _, channels, _, flags, limit, _ = struct.unpack_from("<IHHIIQ", driver.operation(10).body)
    assert (channels, flags, limit) == (0, 0, 0x20000)


def test_out_of_order(stor: Stor) -> None:
    """A command before the end of initialisation is refused and said, and so is a second beginning."""
    driver, _ = stor.driver(initialise=False)
    assert driver.command(bytes(6)).srb == SrbStatus.INVALID_REQUEST
    assert driver.operation(7).status == 0
    assert driver.operation(7).status != 0
    assert driver.guest.log.counts == {Rule.DEVICE: 2}


def test_opened_anew(stor: Stor) -> None:
    """After a close the device begins at the beginning (storvsc_suspend(), storvsc_resume())."""
    driver, _ = stor.driver()
    driver.guest.post(struct.pack("<III", 7, 0, driver.opened.relid))
    offer = b"\0" * 184 + struct.pack("<IBBHI", driver.opened.relid, 0, 0, 1, driver.opened.connection)
    driver.opened = driver.guest.open(offer, 128 << 10)
    assert driver.initialise() == 0x602
    assert driver.command(bytes(6)).srb == 1
    assert driver.guest.violations == []


def test_scan_of_empty_targets(stor: Stor) -> None:
    """Where no unit is, INQUIRY and REPORT LUNS succeed and say so, and INVALID_LUN is never answered."""
    driver, _ = stor.driver()
    for at in ((0, 1, 0), (1, 0, 0), (7, 1, 0), (0, 0, 1)):
        ended = driver.command(bytes([0x12, 0, 0, 0, 36, 0]), length=36, at=at)
        assert (ended.srb, ended.scsi, ended.length) == (1, 0, 36)
        assert driver.read_buffer(1) == b"\x7f"
        ended = driver.command(struct.pack(">BxB3xIxx", 0xA0, 0, 4096), length=4096, at=at)
        assert (ended.srb, ended.scsi, ended.length) == (1, 0, 8)
        assert driver.read_buffer(8) == bytes(8)
        ended = driver.command(bytes(6), at=at)
        assert (ended.srb, ended.scsi, ended.key) == (0x84, 2, (5, 0x25, 0))
    assert driver.guest.violations == []


def test_unplugged(stor: Stor) -> None:
    """A disk that is taken away makes the driver scan, and then says INVALID_LUN to every command."""
    driver, device = stor.driver()
    device.unplug()
    driver.collect()
    assert [struct.unpack_from("<I", raw)[0] for raw in driver.unsolicited] == [11]
    assert driver.command(bytes(6)).srb == SrbStatus.INVALID_LUN


@pytest.mark.parametrize("page", [0, 0x3FFFF, 1 << 52, (1 << 64) - 1])
def test_pages_that_are_not_ram(stor: Stor, page: int) -> None:
    """A page number outside RAM is a violation and an SRB error, and nothing of the disk is touched."""
    driver, device = stor.driver()
    ended = driver.command(stor.write_10(0, 8), length=4096, write=True, pages=(page,))
    assert ended.srb == SrbStatus.INVALID_REQUEST
    assert driver.guest.log.counts == {Rule.MEMORY: 1}
    assert device.bytes_written == 0


def test_lengths_that_disagree(stor: Stor) -> None:
    """A range of another length than the SRB's, or over the limit, is a violation and an SRB error."""
    driver, _ = stor.driver(max_transfer_bytes=0x10000)
    assert driver.command(stor.read_10(0, 8), length=4096, range_length=8192).srb == 6
    assert driver.command(stor.read_10(0, 256), length=0x20000).srb == 6
    assert driver.command(stor.read_10(0, 8), length=4096, cdb_length=17).srb == 6
    assert driver.guest.log.counts == {Rule.DEVICE: 3}
    assert driver.command(stor.read_10(0, 128), length=0x10000).srb == 1


def test_two_ranges(stor: Stor) -> None:
    """storvsc sends one range; two are a violation and an SRB error."""
    driver, _ = stor.driver()
    base = driver.buffer_pa // 4096
    srb = struct.pack("<HBBBBBBBBBBI16s20x", 52, 0, 0, 0, 0, 0, 0, 10, 20, 1, 0, 512, stor.read_10(0, 1))
    head = struct.pack("<II", 0, 2) + struct.pack("<IIQ", 256, 0, base) * 2
    number = driver.post(struct.pack("<III", 3, 1, 0) + srb, head=head)
    assert driver.answers[number].srb == SrbStatus.INVALID_REQUEST
    assert driver.guest.log.counts == {Rule.DEVICE: 1}


@pytest.mark.parametrize("body", [b"", b"\x03\0\0\0", bytes(60), struct.pack("<III", 99, 1, 0) + bytes(52)])
def test_packets_that_are_none(stor: Stor, body: bytes) -> None:
    """What is no vstor_packet, or has no operation that exists, is said and refused; the next one works."""
    driver, _ = stor.driver()
    number = driver.post(body)
    assert driver.answers[number].status != 0
    assert sum(driver.guest.log.counts.values()) == 1
    assert driver.command(bytes(6)).srb == 1


def test_without_completion_flag(stor: Stor) -> None:
    """A request that wants no answer is a violation, and gets none."""
    driver, _ = stor.driver()
    number = driver.post(struct.pack("<III", 3, 1, 0) + bytes(52), flags=0)
    assert number not in driver.answers
    assert driver.guest.log.counts == {Rule.DEVICE: 1}


def test_injected_sense(stor: Stor) -> None:
    """The command that a fault is for fails with its sense data; those before and after it do not."""
    fault = Fault(opcodes=frozenset({0x28}), after=1, times=2, sense=MEDIUM_READ_ERROR)
    driver, device = stor.driver(faults=[fault])
    ends = [driver.command(stor.read_10(0, 8), length=4096) for _ in range(4)]
    assert [(end.srb, end.scsi) for end in ends] == [(1, 0), (0x84, 2), (0x84, 2), (1, 0)]
    assert ends[1].key == (3, 0x11, 0)
    assert (ends[1].length, ends[1].sense_length) == (0, 18)
    assert device.faults.injected == 2


def test_injected_srb_status(stor: Stor) -> None:
    """An adapter's error comes without sense data, or with it."""
    driver, device = stor.driver(faults=[Fault(srb_status=SrbStatus.TIMEOUT)])
    ended = driver.command(stor.read_10(0, 8), length=4096)
    assert (ended.srb, ended.scsi, ended.sense_length) == (9, 0, 0)
    device.faults.add(Fault(srb_status=SrbStatus.ABORTED, sense=CAPACITY_CHANGED))
    ended = driver.command(stor.read_10(0, 8), length=4096)
    assert (ended.srb, ended.scsi, ended.key) == (0x82, 2, (6, 0x2A, 9))


def test_short_transfers(stor: Stor) -> None:
    """A short transfer moves and reports the part only, reading and writing."""
    driver, device = stor.driver(faults=[Fault(short_bytes=1024, times=2)])
    device.disk.backing.write(0, MIB[:4096])
    driver.fill_buffer(bytes(4096))
    ended = driver.command(stor.read_10(0, 8), length=4096)
    assert (ended.srb, ended.scsi, ended.length) == (1, 0, 1024)
    assert driver.read_buffer(4096) == MIB[:1024] + bytes(3072)
    driver.fill_buffer(b"\xff" * 4096)
    ended = driver.command(stor.write_10(0, 8), length=4096, write=True)
    assert (ended.srb, ended.length) == (1, 1024)
    assert device.disk.backing.read(0, 4096) == b"\xff" * 1024 + MIB[1024:4096]


def test_delays(stor: Stor) -> None:
    """A delayed command is overtaken by later ones and answered when its time has come."""
    now = [100.0]
    driver, _ = stor.driver(faults=[Fault(delay_s=5)], clock=lambda: now[0])
    slow = driver.start(stor.read_10(0, 8), length=4096)
    assert slow not in driver.answers
    assert driver.command(stor.read_10(0, 8), length=4096).srb == 1
    driver.guest.bus.poll(104.9)
    driver.collect()
    assert slow not in driver.answers
    driver.guest.bus.poll(105.0)
    driver.collect()
    assert driver.answers[slow].srb == 1


def test_reset_aborts_what_is_delayed(stor: Stor) -> None:
    """RESET_BUS answers every delayed command as aborted before itself (storvsc_host_reset_handler())."""
    driver, _ = stor.driver(faults=[Fault(delay_s=5)])
    slow = driver.start(stor.read_10(0, 8), length=4096)
    assert driver.operation(6).status == 0
    assert list(driver.answers)[-2:] == [slow, slow + 1]
    assert (driver.answers[slow].srb, driver.answers[slow].length) == (2, 0)


def test_overrun(stor: Stor) -> None:
    """A command for more blocks than the request has room for moves what fits and says DATA_OVERRUN."""
    driver, device = stor.driver()
    device.disk.backing.write(0, MIB[:8192])
    ended = driver.command(stor.read_10(0, 16), length=4096)
    assert (ended.srb, ended.length) == (SrbStatus.DATA_OVERRUN, 4096)
    assert driver.read_buffer(8192) == MIB[:4096] + bytes(4096)
