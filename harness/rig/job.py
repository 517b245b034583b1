"""A regime under test, with its tables and what is to be asked of them, as a value."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from harness.rig.home import UPPER_ALIAS, home_tcr, home_ttbr
from harness.rig.layout import JobRecord
from harness.rig.query import Query
from harness.vmsa import Choices, Fault, Regime, Registers, Translation, VaRange, derive, walk
from harness.vmsa.registers import Sctlr

__all__ = ["Job", "Shape", "sctlr_word"]

# Bits of SCTLR_EL1 that are RES1 where their features are absent: ITD, SED aside (Arm ARM D24.2, SCTLR_EL1).
_SCTLR_RES1 = 0x30D0_0800


def sctlr_word(*, wxn: bool = False, epan: bool = False, big_endian: bool = False) -> int:
    """SCTLR_EL1 with the MMU and caches on."""
    word = _SCTLR_RES1 | Sctlr.m.mask | Sctlr.c.mask | Sctlr.i.mask
    return Sctlr.ee.into(Sctlr.epan.into(Sctlr.wxn.into(word, wxn), epan), big_endian)


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the form of the tables of a range."""

    granule_log2: int
    txsz: int
    ds: bool
    """TCR.DS, which has an effect only on a CPU with FEAT_LPA2 for the granule."""
    va_range: VaRange

    def __str__(self) -> str:
        ds = " DS" if self.ds else ""
        return f"{1 << self.granule_log2 - 10}K T{self.va_range.value}SZ={self.txsz}{ds}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One regime: registers of EL1, tables, and queries."""

    shape: Shape
    seed: int
    """Makes the same job again, of the same shape for the same CPU."""
    registers: Registers
    """The bank of EL1 has a value for every register that the payload loads."""
    arena_pa: int
    arena: bytes
    queries: tuple[Query, ...]
    choices: Choices
    """What the model is to assume of the implementation."""

    def __str__(self) -> str:
        return f"{self.shape}, seed {self.seed}, TCR {self.registers.el1.tcr:#x}"

    @property
    def regime(self) -> Regime | Fault:
        """What rules the range under test."""
        derived = derive(self.registers, self.shape.va_range)
        if isinstance(derived, Regime | Fault):
            return derived
        raise ValueError("a job has the MMU on")

    @property
    def is_big_endian(self) -> bool:
        """The payload's data, too, is big-endian while the MMU is on."""
        return Sctlr(self.registers.el1.sctlr or 0).ee

    def memory(self, pa: int, size_bytes: int) -> bytes | None:
        """Physical memory as the model is to see it: the tables, and nothing else."""
        start = pa - self.arena_pa
        return self.arena[start : start + size_bytes] if 0 <= start <= len(self.arena) - size_bytes else None

    def outcome(self, query: Query, regime: Regime | Fault) -> Translation | Fault:
        """What the model answers; `regime` is the job's, derived once."""
        if isinstance(regime, Fault):
            return replace(regime, va=query.va)
        return walk(regime, self.memory, query.va, query.operation.access, choices=self.choices)

    def record(self, queries_pa: int, results_pa: int) -> JobRecord:
        """What the payload is given, with queries and results at those physical addresses."""
        bank = self.registers.el1
        home_is_upper = self.shape.va_range is VaRange.LOWER
        alias = UPPER_ALIAS if home_is_upper else 0
        ttbr = home_ttbr(big_endian=self.is_big_endian)
        home = VaRange.UPPER if home_is_upper else VaRange.LOWER
        tcr = home_tcr(_known(bank.tcr), home)
        return JobRecord(
            mair=_known(bank.mair),
            sctlr=_known(bank.sctlr),
            tcr=tcr,
            ttbr0=_known(bank.ttbr0) if home_is_upper else ttbr,
            ttbr1=ttbr if home_is_upper else _known(bank.ttbr1),
            entry_tcr=home_tcr(tcr, VaRange.LOWER),
            entry_ttbr0=ttbr,
            entry_ttbr1=ttbr,
            alias=alias,
            queries=alias | queries_pa,
            results=alias | results_pa,
            query_count=len(self.queries),
        )

    def packed_queries(self) -> bytes:
        """The queries as the payload reads them, in the byte order of the regime."""
        words = [word for query in self.queries for word in (query.va, query.operation.value)]
        return struct.pack(f"{self._order}{len(words)}Q", *words)

    def unpacked_results(self, data: bytes) -> tuple[tuple[int, int], ...]:
        """The two words of each result."""
        words = struct.unpack(f"{self._order}{len(data) // 8}Q", data)
        return tuple(zip(words[::2], words[1::2], strict=True))

    @property
    def _order(self) -> str:
        return ">" if self.is_big_endian else "<"


def _known(value: int | None) -> int:
    if value is None:
        raise ValueError("a job has a value for every register that the payload loads")
    return value
