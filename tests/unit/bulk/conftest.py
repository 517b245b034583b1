"""Regimes and memories for the tests of whole tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from harness.bulk import Ram
from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for

MakeRegime = Callable[..., Regime]
BASE_PA = 0x4000_0000
TXSZ_LIMITS = {12: (12, 48), 14: (12, 48), 16: (12, 47)}


@dataclass(frozen=True)
class World:
    """A regime, and memory with its first table and whatever else."""

    regime: Regime
    data: bytes = field(repr=False)
    base_pa: int

    @property
    def ram(self) -> Ram:
        """For the code under test."""
        return Ram(self.data, self.base_pa)

    def read(self, pa: int, size_bytes: int) -> bytes | None:
        """For the specification."""
        at = pa - self.base_pa
        return self.data[at : at + size_bytes] if 0 <= at <= len(self.data) - size_bytes else None


def _make(va_range: VaRange = VaRange.LOWER, **settings: Any) -> Regime:
    regime = derive(registers_for(**{"granule_log2": 12, "txsz": 16, **settings}), va_range)
    assert isinstance(regime, Regime)
    return regime


@pytest.fixture(scope="session")
def make_regime() -> MakeRegime:
    """Makes a Regime from the arguments of `registers_for`, 4K with 48 bits unless told."""
    return _make


@st.composite
def _regimes(draw: st.DrawFn) -> Regime:
    granule_log2 = draw(st.sampled_from((12, 14, 16)))
    wide = draw(st.booleans())
    least, most = TXSZ_LIMITS[granule_log2]
    regime = _make(
        draw(st.sampled_from(VaRange)),
        granule_log2=granule_log2,
        txsz=draw(st.integers(least if wide else 16, most)),
        ds=wide and granule_log2 != 16,
        lva=wide,
        ttst=True,
        pa_bits=52 if wide else draw(st.sampled_from((36, 44, 48))),
        ips_bits=draw(st.sampled_from((32, 40, 48, 52))),
    )
    flags = ("ha", "hd", "hpd", "wxn", "epan", "pnch", "tbi", "mtx", "big_endian")
    changed: dict[str, Any] = {flag: draw(st.booleans()) for flag in flags}
    return replace(regime, **changed)


def _word(rng: np.random.Generator, regime: Regime, world: tuple[int, int]) -> int:
    """A descriptor that may be anything, and is often something."""
    base_pa, tables = world
    granule = 1 << regime.geometry.granule_log2
    noise = int(rng.integers(1 << 63)) << 1
    encode, keep = regime.address_format.encode, ~regime.address_format.mask(12)
    kind = rng.integers(8)
    if kind < 4:
        # A table, mostly in memory, perhaps one that others lead to as well.
        number = int(rng.integers(tables)) if rng.integers(12) else int(rng.choice((-1, tables)))
        pa = base_pa + granule * number
        return encode(pa) | 0b11 | noise & 0xF << 59 | noise & 0x400
    if kind < 6:
        pa = int(rng.integers(1 << 32)) & -granule
        return encode(pa) | noise & keep & ~0b11 | (0b11 if kind == 4 else 0b01)
    return noise | int(rng.integers(2))


def _fill(rng: np.random.Generator, regime: Regime, base_pa: int, tables: int) -> bytes:
    """Tables of a few descriptors each, some of them in rows that go on from each other."""
    granule = 1 << regime.geometry.granule_log2
    words = np.zeros((tables, granule // 8), np.uint64)
    for row in words:
        for _ in range(rng.integers(12)):
            word = _word(rng, regime, (base_pa, tables))
            # The first entries are where a small first table is.
            at, length = int(rng.integers(rng.choice((4, 512, len(row))))), int(rng.choice((1, 1, 2, 17)))
            ahead = np.arange(len(row[at : at + length]), dtype=np.uint64)
            row[at : at + length] = np.uint64(word) + ahead * np.uint64(granule if word & 3 == 3 else 0)
    return words.astype(">u8" if regime.big_endian else "<u8").tobytes()


@st.composite
def _worlds(draw: st.DrawFn) -> World:
    regime = draw(_regimes())
    granule = 1 << regime.geometry.granule_log2
    tables = draw(st.integers(1, 10))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    base_pa = draw(st.sampled_from((1 << 16, BASE_PA)))
    data = _fill(rng, regime, base_pa, tables)
    table_pa = base_pa + draw(st.integers(0, tables - 1)) * granule
    # Memory may start and end within a granule.
    head = draw(st.sampled_from((0, 0, 0, 0, 8, 24)))
    tail = draw(st.sampled_from((0, 0, 0, 8)))
    return World(regime.at_table(table_pa), data[head : len(data) - tail], base_pa + head)


@pytest.fixture(scope="session")
def regimes() -> st.SearchStrategy[Regime]:
    """Regimes of every granule, format and start level, with their flags at random."""
    return _regimes()


@pytest.fixture(scope="session")
def worlds() -> st.SearchStrategy[World]:
    """Regimes with memories of tables that lead to each other, to themselves and to nowhere."""
    return _worlds()


@pytest.fixture
def builder(make_regime: MakeRegime) -> TableBuilder:
    """Pages with a gap, a block between tables, a contiguous group, and tables that take rights away."""
    builder = TableBuilder(make_regime(VaRange.UPPER), BASE_PA)
    at = builder.regime.lowest_va
    kernel = leaf_attributes(uxn=True)
    builder.map(at + 0x1000, 0x5000_1000, 0x3000, attributes=kernel)
    builder.map(at + 0x5000, 0x5000_5000, 0x2000, attributes=kernel | 1 << 55)
    builder.map(at + 0x20_0000, 0x6000_0000, 0x20_0000, attributes=kernel, level=2)
    builder.map(at + 0x40_0000, 0x7000_0000, 0x1_0000, attributes=kernel, contiguous=True)
    builder.map(at + 0x41_0000, 0x1000, 0x1000, attributes=leaf_attributes(ap=3))
    builder.map(at + (1 << 40), 0x8000_0000, 1 << 30, level=1)
    builder.map((1 << 64) - 0x1000, 0x9000, 0x1000, attributes=kernel)
    builder.add_table_bits(at, 2, 1 << 59)
    builder.add_table_bits(at, 0, 1 << 62)
    return builder
