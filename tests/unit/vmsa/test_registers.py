"""Registers by the names that debuggers give them, and TCR values seen in real guests."""

from __future__ import annotations

import pytest

from harness.vmsa.registers import Registers, Tcr


def test_names_of_either_qemu_are_understood() -> None:
    """QEMU 7.2's SCTLR and ID_AA64MMFR3_EL1_RESERVED are the same registers as 10.2's."""
    old = Registers.from_names({"SCTLR": 5, "ID_AA64MMFR3_EL1_RESERVED": 6, "TCR_EL1": 7, "por_el0": 9})
    new = Registers.from_names({"SCTLR_EL1": 5, "ID_AA64MMFR3_EL1": 6, "tcr_el1": 7, "POR_EL0": 9})
    assert old == new
    assert (new.el1.sctlr, new.id_aa64mmfr3_el1, new.el1.tcr, new.por_el0) == (5, 6, 7, 9)


def test_banks_of_el1_and_el2_are_apart() -> None:
    """A name's suffix says which exception level's register it is."""
    registers = Registers.from_names({"TTBR1_EL1": 1, "TTBR1_EL2": 2, "HCR_EL2": 3})
    assert (registers.el1.ttbr1, registers.el2.ttbr1, registers.hcr_el2) == (1, 2, 3)


def test_absent_registers_are_recorded() -> None:
    """What was not given is None, and listed; names of no interest change nothing."""
    registers = Registers.from_names({"TCR_EL1": 0, "ESR_EL1": 1, "x0": 2})
    assert registers.el1.mair is None
    assert "TCR_EL1" not in registers.absent
    assert {"MAIR_EL1", "TCR2_EL1", "HCR_EL2", "PIRE0_EL2", "ID_AA64MMFR3_EL1"} <= set(registers.absent)


def test_table_base_registers_have_up_to_128_bits() -> None:
    """FEAT_SYSREG128 makes TTBRs and VTTBR_EL2 twice as wide, and no more than that."""
    wide = 0xAB << 80 | 1
    for name in ("TTBR0_EL1", "TTBR1_EL1", "TTBR0_EL2", "TTBR1_EL2", "VTTBR_EL2"):
        Registers.from_names({name: wide})
        with pytest.raises(ValueError, match="128 bits"):
            Registers.from_names({name: 1 << 128})
    registers = Registers.from_names({"TTBR1_EL1": wide, "VTTBR_EL2": 2, "VTCR_EL2": 3, "S2PIR_EL2": 4})
    assert registers.el1.ttbr1 == wide
    assert (registers.vttbr_el2, registers.vtcr_el2, registers.s2pir_el2) == (2, 3, 4)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_values_wider_than_a_register_are_refused(value: int) -> None:
    """A register has 64 bits."""
    with pytest.raises(ValueError, match="MAIR_EL1"):
        Registers.from_names({"MAIR_EL1": value})


# Values that Linux was seen to run with under QEMU, and what each was set up for.
@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        # 4K, 52-bit VA, cpu max
        (
            0x0950_01F6_B54C_350C,
            {"t0sz": 12, "t1sz": 12, "tg0": 0, "tg1": 2, "ds": 1, "ips": 6, "ha": 1, "hd": 1, "a1": 1}
            | {"tbi0": 1, "tbi1": 1, "tbid1": 1, "nfd1": 1, "e0pd1": 1, "hpd0": 0, "hpd1": 0, "as16": 1},
        ),
        # 16K, 52-bit VA, cpu max
        (0x0950_01F6_754C_B50C, {"t0sz": 12, "t1sz": 12, "tg0": 2, "tg1": 1, "ds": 1, "ips": 6}),
        # 4K, the same kernel on cortex-a57
        (
            0x0050_0074_B550_3510,
            {"t0sz": 16, "t1sz": 16, "tg0": 0, "tg1": 2, "ds": 0, "ips": 4, "ha": 0, "hd": 0, "e0pd1": 0},
        ),
        # 16K, a kernel for 52 bits fallen back to 47, cpu max,lpa2=off
        (0x0150_01F5_7551_B511, {"t0sz": 17, "t1sz": 17, "tg0": 2, "tg1": 1, "ds": 0, "ips": 5}),
    ],
)
def test_tcr_values_of_real_guests(word: int, wanted: dict[str, int]) -> None:
    """Every field of a TCR seen in a guest reads as what the kernel meant."""
    assert {name: int(getattr(Tcr(word), name)) for name in wanted} == wanted
