"""Memory types: the MAIR of Linux, and all 256 bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.vmsa import Page, Regime, Shareability, memory_type, shareability
from harness.vmsa.attributes import DeviceMemory, NormalMemory, ReservedMemory, decode_mair_byte

MakeRegime = Callable[..., Regime]


@pytest.mark.parametrize(
    ("mair", "wanted"),
    [
        (0x4_0044_FFFF, ["Normal WB-RWA", "Normal WB-RWA", "Normal NC", "Device-nGnRnE", "Device-nGnRE"]),
        (
            0x4_0044_F0FF,
            ["Normal WB-RWA", "Normal WB-RWA tagged", "Normal NC", "Device-nGnRnE", "Device-nGnRE"],
        ),
    ],
)
def test_mair_of_linux(make_regime: MakeRegime, mair: int, wanted: list[str]) -> None:
    """The MAIR that Linux loads, without and with MTE: what it calls NORMAL, TAGGED, NC and the devices."""
    regime = make_regime(mair=mair)
    assert [str(memory_type(regime, Page(index << 2 | 3, 3, 0))) for index in range(5)] == wanted


@pytest.mark.parametrize(
    ("attr", "wanted"),
    [
        (0x00, "Device-nGnRnE"), (0x04, "Device-nGnRE"), (0x08, "Device-nGRE"), (0x0C, "Device-GRE"),
        (0x01, "Device-nGnRnE"), (0x02, "reserved (0x02)"), (0x0F, "reserved (0x0f)"), (0x44, "Normal NC"),
        (0x40, "Normal NC"), (0xA0, "Normal WT-RA"), (0xBB, "Normal WT-RWA"), (0xAA, "Normal WT-RA"),
        (0x77, "Normal WBt-RWA"), (0x4F, "Normal inner WB-RWA outer NC"), (0x88, "Normal WT"),
        (0xF0, "Normal WB-RWA tagged"), (0x50, "reserved (0x50)"), (0xEE, "Normal WB-RA"),
    ],
)  # fmt: skip
def test_mair_bytes(attr: int, wanted: str) -> None:
    """Bytes and what they are called."""
    assert str(decode_mair_byte(attr)) == wanted


def test_every_byte_is_of_one_kind() -> None:
    """All 256 bytes: 8 of devices, 3 special ones, 15 times 15 of inner and outer; the rest is reserved."""
    kinds = [type(decode_mair_byte(attr)) for attr in range(256)]
    assert kinds.count(DeviceMemory) == 8
    assert kinds.count(NormalMemory) == 15 * 15 + 3
    assert kinds.count(ReservedMemory) == 256 - 8 - 15 * 15 - 3


def test_mair2_has_the_upper_half_of_the_indices(make_regime: MakeRegime) -> None:
    """Bit 59 is AttrIndx[3], when TCR2.AIE says so."""
    regime = replace(make_regime(mair=0xFF), mair2=0x44)
    leaf = Page(1 << 59 | 3, 3, 0)
    assert str(memory_type(regime, leaf)) == "Normal WB-RWA"
    assert str(memory_type(replace(regime, aie=True), leaf)) == "Normal NC"


def test_shareability_of_lpa2_is_tcrs(make_regime: MakeRegime) -> None:
    """With DS=1 bits 9:8 are address, and TCR.SH0 rules."""
    leaf = Page(0x203, 3, 0)
    assert shareability(make_regime(tcr=3 << 12), leaf) is Shareability.OUTER
    wide = make_regime(tcr=3 << 12, ds=True, pa_bits=52, ips_bits=52)
    assert shareability(wide, leaf) is Shareability.INNER
