"""Where everything of the rig lies in the guest's memory, and the form of a job, for host and guest.

The payload (guests/rig/rig.S) is assembled with these numbers.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from typing import Final

from harness.memory.ram import RAM_BASE_PA

__all__ = [
    "ARENA_PA",
    "CODE_PA",
    "COMMAND_PA",
    "DATA_BYTES",
    "DATA_PA",
    "DEFINES",
    "DONE_PA",
    "HOLE_PA",
    "HOME_PA",
    "JOBS_LEFT_PA",
    "JOBS_PA",
    "MAILBOX_PA",
    "MEMORY_MIB",
    "RAM_END_PA",
    "RECORD_BYTES",
    "SVC_BYTES",
    "SVC_PA",
    "JobRecord",
    "mailbox_head",
]

MEMORY_MIB: Final = 256
RAM_END_PA: Final = RAM_BASE_PA + (MEMORY_MIB << 20)

CODE_PA: Final = RAM_BASE_PA
"""The 2 MiB that QEMU loads a flat kernel into (hw/arm/boot.c, KERNEL64_LOAD_ADDR)."""
DATA_PA: Final = RAM_BASE_PA + 0x20_0000
DATA_BYTES: Final = 0x80_0000
"""Mailbox, jobs, queries and results: mapped by every home."""
MAILBOX_PA: Final = DATA_PA
JOBS_PA: Final = DATA_PA + 0x1000
HOME_PA: Final = DATA_PA + DATA_BYTES
"""The home tables, little-endian and big-endian ones."""
SVC_PA: Final = HOME_PA + 0x10_0000
SVC_BYTES: Final = 0x1_0000
"""Full of SVC instructions: what fetches are to find."""
ARENA_PA: Final = RAM_BASE_PA + 0x100_0000
"""Tables under test, up to the end of RAM."""

HOLE_PA: Final = 1 << 41
"""Nothing is there on the `virt` machine, whose highest device window ends at 2^40 (hw/arm/virt.c,
extended_memmap): whatever walks through it meets an external abort."""

RECORD_BYTES: Final = 16
"""Bytes of a query, and of a result: two 64-bit words each."""

_COMMAND, _DONE, _JOBS_LEFT, _JOBS, _JOB_COUNT = 0, 8, 16, 24, 32
COMMAND_PA: Final = MAILBOX_PA + _COMMAND
"""A byte: the payload works when it differs from the one at DONE_PA."""
DONE_PA: Final = MAILBOX_PA + _DONE
JOBS_LEFT_PA: Final = MAILBOX_PA + _JOBS_LEFT


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as the payload reads it: registers, and where its queries and results are (home addresses)."""

    mair: int
    sctlr: int
    tcr: int
    ttbr0: int
    ttbr1: int
    entry_tcr: int
    """The ENTRY registers make both ranges homes, as they are while the MMU is turned on and off."""
    entry_ttbr0: int
    entry_ttbr1: int
    alias: int
    """ORed into a physical address, it gives the home address."""
    queries: int
    results: int
    query_count: int

    def pack(self) -> bytes:
        """The bytes of the record."""
        return struct.pack(f"<{len(_JOB_FIELDS)}Q", *astuple(self))


_JOB_FIELDS = tuple(JobRecord.__dataclass_fields__)

DEFINES: Final = {
    "MAILBOX_PA": MAILBOX_PA,
    "COMMAND": _COMMAND,
    "DONE": _DONE,
    "JOBS_LEFT": _JOBS_LEFT,
    "JOBS": _JOBS,
    "JOB_COUNT": _JOB_COUNT,
    "JOB_BYTES": 8 * len(_JOB_FIELDS),
    **{f"JOB_{name.upper()}": 8 * index for index, name in enumerate(_JOB_FIELDS)},
}
"""The numbers that the payload is assembled with."""


def mailbox_head(job_count: int) -> tuple[int, bytes]:
    """Address and bytes of the part of the mailbox that tells of the jobs."""
    return MAILBOX_PA + _JOBS, struct.pack("<2Q", JOBS_PA, job_count)
