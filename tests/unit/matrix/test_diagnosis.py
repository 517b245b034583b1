"""Tests of harness.matrix.diagnosis that need no guest."""

from __future__ import annotations

import pytest

from harness.linux.kallsyms import SymbolTable
from harness.linux.symbols import Symboliser
from harness.matrix.diagnosis import IMAGE_LOAD_PA, _place, kaslr_from_vbar

TEXT = 0xFFFF800080000000
SYMBOLS = Symboliser(
    table=SymbolTable(
        [
            (TEXT, "_text"),
            (TEXT + 0x10800, "vectors"),
            (TEXT + 0x20000, "cpu_do_idle"),
            (TEXT + 0x20100, "next"),
        ]
    ),
    load_pa=IMAGE_LOAD_PA,
)
MMU_ON, MMU_OFF = {"SCTLR_EL1": 0x30D0199D}, {"SCTLR_EL1": 0x30D00800}


@pytest.mark.parametrize("offset", [0, 0x10000, 0x2F_12340000])
def test_kaslr_from_the_vectors(offset: int) -> None:
    """The displacement is that of VBAR_EL1 from `vectors`."""
    assert kaslr_from_vbar(SYMBOLS, TEXT + 0x10800 + offset) == offset


@pytest.mark.parametrize("vbar", [0, 0x40010800, TEXT + 0x10800 + 0x800])
def test_a_vbar_that_tells_nothing(vbar: int) -> None:
    """No vectors yet, physical ones, or the trampoline's: the displacement stays unknown."""
    assert kaslr_from_vbar(SYMBOLS, vbar) is None


def test_places() -> None:
    """A pc is named with the MMU on, moved or not, and by its physical address with the MMU off."""
    moved = {"pc": TEXT + 0x50004 + 0x20000 - 0x20000, "VBAR_EL1": TEXT + 0x10800 + 0x30000, **MMU_ON}
    assert "cpu_do_idle+0x4" in _place(moved, SYMBOLS)
    assert "cpu_do_idle+0x8" in _place({"pc": TEXT + 0x20008, **MMU_ON}, SYMBOLS)
    physical = _place({"pc": IMAGE_LOAD_PA + 0x20010, **MMU_OFF}, SYMBOLS)
    assert "cpu_do_idle+0x10" in physical
    assert physical.endswith("MMU off")


def test_a_vcpu_that_has_not_started() -> None:
    """A secondary that waits for PSCI is not given a name that means nothing."""
    assert "not started" in _place({"pc": 0, **MMU_OFF}, SYMBOLS)


def test_without_symbols() -> None:
    """A kernel without symbols still has a pc."""
    assert _place({"pc": TEXT, **MMU_ON}, None) == f"pc {TEXT:#x} = no symbols"
