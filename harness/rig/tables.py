"""Random tables: legal leaves at every level, and everything that must be refused, at known addresses.

A table is made by the model's own builder, then descriptors are planted that the builder would not make.
What is planted never leads a walk to a device, whose reads may have effects: to tables of ours, or to where
nothing is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.rig.layout import CODE_PA, HOLE_PA, SVC_BYTES, SVC_PA
from harness.vmsa import BuildError, Regime, TableBuilder
from harness.vmsa.descriptor import AddressFormat, Leaf, Table
from harness.vmsa.field import ones
from harness.vmsa.geometry import FINAL_LEVEL

__all__ = ["Spot", "fill", "moved_start_table"]

SPOTS_PER_LEVEL: Final = 4
TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class Spot:
    """An address where something was planted, and the level of it."""

    va: int
    level: int


def fill(
    builder: TableBuilder, chance: random.Random, *, sound_groups: bool, blocks_at_top: bool
) -> tuple[Spot, ...]:
    """Plant descriptors of every kind at every level of a regime; returns where.

    `sound_groups`: the Contiguous bit is set in whole groups only, as software must. `blocks_at_top`: blocks
    are planted at level -1, too, where none is legal.
    """
    regime = builder.regime
    spots: list[Spot] = []
    levels = list(range(regime.start_level, FINAL_LEVEL + 1))
    wanted = levels * SPOTS_PER_LEVEL
    chance.shuffle(wanted)
    for level in wanted:
        for _ in range(TRIES):
            va = random_va(regime, chance)
            if _is_free(builder, va, level):
                may_block = blocks_at_top or level >= 0
                spots.append(
                    _plant(builder, chance, va, level, sound_groups=sound_groups, may_block=may_block)
                )
                break
    for level in levels:
        if regime.geometry.contiguous_log2(level) and chance.random() < 0.5:
            spots += _group(builder, chance, level)
    for spot in spots:
        if spot.level > regime.start_level and chance.random() < 0.6:
            _colour_table(builder, chance, spot)
    return tuple(spots)


def random_va(regime: Regime, chance: random.Random) -> int:
    """An untagged address within the range."""
    return regime.lowest_va + chance.getrandbits(regime.iasize_bits)


def _is_free(builder: TableBuilder, va: int, level: int) -> bool:
    """Nothing is planted there or above; tables on the way are made."""
    try:
        return builder.read(builder.descriptor_pa(va, level), 8) == bytes(8)
    except BuildError:
        return False


def _plant(
    builder: TableBuilder,
    chance: random.Random,
    va: int,
    level: int,
    *,
    sound_groups: bool,
    may_block: bool,
) -> Spot:
    regime = builder.regime
    size_log2 = regime.geometry.size_log2(level)
    address, from_offset = _output_address(regime, chance, size_log2)
    word = regime.address_format.encode(address) | _attributes(regime, chance)
    if sound_groups:
        word &= ~Leaf.contiguous.mask
    if chance.random() < (0.6 if size_log2 > regime.oasize_bits else 0.15):
        # Bits between the granule and the leaf's size are RES0, and must not reach the address.
        word |= chance.getrandbits(64) & ones(size_log2) & ~ones(regime.geometry.granule_log2)
    word |= 0b11 if level == FINAL_LEVEL else 0b01
    kind = chance.random()
    if kind < 0.06:
        word ^= 0b01  # invalid, the other bits left to software
    elif kind < 0.12 and level == FINAL_LEVEL:
        word ^= 0b10  # reserved
    elif not may_block or (kind < 0.25 and level < FINAL_LEVEL):
        word = _stray_table(regime, chance)
    builder.plant(va, level, word)
    return Spot(va & ~ones(size_log2) | from_offset(), level)


def _output_address(regime: Regime, chance: random.Random, size_log2: int) -> tuple[int, Callable[[], int]]:
    """An output address for a leaf of that size, and a maker of offsets into it that are worth asking for."""
    kind = chance.random()
    width = regime.address_format.address_bits
    if kind < 0.45:
        base = SVC_PA & ~ones(size_log2)
        return base, lambda: (SVC_PA - base) + (chance.randrange(SVC_BYTES) & ones(size_log2) & ~3)
    if kind < 0.70:
        address = chance.getrandbits(min(regime.oasize_bits, width))
    elif kind < 0.85 and regime.oasize_bits < width:
        address = chance.getrandbits(regime.oasize_bits) | 1 << chance.randrange(regime.oasize_bits, width)
    else:
        address = chance.getrandbits(width)
    return address & ones(width) & ~ones(size_log2), lambda: chance.getrandbits(size_log2)


def _attributes(regime: Regime, chance: random.Random) -> int:
    """Attribute bits of a leaf: all of them random, but AF is mostly set and some are mostly clear."""
    word = chance.getrandbits(64) & ~regime.address_format.mask(regime.geometry.granule_log2) & ~0b11
    word |= Leaf.af.mask if chance.random() < 0.8 else 0
    for rare in (Leaf.contiguous, Leaf.dbm, Leaf.nt):
        if chance.random() < 0.6:
            word &= ~rare.mask
    return word & ~_RES0.get(regime.address_format, 0) if chance.random() < 0.5 else word


# Address bits of the wider formats, in the 48-bit one: RES0, and to be ignored.
_RES0: Final = {AddressFormat.PA48: ones(50) & ~ones(48)}


def _stray_table(regime: Regime, chance: random.Random) -> int:
    """A table descriptor that leads nowhere: beyond the output size, or to where there is no memory."""
    width = regime.address_format.address_bits
    granule_log2 = regime.geometry.granule_log2
    beyond = chance.random() < 0.5 and regime.oasize_bits < width
    if beyond:
        address = chance.getrandbits(regime.oasize_bits) | 1 << chance.randrange(regime.oasize_bits, width)
    elif regime.oasize_bits > HOLE_PA.bit_length():
        address = HOLE_PA | chance.getrandbits(40)
    else:
        return chance.getrandbits(62) << 2  # invalid: there is no such place within so few bits
    if address < HOLE_PA:
        address = CODE_PA | 1 << regime.oasize_bits if 1 << regime.oasize_bits < HOLE_PA else HOLE_PA
    return regime.address_format.encode(address & ~ones(granule_log2)) | 0b11


def _group(builder: TableBuilder, chance: random.Random, level: int) -> list[Spot]:
    """A contiguous group as software must make it; none where there is no room."""
    regime = builder.regime
    unit_log2 = regime.geometry.size_log2(level) + regime.geometry.contiguous_log2(level)
    output_bits = min(regime.oasize_bits, regime.address_format.address_bits)
    if unit_log2 > min(regime.iasize_bits, output_bits):
        return []
    va = random_va(regime, chance) & ~ones(unit_log2)
    pa = chance.getrandbits(output_bits) & ~ones(unit_log2)
    try:
        builder.map(va, pa, 1 << unit_log2, level=level, contiguous=True)
    except BuildError:
        return []
    return [Spot(va + chance.getrandbits(unit_log2), level) for _ in range(2)]


def _colour_table(builder: TableBuilder, chance: random.Random, spot: Spot) -> None:
    """Give a table above a spot random hierarchical attributes, and bits that mean nothing there."""
    attributes = Table.ap_table.into(0, chance.getrandbits(2)) if chance.random() < 0.5 else 0
    for flag in (Table.pxn_table, Table.uxn_table, Table.ns_table):
        attributes = flag.into(attributes, chance.random() < 0.4)
    ignored = chance.getrandbits(64) & (ones(59) & ~ones(52) | 0b1100_1111_1100)
    level = chance.randrange(builder.regime.start_level, spot.level)
    try:
        builder.add_table_bits(spot.va, level, attributes | ignored & ~_LOW_TABLE_ADDRESS)
    except BuildError:
        return  # a leaf was planted above the spot since


# Bits 9:8 hold an address in the LPA2 format; they are ignored in others, and left alone here.
_LOW_TABLE_ADDRESS: Final = 0b11 << 8


def moved_start_table(builder: TableBuilder, chance: random.Random) -> tuple[bytes, Regime]:
    """The arena with its first table moved to any place that TTBR can hold, as kernels have small ones."""
    regime = builder.regime
    size_bytes = regime.start_table_bytes
    align = max(size_bytes, 64 if regime.ttbr_is_wide else 2)
    granule_bytes = 1 << regime.geometry.granule_log2
    arena = builder.arena
    if align >= granule_bytes:
        return arena, regime
    at = regime.table_pa - builder.arena_pa
    place = len(arena) + -len(arena) % granule_bytes + align * chance.randrange(1, granule_bytes // align)
    table = arena[at : at + size_bytes]
    # What was the first table is wiped: a walk that goes there is seen.
    arena = arena[:at] + bytes(size_bytes) + arena[at + size_bytes :]
    arena = arena + bytes(place - len(arena)) + table
    return arena, regime.at_table(builder.arena_pa + place)
