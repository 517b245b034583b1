"""One job from a shape and a seed: random registers, random tables, and the addresses worth asking about."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from harness.rig.home import HOME_ATTR_INDX
from harness.rig.job import Job, Shape, sctlr_word
from harness.rig.layout import ARENA_PA, SVC_BYTES, SVC_PA
from harness.rig.query import DATA_OPERATIONS, FETCHES, PAN_OPERATIONS, Operation, Query
from harness.rig.tables import Spot, fill, moved_start_table, random_va
from harness.vmsa import (
    Bank,
    Choices,
    Fault,
    Regime,
    Registers,
    TableBuilder,
    Translation,
    VaRange,
    derive,
)
from harness.vmsa.derive import PA_SIZES_BITS
from harness.vmsa.field import ones
from harness.vmsa.registers import Mmfr0, Mmfr1, Tcr

__all__ = ["has_top_level", "make_job", "top_block_job"]

STRAY_ADDRESSES: Final = 6
_TG0: Final = {12: 0, 14: 2, 16: 1}
_TG1: Final = {12: 2, 14: 1, 16: 3}
_MAIR_BYTES: Final = (0x00, 0x04, 0x08, 0x0C, 0x44, 0x40, 0xA0, 0xF0, 0xFF, 0xBB, 0x4F, 0xF4)
_TAG_SHIFT: Final = 56


def make_job(
    shape: Shape, cpu: Registers, seed: int, *, arena_pa: int = ARENA_PA, blocks_at_top: bool = True
) -> Job:
    """A job for a CPU whose ID registers are `cpu`'s; the same for the same arguments.

    `arena_pa` is where its tables start, on a boundary of 64 KiB; `blocks_at_top` as for `fill`.
    """
    chance = random.Random(f"{seed} {shape}")  # noqa: S311
    registers = _registers(shape, cpu, chance)
    regime = derive(registers, shape.va_range)
    sound_groups = chance.random() < 0.5
    spots: tuple[Spot, ...] = ()
    arena, ttbr = b"", chance.getrandbits(48) & ~1
    if isinstance(regime, Regime):
        builder = TableBuilder(regime, arena_pa)
        spots = fill(builder, chance, sound_groups=sound_groups, blocks_at_top=blocks_at_top)
        arena, regime = moved_start_table(builder, chance)
        ttbr = _ttbr(regime, chance)
    job = Job(
        shape=shape,
        seed=seed,
        registers=_with_ttbr(registers, shape.va_range, ttbr),
        arena_pa=arena_pa,
        arena=arena,
        queries=(),
        choices=Choices(honour_contiguous=sound_groups),
    )
    return replace(job, queries=tuple(_queries(job, spots, chance)))


def _registers(shape: Shape, cpu: Registers, chance: random.Random) -> Registers:
    mmfr0, mmfr1 = Mmfr0(cpu.id_aa64mmfr0_el1 or 0), Mmfr1(cpu.id_aa64mmfr1_el1 or 0)
    lower = shape.va_range is VaRange.LOWER
    # SH, AS, TBI, HA, HD and HPD of both ranges may be anything.
    word = chance.getrandbits(64) & sum(
        one.mask
        for one in (
            Tcr.sh0,
            Tcr.sh1,
            Tcr.a1,
            Tcr.as16,
            Tcr.tbi0,
            Tcr.tbi1,
            Tcr.ha,
            Tcr.hd,
            Tcr.hpd0,
            Tcr.hpd1,
        )
    )
    for flag, likely in (
        (Tcr.tbid0 if lower else Tcr.tbid1, 0.3),
        (Tcr.epd0 if lower else Tcr.epd1, 0.03),
        (Tcr.e0pd0 if lower else Tcr.e0pd1, 0.15),
        (Tcr.nfd0 if lower else Tcr.nfd1, 0.3),
        (Tcr.ds, shape.ds),
    ):
        word = flag.into(word, chance.random() < likely)
    if shape.granule_log2 == 16 and not shape.ds:
        word = Tcr.ds.into(word, False)
    largest = min(mmfr0.parange, PA_SIZES_BITS.index(52))
    ips = largest if chance.random() < 0.6 else chance.randrange(PA_SIZES_BITS.index(52) + 1)
    word = Tcr.ips.into(word, ips)
    word = (Tcr.t0sz if lower else Tcr.t1sz).into(word, shape.txsz)
    word = (Tcr.tg0 if lower else Tcr.tg1).into(word, (_TG0 if lower else _TG1)[shape.granule_log2])
    mair = [chance.choice(_MAIR_BYTES) for _ in range(8)]
    mair[HOME_ATTR_INDX] = 0xFF
    sctlr = sctlr_word(
        wxn=chance.random() < 0.25,
        epan=mmfr1.pan >= 3 and chance.random() < 0.5,
        big_endian=chance.random() < 0.15,
    )
    bank = Bank(tcr=word, ttbr0=0, ttbr1=0, mair=int.from_bytes(bytes(mair), "little"), sctlr=sctlr)
    return replace(cpu, el1=bank)


def _ttbr(regime: Regime, chance: random.Random) -> int:
    """The TTBR of a regime, now and then with its first table out of range."""
    word = regime.ttbr_for(regime.table_pa) | chance.getrandbits(16) << 48 | chance.getrandbits(1)
    width = 52 if regime.ttbr_is_wide else 48
    if chance.random() < 0.04 and regime.oasize_bits < width:
        word |= regime.ttbr_for(1 << chance.randrange(regime.oasize_bits, width))
    return word


def _with_ttbr(registers: Registers, va_range: VaRange, ttbr: int) -> Registers:
    name = "ttbr0" if va_range is VaRange.LOWER else "ttbr1"
    return replace(registers, el1=replace(registers.el1, **{name: ttbr}))


def _queries(job: Job, spots: Iterable[Spot], chance: random.Random) -> Iterable[Query]:
    regime = job.regime
    has_pan2 = Mmfr1(job.registers.id_aa64mmfr1_el1 or 0).pan >= 2
    data = DATA_OPERATIONS + (PAN_OPERATIONS if has_pan2 else ())
    addresses = [spot.va for spot in spots]
    for va in addresses:
        tagged = va & ones(_TAG_SHIFT) | chance.getrandbits(8) << _TAG_SHIFT
        asked = va if chance.random() < 0.8 else tagged
        yield from (Query(asked, operation) for operation in data)
        yield from _fetches(job, regime, asked & ~3)
    for va in (*_edges(job.shape, regime), *_strays(job.shape, regime, chance)):
        yield from (Query(va, operation) for operation in chance.sample(data, 2))
        yield from _fetches(job, regime, va & ~3)


def _fetches(job: Job, regime: Regime | Fault, va: int) -> Iterable[Query]:
    """Fetches that find an SVC or fault, by the model; others could run anything."""
    for operation in FETCHES:
        outcome = job.outcome(Query(va, operation), regime)
        if not isinstance(outcome, Translation) or 0 <= outcome.pa - SVC_PA < SVC_BYTES:
            yield Query(va, operation)


def _edges(shape: Shape, regime: Regime | Fault) -> tuple[int, ...]:
    """Addresses at both ends of the range, within it and just outside."""
    if shape.va_range is VaRange.LOWER:
        ends = (0, 1 << 64 - shape.txsz)
    else:
        ends = ((1 << 64) - (1 << 64 - shape.txsz), 1 << 64)
    found = {va & ones(64) for end in ends for va in (end - 4, end)}
    # An address of the other range is the home's.
    return tuple(va for va in sorted(found) if VaRange.of(va) is shape.va_range)


def _strays(shape: Shape, regime: Regime | Fault, chance: random.Random) -> Iterable[int]:
    for number in range(STRAY_ADDRESSES):
        if number % 2 and isinstance(regime, Regime):
            yield random_va(regime, chance)
        else:
            yield chance.getrandbits(64) & ~(1 << 55) | shape.va_range.value << 55


def has_top_level(cpu: Registers) -> bool:
    """True for a CPU whose tables can have a level -1: 4K pages with FEAT_LPA2 (TGran4 is signed)."""
    return 1 <= Mmfr0(cpu.id_aa64mmfr0_el1 or 0).tgran4 < 8


def top_block_job(cpu: Registers, seed: int) -> Job:
    """A job whose only descriptor is a block at level -1 with its access flag clear; one query."""
    shape = Shape(12, 12, True, VaRange.LOWER)
    plain = Tcr.ds.into(Tcr.ips.into(Tcr.t0sz.into(0, shape.txsz), PA_SIZES_BITS.index(52)), True)
    bank = Bank(tcr=plain, ttbr0=0, ttbr1=0, mair=ones(64), sctlr=sctlr_word())
    registers = replace(cpu, el1=bank)
    regime = derive(registers, shape.va_range)
    if not isinstance(regime, Regime):
        raise ValueError("the CPU has no tables of level -1")
    builder = TableBuilder(regime, ARENA_PA)
    builder.plant(0, regime.start_level, 0b01)
    return Job(
        shape=shape,
        seed=seed,
        registers=_with_ttbr(registers, shape.va_range, builder.ttbr()),
        arena_pa=ARENA_PA,
        arena=builder.arena,
        queries=(Query(0, Operation.S1E1R),),
        choices=Choices(),
    )
