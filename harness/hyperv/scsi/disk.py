"""A direct-access SCSI device on a backing: one logical unit, commands carried out one at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.hyperv.scsi import command as c
from harness.hyperv.scsi.backing import Blocks
from harness.hyperv.scsi.command import BLOCK_BYTES, Extent, Opcode, ScsiStatus, Sense, extent_of
from harness.hyperv.scsi.inquiry import DiskIdentity, capacity_10, capacity_16, luns, mode_sense, vpd_page

__all__ = ["Answer", "ScsiDisk"]

READ_CAPACITY_16: Final = 0x10
"""Service action of SERVICE_ACTION_IN_16."""
_UNMAP_BIT: Final = 0x08
_NO_DATA_OUT: Final = 0x01
_UNMAP_HEADER_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a command ended."""

    status: ScsiStatus = ScsiStatus.GOOD
    data: bytes | None = None
    """To the guest, no longer than it made room for; None where the command gives none."""
    taken_bytes: int = 0
    """From the guest."""
    sense: Sense | None = None
    overrun: bool = False
    """The command names more bytes than the request made room for."""

    @classmethod
    def check(cls, sense: Sense) -> Answer:
        """CHECK CONDITION."""
        return cls(status=ScsiStatus.CHECK_CONDITION, sense=sense)


Taken = Callable[[int], bytes]
"""The first so many bytes of what the guest gives."""


