"""What both stages derive alike from registers: sizes, granules, where the first table is.

Source: ASL AArch64_PhysicalAddressSize, AArch64_MaxTxSZ, AArch64_S1DecodeTG0, AArch64_S2DecodeTG0,
AArch64_S1TTBaseAddress, AArch64_S2TTBaseAddress. May import the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.vmsa.address import AddressFormat
from harness.vmsa.field import bits, ones
from harness.vmsa.registers import Mmfr0, Mmfr2

__all__ = [
    "PA_SIZES_BITS",
    "TG0",
    "TG1",
    "chosen_granule_log2",
    "max_txsz",
    "need",
    "oasize_bits",
    "pa_bits_of",
    "table_pa_of",
    "ttbr_is_wide",
]

PA_SIZES_BITS: Final = (32, 36, 40, 42, 44, 48, 52, 56)
"""Physical address sizes by their encoding in TCR.IPS and ID_AA64MMFR0_EL1.PARange."""

TG0: Final = {0: 12, 1: 16, 2: 14}
"""log2 of a granule by its encoding in TCR.TG0 and VTCR.TG0."""
TG1: Final = {1: 14, 2: 12, 3: 16}
"""log2 of a granule by its encoding in TCR.TG1."""


def need(value: int | None, name: str) -> int:
    """A register that cannot be done without; raises ValueError when it is absent."""
    if value is None:
        raise ValueError(f"{name.upper()} is not known, and there is no translating without it")
    return value


def pa_bits_of(mmfr0: Mmfr0) -> int:
    """The CPU's physical address size (ASL AArch64_PAMax); raises ValueError for a reserved PARange."""
    if mmfr0.parange >= len(PA_SIZES_BITS):
        raise ValueError(f"ID_AA64MMFR0_EL1 is {mmfr0.word:#x}: its PARange, {mmfr0.parange}, is reserved")
    return PA_SIZES_BITS[mmfr0.parange]


def chosen_granule_log2(
    encoded: int, named: Mapping[int, int], implemented: list[int], field: str, notes: list[str]
) -> int:
    """The granule that a TG field names; of a reserved or unimplemented one the smallest implemented.

    What is taken instead goes to `notes`. Raises ValueError when nothing is implemented.
    """
    if not implemented:
        raise ValueError("ID_AA64MMFR0_EL1 leaves no translation granule")
    wanted = named.get(encoded)
    if wanted in implemented:
        return wanted
    why = "reserved" if wanted is None else "a granule that is not implemented"
    notes.append(f"{field} is {encoded}, {why}: taken as the smallest implemented, 2^{implemented[0]} bytes")
    return implemented[0]


def oasize_bits(ps: int, pa_bits: int, address_format: AddressFormat, *, has_lpa2: bool) -> int:
    """The output address size (ASL AArch64_PhysicalAddressSize).

    `ps` is TCR.IPS, `has_lpa2` the feature for this granule, whether or not DS is set.
    """
    most = max(address_format.address_bits, 52 if has_lpa2 else 48)
    return min(PA_SIZES_BITS[ps], pa_bits, most)


def ttbr_is_wide(ps: int, address_format: AddressFormat) -> bool:
    """True where a 64-bit TTBR holds address bits 51:48 in 5:2."""
    if address_format is AddressFormat.LPA:
        return ps == PA_SIZES_BITS.index(52)
    return address_format is AddressFormat.LPA2


def table_pa_of(ttbr: int, table_bytes: int, address_format: AddressFormat, *, wide: bool) -> int:
    """The first table's address, aligned down to its size."""
    if address_format is AddressFormat.D128:
        lo, high = 5, bits(ttbr, 87, 80) << 48
    else:
        lo, high = (6, bits(ttbr, 5, 2) << 48) if wide else (1, 0)
    return (bits(ttbr, 47, lo) << lo | high) & ~ones(table_bytes.bit_length() - 1)


def max_txsz(granule_log2: int, mmfr2: Mmfr2) -> int:
    """ASL AArch64_MaxTxSZ."""
    return (47 if granule_log2 == 16 else 48) if mmfr2.st else 39
