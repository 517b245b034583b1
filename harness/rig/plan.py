"""Which shapes are put to the test on which CPU model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from harness.rig.job import Job, Shape
from harness.rig.layout import ARENA_PA, RAM_END_PA
from harness.rig.rig import BATCH_LIMIT
from harness.rig.scenario import make_job
from harness.vmsa import Registers, VaRange
from harness.vmsa.registers import Mmfr0, Mmfr2

__all__ = ["CPUS", "EXHAUSTIVE_CPU", "batches", "shapes_of"]

EXHAUSTIVE_CPU: Final = "max"
"""The model with every feature: each legal size of each granule is tested on it."""
CPUS: Final = (EXHAUSTIVE_CPU, "max,lpa2=off", "neoverse-n1", "cortex-a76", "cortex-a57")
"""52-bit addresses everywhere; for 64K only; then output addresses of 48, 40 and 44 bits, the last without
16K pages, hardware access flags and PAN."""
_TXSZ_STEP: Final = 4
_ARENA_ALIGN: Final = 0x1_0000


def shapes_of(cpu: Registers, *, exhaustive: bool) -> tuple[Shape, ...]:
    """Every granule, format and range that a CPU has, at legal sizes and just beyond them.

    Every size if `exhaustive`, else a few that have every start level among them.
    """
    mmfr0, mmfr2 = Mmfr0(cpu.id_aa64mmfr0_el1 or 0), Mmfr2(cpu.id_aa64mmfr2_el1 or 0)
    formats = []  # granule, DS, and whether addresses of 52 bits can be translated
    if mmfr0.tgran4 < 8:
        formats += [(12, False, False), (12, True, mmfr0.tgran4 >= 1)]
    if mmfr0.tgran16:
        formats += [(14, False, False), (14, True, mmfr0.tgran16 >= 2)]
    if mmfr0.tgran64 < 8:
        formats += [(16, False, mmfr2.varange >= 1)]
    shapes = []
    for granule_log2, ds, has_52_bits in formats:
        least = 12 if has_52_bits else 16
        most = (47 if granule_log2 == 16 else 48) if mmfr2.st else 39
        sizes = range(least, most + 1, 1 if exhaustive else _TXSZ_STEP)
        for txsz in sorted({*sizes, most, least - 1, most + 1}):
            shapes += [Shape(granule_log2, txsz, ds, va_range) for va_range in VaRange]
    return tuple(shapes)


def batches(
    shapes: Sequence[Shape], cpu: Registers, seed: int, *, blocks_at_top: bool = True
) -> Iterator[tuple[Job, ...]]:
    """Jobs of those shapes, as many at a time as there is room for; the rest as for `make_job`."""
    batch: list[Job] = []
    arena_pa = ARENA_PA
    for shape in shapes:
        job = make_job(shape, cpu, seed, arena_pa=arena_pa, blocks_at_top=blocks_at_top)
        end_pa = arena_pa + len(job.arena)
        if batch and (end_pa > RAM_END_PA or len(batch) == BATCH_LIMIT):
            yield tuple(batch)
            batch = []
            job = make_job(shape, cpu, seed, blocks_at_top=blocks_at_top)
            end_pa = ARENA_PA + len(job.arena)
        batch.append(job)
        arena_pa = end_pa + -end_pa % _ARENA_ALIGN
    if batch:
        yield tuple(batch)
