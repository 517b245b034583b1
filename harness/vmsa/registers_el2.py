"""The registers of EL2 whose layout no other level shares: TCR_EL2 with one range, and those of stage 2.

Layouts: Arm ARM DDI 0487, D24.2, under each register's name; the bitfields of the ASL.
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.vmsa.field import Field, Flag

__all__ = ["TcrEl2", "Vtcr", "Vttbr"]


@dataclass(frozen=True, slots=True)
class TcrEl2:
    """TCR_EL2 with HCR_EL2.E2H=0; with E2H=1 it is a `harness.vmsa.registers.Tcr`."""

    word: int

    t0sz = Field(5, 0)
    sh0 = Field(13, 12)
    tg0 = Field(15, 14)
    ps = Field(18, 16)
    tbi = Flag(20)
    ha = Flag(21)
    hd = Flag(22)
    hpd = Flag(24)
    tbid = Flag(29)
    ds = Flag(32)
    mtx = Flag(33)


@dataclass(frozen=True, slots=True)
class Vtcr:
    """VTCR_EL2."""

    word: int

    t0sz = Field(5, 0)
    sl0 = Field(7, 6)
    sh0 = Field(13, 12)
    tg0 = Field(15, 14)
    ps = Field(18, 16)
    vs = Flag(19)
    """A VMID has 16 bits."""
    ha = Flag(21)
    hd = Flag(22)
    ds = Flag(32)
    sl2 = Flag(33)
    s2pie = Flag(36)
    s2poe = Flag(37)
    d128 = Flag(38)


@dataclass(frozen=True, slots=True)
class Vttbr:
    """VTTBR_EL2, of 64 or 128 bits; the base address depends on the regime."""

    word: int

    cnp = Flag(0)
    skl = Field(2, 1)
    """Levels skipped by the first table, with 128-bit descriptors."""
    vmid = Field(63, 48)
