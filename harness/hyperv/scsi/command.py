"""SCSI command descriptor blocks, read within their length, and sense data.

Sources: SPC-4 (T10/1731-D) 4.5, 6.x; SBC-3 (T10/BSR INCITS 514) 5.x; Linux include/scsi/scsi_proto.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["BLOCK_BYTES", "Extent", "Opcode", "ScsiStatus", "Sense", "extent_of", "opcode_name"]

BLOCK_BYTES: Final = 512


class Opcode(IntEnum):
    """The commands that the disk carries out."""

    TEST_UNIT_READY = 0x00
    READ_6 = 0x08
    WRITE_6 = 0x0A
    INQUIRY = 0x12
    MODE_SENSE_6 = 0x1A
    START_STOP = 0x1B
    READ_CAPACITY_10 = 0x25
    READ_10 = 0x28
    WRITE_10 = 0x2A
    SYNCHRONIZE_CACHE_10 = 0x35
    WRITE_SAME_10 = 0x41
    UNMAP = 0x42
    MODE_SENSE_10 = 0x5A
    READ_16 = 0x88
    WRITE_16 = 0x8A
    SYNCHRONIZE_CACHE_16 = 0x91
    WRITE_SAME_16 = 0x93
    SERVICE_ACTION_IN_16 = 0x9E
    REPORT_LUNS = 0xA0


class ScsiStatus(IntEnum):
    """SAM-5, 5.3.1."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    BUSY = 0x08


@dataclass(frozen=True, slots=True)
class Sense:
    """A sense key with its additional code and qualifier (SPC-4 4.5.6, table 29)."""

    key: int
    asc: int
    ascq: int = 0

    def fixed(self) -> bytes:
        """Fixed format, current error, 18 bytes (SPC-4 4.5.3)."""
        return bytes([0x70, 0, self.key, 0, 0, 0, 0, 10, 0, 0, 0, 0, self.asc, self.ascq, 0, 0, 0, 0])


# Those that the disk itself gives, and some that tests inject.
MEDIUM_READ_ERROR: Final = Sense(3, 0x11)
MEDIUM_WRITE_ERROR: Final = Sense(3, 0x0C)
INVALID_OPCODE: Final = Sense(5, 0x20)
LBA_OUT_OF_RANGE: Final = Sense(5, 0x21)
INVALID_FIELD: Final = Sense(5, 0x24)
NO_SUCH_UNIT: Final = Sense(5, 0x25)
INVALID_PARAMETER: Final = Sense(5, 0x26)
WRITE_PROTECTED: Final = Sense(7, 0x27)
CAPACITY_CHANGED: Final = Sense(6, 0x2A, 0x09)


@dataclass(frozen=True, slots=True)
class Extent:
    """Blocks that a command names."""

    lba: int
    blocks: int


_READS: Final = {Opcode.READ_6: 6, Opcode.READ_10: 10, Opcode.READ_16: 16}
_WRITES: Final = {Opcode.WRITE_6: 6, Opcode.WRITE_10: 10, Opcode.WRITE_16: 16}
READS: Final = frozenset(_READS)
WRITES: Final = frozenset(_WRITES)
_FORMS: Final = {
    **_READS, **_WRITES,
    Opcode.WRITE_SAME_10: 10, Opcode.WRITE_SAME_16: 16,
    Opcode.SYNCHRONIZE_CACHE_10: 10, Opcode.SYNCHRONIZE_CACHE_16: 16,
}  # fmt: skip


def extent_of(cdb: bytes) -> Extent | None:
    """The blocks of a command that names some; None for others. `cdb` has 16 bytes at least."""
    form = _FORMS.get(cdb[0])  # type: ignore[call-overload]
    if form == 6:
        # SBC-3 5.8: a length of 0 means 256.
        return Extent((cdb[1] & 0x1F) << 16 | cdb[2] << 8 | cdb[3], cdb[4] or 256)
    if form == 10:
        return Extent(int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big"))
    if form == 16:
        return Extent(int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big"))
    return None


def opcode_name(opcode: int) -> str:
    """`READ_10`, or the number in hex."""
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"{opcode:#04x}"