class ScsiDisk:
    """The unit. `execute` never raises for what a guest asks; a backing that fails is a medium error.

    Arguments: `read_only`, writes are refused as write-protected.
    """

    def __init__(
        self, backing: Blocks, identity: DiskIdentity | None = None, *, read_only: bool = False
    ) -> None:
        self.backing = backing
        self.identity = identity or DiskIdentity()
        self.read_only = read_only

    def execute(self, cdb: bytes, room_bytes: int, taken: Taken) -> Answer:
        """Carry out a command.

        Arguments: `cdb`, 16 bytes; `room_bytes`, what the request transfers at most; `taken`, its data.
        """
        extent = extent_of(cdb)
        try:
            if extent is not None and extent.lba + extent.blocks > self.backing.blocks:
                return Answer.check(c.LBA_OUT_OF_RANGE)
            if extent is not None and cdb[0] in c.READS:
                return self._read(extent, room_bytes)
            if extent is not None and cdb[0] in c.WRITES:
                return self._write(extent, room_bytes, taken)
            return self._other(cdb, extent, room_bytes, taken)
        except OSError:
            return Answer.check(c.MEDIUM_WRITE_ERROR if cdb[0] in c.WRITES else c.MEDIUM_READ_ERROR)

    def _read(self, extent: Extent, room_bytes: int) -> Answer:
        wanted = extent.blocks * BLOCK_BYTES
        data = self.backing.read(extent.lba, min(wanted, room_bytes))
        return Answer(data=data, overrun=wanted > room_bytes)

    def _write(self, extent: Extent, room_bytes: int, taken: Taken) -> Answer:
        if self.read_only:
            return Answer.check(c.WRITE_PROTECTED)
        wanted = extent.blocks * BLOCK_BYTES
        data = taken(min(wanted, room_bytes))
        self.backing.write(extent.lba, data)
        return Answer(taken_bytes=len(data), overrun=wanted > room_bytes)

    def _other(self, cdb: bytes, extent: Extent | None, room_bytes: int, taken: Taken) -> Answer:
        opcode = cdb[0]
        if opcode in (Opcode.WRITE_SAME_10, Opcode.WRITE_SAME_16) and extent is not None:
            return self._write_same(cdb, extent, room_bytes, taken)
        if opcode == Opcode.UNMAP:
            return self._unmap(cdb, room_bytes, taken)
        if opcode in (
            Opcode.TEST_UNIT_READY, Opcode.START_STOP,
            Opcode.SYNCHRONIZE_CACHE_10, Opcode.SYNCHRONIZE_CACHE_16,
        ):  # fmt: skip
            return Answer()
        data, wanted = self._told(cdb)
        if data is None:
            known = opcode in (Opcode.INQUIRY, Opcode.MODE_SENSE_6, Opcode.MODE_SENSE_10)
            return Answer.check(c.INVALID_FIELD if known else c.INVALID_OPCODE)
        return Answer(data=data[: min(wanted, room_bytes)])

    def _told(self, cdb: bytes) -> tuple[bytes | None, int]:
        """What a command that only asks is told, and its allocation length."""
        opcode, blocks = cdb[0], self.backing.blocks
        two, four = int.from_bytes(cdb[7:9], "big"), int.from_bytes(cdb[6:10], "big")
        if opcode == Opcode.INQUIRY:
            length = int.from_bytes(cdb[3:5], "big")
            if cdb[1] & 1:
                return vpd_page(self.identity, cdb[2]), length
            return None if cdb[2] else self.identity.inquiry(), length
        if opcode == Opcode.READ_CAPACITY_10:
            return capacity_10(blocks), 8
        if opcode == Opcode.SERVICE_ACTION_IN_16 and cdb[1] & 0x1F == READ_CAPACITY_16:
            return capacity_16(self.identity, blocks), int.from_bytes(cdb[10:14], "big")
        if opcode == Opcode.MODE_SENSE_6:
            return mode_sense(cdb[2] & 0x3F, ten=False, read_only=self.read_only), cdb[4]
        if opcode == Opcode.MODE_SENSE_10:
            return mode_sense(cdb[2] & 0x3F, ten=True, read_only=self.read_only), two
        if opcode == Opcode.REPORT_LUNS:
            return luns((0,)), four
        return None, 0

    def _refusal(self, blocks: int) -> Answer | None:
        if not self.identity.max_unmap_blocks:
            return Answer.check(c.INVALID_OPCODE)
        if self.read_only:
            return Answer.check(c.WRITE_PROTECTED)
        return Answer.check(c.INVALID_FIELD) if blocks > self.identity.max_unmap_blocks else None

    def _write_same(self, cdb: bytes, extent: Extent, room_bytes: int, taken: Taken) -> Answer:
        """SBC-3 5.45: one block over and over. As there, a length of 0 means up to the end."""
        blocks = extent.blocks or self.backing.blocks - extent.lba
        if (refusal := self._refusal(blocks)) is not None:
            return refusal
        block, length = bytes(BLOCK_BYTES), 0
        if not (cdb[0] == Opcode.WRITE_SAME_16 and cdb[1] & _NO_DATA_OUT):
            block = taken(min(BLOCK_BYTES, room_bytes))
            length = len(block)
            if length != BLOCK_BYTES:
                return Answer(overrun=True)
        if any(block):
            self.backing.write(extent.lba, block * blocks)
        else:
            self.backing.clear(extent.lba, blocks)
        return Answer(taken_bytes=length)

    def _unmap(self, cdb: bytes, room_bytes: int, taken: Taken) -> Answer:
        """SBC-3 5.28: descriptors of 16 bytes, within what both lengths and the data allow."""
        listed = taken(min(int.from_bytes(cdb[7:9], "big"), room_bytes))
        if len(listed) < _UNMAP_HEADER_BYTES:
            return Answer(taken_bytes=len(listed))
        (length,) = struct.unpack_from(">H", listed, 2)
        body = listed[_UNMAP_HEADER_BYTES : _UNMAP_HEADER_BYTES + length]
        extents = [Extent(*struct.unpack_from(">QI", body, at)) for at in range(0, len(body) // 16 * 16, 16)]
        if (refusal := self._refusal(sum(extent.blocks for extent in extents))) is not None:
            return refusal
        if any(extent.lba + extent.blocks > self.backing.blocks for extent in extents):
            return Answer.check(c.LBA_OUT_OF_RANGE)
        for extent in extents:
            self.backing.clear(extent.lba, extent.blocks)
        return Answer(taken_bytes=len(listed))
