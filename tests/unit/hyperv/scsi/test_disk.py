"""Tests of harness.hyperv.scsi.disk, inquiry and command: bytes as SPC-4 and SBC-3 lay them out."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.disk import Answer, ScsiDisk
from harness.hyperv.scsi.inquiry import DiskIdentity

BLOCKS = 2048


@pytest.fixture
def backing() -> Iterator[Backing]:
    with Backing(BLOCKS * 512) as made:
        yield made


def run(disk: ScsiDisk, cdb: bytes, room: int = 4096, out: bytes = b"") -> Answer:
    return disk.execute(cdb.ljust(16, b"\0"), room, lambda size: out[:size])


def told(disk: ScsiDisk, cdb: bytes, room: int = 4096) -> bytes:
    answer = run(disk, cdb, room)
    assert answer.status == 0
    assert answer.data is not None
    return answer.data


def key(answer: Answer) -> tuple[int, int, int]:
    assert answer.status == 2
    assert answer.sense is not None
    return answer.sense.key, answer.sense.asc, answer.sense.ascq


def test_inquiry(backing: Backing) -> None:
    """A disk of Msft with command queuing, cut to the allocation length, and no other page code."""
    disk = ScsiDisk(backing)
    data = told(disk, bytes([0x12, 0, 0, 0, 96, 0]))
    assert (data[0], data[3] & 0xF, data[4], data[7]) == (0, 2, 31, 2)
    assert data[8:32] == b"Msft    Virtual Disk    "
    assert len(told(disk, bytes([0x12, 0, 0, 0, 5, 0]))) == 5
    assert key(run(disk, bytes([0x12, 0, 3, 0, 96, 0]))) == (5, 0x24, 0)


def test_vpd_pages(backing: Backing) -> None:
    """Every page that page 0 lists is there with its length, and no other is."""
    disk = ScsiDisk(backing, DiskIdentity(serial="abc", max_unmap_blocks=1024))
    listed = told(disk, bytes([0x12, 1, 0, 0, 255, 0]))
    assert listed[4:] == bytes([0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2])
    for page in range(256):
        if page not in listed[4:]:
            assert key(run(disk, bytes([0x12, 1, page, 0, 255, 0]))) == (5, 0x24, 0)
            continue
        data = told(disk, bytes([0x12, 1, page, 0, 255, 0]))
        assert data[1] == page
        assert struct.unpack_from(">H", data, 2)[0] == len(data) - 4
    assert told(disk, bytes([0x12, 1, 0x80, 0, 255, 0]))[4:] == b"abc"
    designator = told(disk, bytes([0x12, 1, 0x83, 0, 255, 0]))[4:]
    assert (designator[1] & 0xF, designator[3], designator[4] >> 4) == (3, 16, 6)
    limits = told(disk, bytes([0x12, 1, 0xB0, 0, 255, 0]))
    assert struct.unpack_from(">IIIIQ", limits, 20) == (1024, 256, 8, 0, 1024)
    assert told(disk, bytes([0x12, 1, 0xB2, 0, 255, 0]))[5] == 0xE4


def test_capacity(backing: Backing) -> None:
    """Both forms name the last block; the long one has 4096-byte physical blocks, thin where unmap is."""
    disk = ScsiDisk(backing, DiskIdentity(max_unmap_blocks=8))
    assert struct.unpack(">II", told(disk, bytes([0x25]))) == (BLOCKS - 1, 512)
    data = told(disk, struct.pack(">BB8xI", 0x9E, 0x10, 32))
    assert struct.unpack_from(">QI", data) == (BLOCKS - 1, 512)
    assert (len(data), data[13], data[14]) == (32, 3, 0xC0)
    assert key(run(disk, struct.pack(">BB8xI", 0x9E, 0x11, 32))) == (5, 0x20, 0)


def test_large_capacity() -> None:
    """A disk over 2 TiB says so in the short form, its size in the long one, and is reached everywhere."""
    with Backing(3 << 40) as backing:
        disk = ScsiDisk(backing)
        assert told(disk, bytes([0x25]))[:4] == b"\xff" * 4
        assert struct.unpack_from(">Q", told(disk, struct.pack(">BB8xI", 0x9E, 0x10, 32)))[0] == (6 << 30) - 1
        for form, lba in ((10, 0xF2345678), (16, (5 << 30) + 7)):
            out = b"far away".ljust(512, bytes([form]))
            assert run(disk, cdb_of(form, 0x2A, lba, 1), 512, out).taken_bytes == 512
            assert backing.read(lba, 512) == out
            assert told(disk, cdb_of(form, 0x28, lba, 1), 512) == out


@pytest.mark.parametrize("ten", [False, True])
def test_mode_sense(backing: Backing, ten: bool) -> None:
    """The caching page with its write cache on; write protection shows; other pages are not there."""
    for read_only in (False, True):
        disk = ScsiDisk(backing, read_only=read_only)
        for page in (0x3F, 0x08):
            cdb = struct.pack(">BBB4xHx", 0x5A, 8, page, 192) if ten else bytes([0x1A, 8, page, 0, 192, 0])
            data = told(disk, cdb)
            head = 8 if ten else 4
            length = struct.unpack_from(">H", data)[0] + 2 if ten else data[0] + 1
            assert length == len(data) == head + 20
            assert (data[head], data[head + 1], data[head + 2]) == (8, 18, 4)
            assert data[3 if ten else 2] == (0x90 if read_only else 0x10)
    cdb = struct.pack(">BBB4xHx", 0x5A, 8, 0x1C, 192) if ten else bytes([0x1A, 8, 0x1C, 0, 192, 0])
    assert key(run(disk, cdb)) == (5, 0x24, 0)


def test_report_luns(backing: Backing) -> None:
    """LUN 0, and nothing else."""
    assert told(ScsiDisk(backing), struct.pack(">BxB3xIxx", 0xA0, 0, 4096)) == struct.pack(">IIQ", 8, 0, 0)


def cdb_of(form: int, opcode: int, lba: int, blocks: int) -> bytes:
    """READ or WRITE in a form; `opcode` is that of 10 bytes."""
    if form == 6:
        return struct.pack(">BBHBB", opcode - 0x20, lba >> 16, lba & 0xFFFF, blocks & 0xFF, 0)
    if form == 10:
        return struct.pack(">BBIBHB", opcode, 0, lba, 0, blocks, 0)
    return struct.pack(">BBQIBB", opcode + 0x60, 0, lba, blocks, 0, 0)


@pytest.mark.parametrize("form", [6, 10, 16])
def test_reads_and_writes(backing: Backing, form: int) -> None:
    """Each form reads and writes the blocks that it names, up to the last, and none beyond it."""
    disk = ScsiDisk(backing)
    data = bytes(range(256)) * 6
    assert run(disk, cdb_of(form, 0x2A, BLOCKS - 3, 3), len(data), data).taken_bytes == 1536
    assert told(disk, cdb_of(form, 0x28, BLOCKS - 3, 3), 1536) == data
    assert backing.read(BLOCKS - 3, 1536) == data
    for opcode in (0x28, 0x2A):
        assert key(run(disk, cdb_of(form, opcode, BLOCKS - 2, 3), 1536, data)) == (5, 0x21, 0)
    assert backing.read(BLOCKS - 3, 1536) == data


def test_read_6_of_256_blocks(backing: Backing) -> None:
    """In the oldest form a length of 0 is 256 blocks; in the others it is none."""
    disk = ScsiDisk(backing)
    assert len(told(disk, cdb_of(6, 0x28, 0, 0), 1 << 20)) == 256 * 512
    assert told(disk, cdb_of(10, 0x28, 0, 0), 1 << 20) == b""


def test_write_protected(backing: Backing) -> None:
    """A read-only disk refuses every command that would change it."""
    disk = ScsiDisk(backing, DiskIdentity(max_unmap_blocks=64), read_only=True)
    unmap = struct.pack(">HH4xQI4x", 22, 16, 0, 1)
    for cdb in (
        cdb_of(6, 0x2A, 0, 1), cdb_of(10, 0x2A, 0, 1), cdb_of(16, 0x2A, 0, 1),
        struct.pack(">BBIBHB", 0x41, 8, 0, 0, 1, 0), struct.pack(">BBQIBB", 0x93, 8, 0, 1, 0, 0),
        struct.pack(">B6xHx", 0x42, len(unmap)),
    ):  # fmt: skip
        assert key(run(disk, cdb, 512, unmap.ljust(512, b"\xff"))) == (7, 0x27, 0)


@pytest.mark.parametrize(("lba", "blocks"), [(0, 8), (3, 60), (1, 6), (7, 1), (2040, 8)])
def test_unmap(backing: Backing, lba: int, blocks: int) -> None:
    """What is unmapped reads as zeros, and nothing beside it does."""
    disk = ScsiDisk(backing, DiskIdentity(max_unmap_blocks=64))
    backing.write(0, b"\xff" * BLOCKS * 512)
    listed = struct.pack(">HH4xQI4x", 22, 16, lba, blocks)
    answer = run(disk, struct.pack(">B6xHx", 0x42, len(listed)), len(listed), listed)
    assert (answer.status, answer.taken_bytes) == (0, 24)
    expected = bytearray(b"\xff" * BLOCKS * 512)
    expected[lba * 512 : (lba + blocks) * 512] = bytes(blocks * 512)
    assert backing.read(0, BLOCKS * 512) == expected


def test_unmap_limits(backing: Backing) -> None:
    """More blocks than offered, or beyond the end, are refused before anything is cleared."""
    disk = ScsiDisk(backing, DiskIdentity(max_unmap_blocks=64))
    backing.write(0, b"\xff" * 512)
    two = struct.pack(">HH4xQI4xQI4x", 38, 32, 0, 32, 100, 33)
    assert key(run(disk, struct.pack(">B6xHx", 0x42, len(two)), len(two), two)) == (5, 0x24, 0)
    beyond = struct.pack(">HH4xQI4xQI4x", 38, 32, 0, 1, BLOCKS, 1)
    assert key(run(disk, struct.pack(">B6xHx", 0x42, len(beyond)), len(beyond), beyond)) == (5, 0x21, 0)
    assert backing.read(0, 512) == b"\xff" * 512
    assert key(run(ScsiDisk(backing), struct.pack(">B6xHx", 0x42, 24), 24, two[:24])) == (5, 0x20, 0)


@pytest.mark.parametrize("form", [10, 16])
def test_write_same(backing: Backing, form: int) -> None:
    """One block is repeated, zeros clear, and without data (16) only clears."""
    disk = ScsiDisk(backing, DiskIdentity(max_unmap_blocks=64))
    cdb = (
        struct.pack(">BBIBHB", 0x41, 0, 5, 0, 20, 0)
        if form == 10
        else struct.pack(">BBQIBB", 0x93, 0, 5, 20, 0, 0)
    )
    block = bytes(range(256)) * 2
    assert run(disk, cdb, 512, block).taken_bytes == 512
    assert backing.read(4, 22 * 512) == bytes(512) + block * 20 + bytes(512)
    assert run(disk, cdb, 512, bytes(512)).status == 0
    assert backing.read(4, 22 * 512) == bytes(22 * 512)
    backing.write(0, block * 64)
    if form == 16:
        assert run(disk, struct.pack(">BBQIBB", 0x93, 9, 5, 20, 0, 0), 0).status == 0
        assert backing.read(4, 22 * 512) == block + bytes(20 * 512) + block


def test_nothing_to_do(backing: Backing) -> None:
    """TEST UNIT READY, START STOP UNIT and SYNCHRONIZE CACHE succeed."""
    for cdb in (bytes(6), bytes([0x1B]), bytes([0x35]), bytes([0x91])):
        assert run(ScsiDisk(backing), cdb) == Answer()


def ends_within_bounds(cdb: bytes, room: int, out: bytes) -> None:
    with Backing(64 * 512) as backing:
        disk = ScsiDisk(backing, DiskIdentity(max_unmap_blocks=32))
        answer = disk.execute(cdb, room, lambda size: out.ljust(1 << 20, b"x")[:size])
        assert len(answer.data or b"") <= room
        assert answer.taken_bytes <= room
        assert (answer.status == 2) == (answer.sense is not None)
        assert len(backing.read(0, 1 << 20)) == 64 * 512


@settings(max_examples=300, deadline=None)
@given(cdb=st.binary(min_size=16, max_size=16), room=st.integers(0, 1 << 20), out=st.binary(max_size=600))
def test_any_command(cdb: bytes, room: int, out: bytes) -> None:
    """Whatever the command's bytes are, it ends, gives no more than there is room for, and takes no more."""
    ends_within_bounds(cdb, room, out)


@settings(max_examples=300, deadline=None)
@given(
    opcode=st.sampled_from([0x08, 0x0A, 0x28, 0x2A, 0x41, 0x42, 0x88, 0x8A, 0x93, 0x12, 0x9E, 0x5A]),
    rest=st.binary(min_size=15, max_size=15), room=st.integers(0, 1 << 20), out=st.binary(max_size=600),
)  # fmt: skip
def test_any_arguments(opcode: int, rest: bytes, room: int, out: bytes) -> None:
    """The same for commands that exist, with any arguments."""
    ends_within_bounds(bytes([opcode]) + rest, room, out)
