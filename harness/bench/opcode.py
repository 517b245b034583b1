"""Kinds of A64 instructions that cost more than their count says, told by their encodings.

Sources: Arm ARM DDI 0487, C4.1 (the top level and its loads and stores), C5.1.2 (system instructions), C6.2
(barriers). May import the standard library only.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Kind", "kinds_of"]


class Kind(Enum):
    """What an instruction is, where that is of interest; the value is how reports call it."""

    TLBI = "TLB invalidations"
    MEMORY = "loads and stores"
    EXCLUSIVE = "exclusives and atomics"
    BARRIER = "barriers"
    ZEROING = "cache lines zeroed"


# (mask, value) pairs, any of which makes the kind.
_ENCODINGS: dict[Kind, tuple[tuple[int, int], ...]] = {
    # SYS with CRn 8, and 9 for the nXS forms.
    Kind.TLBI: ((0xFFF8_F000, 0xD508_8000), (0xFFF8_F000, 0xD508_9000)),
    # op0, bits 28:25, is x1x0.
    Kind.MEMORY: ((0x0A00_0000, 0x0800_0000),),
    # Load/store exclusive, compare and swap; atomic memory operations.
    Kind.EXCLUSIVE: ((0x3F00_0000, 0x0800_0000), (0x3B20_0C00, 0x3820_0000)),
    # DSB, DMB, ISB and SB, whatever they order.
    Kind.BARRIER: ((0xFFFF_F09F, 0xD503_309F), (0xFFFF_F0FF, 0xD503_30BF)),
    # DC ZVA.
    Kind.ZEROING: ((0xFFFF_FFE0, 0xD50B_7420),),
}


def kinds_of(opcode: int) -> tuple[Kind, ...]:
    """The kinds of one instruction: none for most, two for an atomic."""
    return tuple(
        kind
        for kind, encodings in _ENCODINGS.items()
        if any(opcode & mask == value for mask, value in encodings)
    )
