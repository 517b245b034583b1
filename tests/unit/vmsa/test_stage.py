"""What both stages share: which addresses a first table covers, and what its TTBR holds."""

from __future__ import annotations

import pytest

from harness.vmsa import Regime, VaRange, derive, registers_for
from harness.vmsa.address import AddressFormat


def _regime(va_range: VaRange = VaRange.LOWER, **settings: int) -> Regime:
    values: dict[str, int] = {"granule_log2": 12, "txsz": 16, **settings}
    regime = derive(registers_for(**values), va_range)  # type: ignore[arg-type]
    assert isinstance(regime, Regime)
    return regime


def test_span() -> None:
    """A range is all addresses of its size, from its lowest on, and no tagged ones."""
    lower, upper = _regime(), _regime(VaRange.UPPER)
    assert [lower.spans(va) for va in (-1, 0, (1 << 48) - 1, 1 << 48, 1 << 60)] == [
        False, True, True, False, False,
    ]  # fmt: skip
    assert [upper.spans(va) for va in (0, (0xFFFF << 48) - 1, 0xFFFF << 48, (1 << 64) - 1, 1 << 64)] == [
        False, False, True, True, False,
    ]  # fmt: skip


def test_entries_of_the_first_table_and_of_others() -> None:
    """The first table's entries are the upper bits of the range, those of others a stride."""
    regime = _regime(txsz=25)
    assert (regime.start_level, regime.start_bits, regime.start_table_bytes) == (1, 9, 4096)
    va = 3 << 30 | 5 << 21 | 7 << 12
    assert [regime.index(va, level) for level in (1, 2, 3)] == [3, 5, 7]


@pytest.mark.parametrize(
    ("settings", "table_pa", "ttbr"),
    [
        ({}, 0x1234_5000, 0x1234_5000),
        ({"granule_log2": 16, "pa_bits": 52, "ips_bits": 52}, 0xA_0000_1234_0000, 0x1234_0000 | 0xA << 2),
        ({"d128": True, "pa_bits": 56}, 0xAB_0000_1234_5600, 0xAB << 80 | 0x1234_5600),
    ],
)
def test_ttbr_of_each_form(settings: dict[str, int], table_pa: int, ttbr: int) -> None:
    """Upper address bits are where 48, 52 and 56 bits have them."""
    regime = _regime(VaRange.LOWER, **settings)
    assert regime.ttbr_for(table_pa) == ttbr
    assert regime.at_table(table_pa).table_pa == table_pa
    for wrong in (-regime.start_table_bytes, table_pa + 8, 1 << 56):
        with pytest.raises(ValueError, match="TTBR cannot hold"):
            regime.ttbr_for(wrong)


@pytest.mark.parametrize("form", AddressFormat)
def test_addresses_survive_their_encoding(form: AddressFormat) -> None:
    """Every address bit has its own place in a descriptor, and one more does not fit."""
    for bit in range(16, form.address_bits):
        assert form.address(form.encode(1 << bit), 16) == 1 << bit
        assert form.encode(1 << bit).bit_count() == 1
    assert form.mask(16).bit_count() == form.address_bits - 16
    with pytest.raises(ValueError, match="does not fit"):
        form.encode(1 << form.address_bits)
