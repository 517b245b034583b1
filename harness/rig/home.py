"""The range that is not under test: maps the payload's code and data, in every regime.

4K pages and 39 bits of address in both ranges, which every CPU model has; two levels, blocks of 2 MiB. The
descriptors mean the same with and without TCR.DS (SH is 0) and suit WXN, PAN and EPAN: code is not writable,
nothing is open to EL0.
"""

from __future__ import annotations

from typing import Final

from harness.rig.layout import CODE_PA, DATA_BYTES, DATA_PA, HOME_PA
from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for
from harness.vmsa.registers import Sctlr, Tcr

__all__ = ["HOME_ATTR_INDX", "UPPER_ALIAS", "home_tables", "home_tcr", "home_ttbr"]

HOME_TXSZ: Final = 25
UPPER_ALIAS: Final = (1 << 64) - (1 << 64 - HOME_TXSZ)
HOME_ATTR_INDX: Final = 7
"""Normal memory in every MAIR that a job loads."""
_TABLES_BYTES: Final = 0x1_0000
_BLOCK_LEVEL: Final = 2
_TG0_4K, _TG1_4K = 0, 2


def _builder(*, big_endian: bool) -> TableBuilder:
    registers = registers_for(granule_log2=12, txsz=HOME_TXSZ, sctlr=Sctlr.ee.into(0, big_endian))
    regime = derive(registers, VaRange.LOWER)
    assert isinstance(regime, Regime)  # noqa: S101 - 39 bits of 4K pages are legal everywhere
    builder = TableBuilder(regime, home_ttbr(big_endian=big_endian))
    code = leaf_attributes(attr_indx=HOME_ATTR_INDX, ap=0b10, sh=0, uxn=True)
    data = leaf_attributes(attr_indx=HOME_ATTR_INDX, ap=0b00, sh=0, uxn=True, pxn=True)
    builder.map(CODE_PA, CODE_PA, DATA_PA - CODE_PA, attributes=code, level=_BLOCK_LEVEL)
    builder.map(DATA_PA, DATA_PA, DATA_BYTES, attributes=data, level=_BLOCK_LEVEL)
    return builder


def home_ttbr(*, big_endian: bool) -> int:
    """TTBR of the home tables, for either range; also where they lie."""
    return HOME_PA + _TABLES_BYTES * big_endian


def home_tables() -> tuple[tuple[int, bytes], ...]:
    """Physical address and bytes of the home tables, little-endian and big-endian."""
    builders = (_builder(big_endian=False), _builder(big_endian=True))
    return tuple((builder.arena_pa, builder.arena) for builder in builders)


def home_tcr(word: int, va_range: VaRange) -> int:
    """A TCR with one range made a home, walks enabled; the rest as in `word`."""
    if va_range is VaRange.LOWER:
        return Tcr.epd0.into(Tcr.tg0.into(Tcr.t0sz.into(word, HOME_TXSZ), _TG0_4K), False)
    return Tcr.epd1.into(Tcr.tg1.into(Tcr.t1sz.into(word, HOME_TXSZ), _TG1_4K), False)
