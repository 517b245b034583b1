"""Tests of harness.tables.fields: words of descriptors that kernels were seen to write."""

from __future__ import annotations

import pytest

from harness.tables.fields import fields_of, kind_in_words
from harness.vmsa import Regime, VaRange, decode, derive, registers_for
from harness.vmsa.registers import Tcr


def _regime(granule_log2: int = 12, *, ds: bool = False, tcr: int = 0) -> Regime:
    regime = derive(
        registers_for(
            granule_log2=granule_log2, txsz=16, ds=ds, tcr=tcr, mair=0x4_0044_FFFF,
            pa_bits=52 if ds else 48, ips_bits=52 if ds else 48,
        ),
        VaRange.UPPER,
    )  # fmt: skip
    assert isinstance(regime, Regime)
    return regime


def _said(regime: Regime, word: int, level: int) -> dict[str, str]:
    descriptor = decode(word, level, regime.geometry, regime.address_format)
    return {field.name: field.meaning for field in fields_of(regime, descriptor)}


def test_kernel_text() -> None:
    """A leaf of kernel text: read-only, EL1 executes, EL0 does not, inner shareable, Normal."""
    said = _said(_regime(), 0x00C0_0000_4021_0F83, 3)
    assert said["UXN"] == "EL0 may not execute"
    assert said["PXN"].startswith("EL1 may execute")
    assert said["AP[2]"] == "read-only"
    assert said["SH"] == "inner shareable"
    assert "Normal WB-RWA" in said["AttrIndx"]
    assert "written to" in said["PTE_DIRTY"]


def test_dirty_state() -> None:
    """DBM means what TCR.HD makes of it, and AP[2] then is the dirty state."""
    clean = 0x0068_0000_0800_0F93
    assert "hardware does not keep" in _said(_regime(), clean, 3)["DBM"]
    managed = _regime(tcr=Tcr.ha.mask | Tcr.hd.mask)
    assert "clean: the first write" in _said(managed, clean, 3)["DBM"]
    assert "PTE_WRITE" in _said(managed, clean, 3)


def test_contiguous() -> None:
    """The contiguous bit says how many share, and that it is ignored where it is."""
    assert "one of 16 that map 64 KiB" in _said(_regime(), 0x0010_0000_4021_0F83, 3)["Contiguous"]
    assert "one of 128 that map 2 MiB" in _said(_regime(14), 0x0010_0000_4021_0F83, 3)["Contiguous"]


def test_shareability_bits_of_lpa2() -> None:
    """With LPA2 the bits of SH are the address's, and TCR says what is shared."""
    said = _said(_regime(ds=True), 0x0000_0000_4021_0703, 3)
    assert "SH" not in said
    assert "address bits" in said["OA[51:50]"]


def test_tables() -> None:
    """A table descriptor says where it leads and what it imposes."""
    regime = _regime()
    table = decode(0x1800_0000_57FF_C003, 1, regime.geometry, regime.address_format)
    assert kind_in_words(regime, table) == "table descriptor: the next table is at 0x57ffc000"
    assert [field.name for field in fields_of(regime, table)] == ["UXNTable", "PXNTable"]


def test_hpd_makes_them_void() -> None:
    """With TCR.HPD what a table imposes is said to be without effect."""
    said = _said(_regime(tcr=Tcr.hpd1.mask), 0x1800_0000_57FF_C003, 1)
    assert all("without effect" in meaning for meaning in said.values())


@pytest.mark.parametrize(
    ("word", "level", "name"),
    [
        (0x00E0_0000_4021_0C82, 3, "PTE_PRESENT_INVALID"),
        (0x0000_0000_0001_2340, 3, "swap offset"),
        (0x0000_0000_4021_0001, 3, "type"),
        (0x0000_0000_4000_0001, 0, "type"),
    ],
)
def test_what_hardware_does_not_see(word: int, level: int, name: str) -> None:
    """PROT_NONE, swap entries and reserved encodings are named, and their kind is no mapping."""
    regime = _regime()
    descriptor = decode(word, level, regime.geometry, regime.address_format)
    assert name in [field.name for field in fields_of(regime, descriptor)]
    assert "invalid" in kind_in_words(regime, descriptor)


def test_zero_says_nothing() -> None:
    """An entry that is 0 has no fields to explain."""
    assert not _said(_regime(), 0, 2)
