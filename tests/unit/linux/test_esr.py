"""ESR decoding against values whose meaning other software printed."""

from __future__ import annotations

import pytest

from harness.linux.esr import describe_esr


@pytest.mark.parametrize(
    ("esr", "wanted"),
    [
        # The first three are of kernels that printed `EC = 0x25: DABT (current EL)`, `FSC = 0x07: level 3…`.
        (
            0x96000047,
            "EC 0x25 data abort, same EL; IL 1; WnR 1 (write); DFSC 0x07 translation fault, level 3",
        ),
        (0x86000006, "EC 0x21 instruction abort, same EL; IL 1; IFSC 0x06 translation fault, level 2"),
        (0xF2000800, "EC 0x3c BRK, AArch64; IL 1; immediate 0x0800"),
        (0x9600000F, "EC 0x25 data abort, same EL; IL 1; WnR 0 (read); DFSC 0x0f permission fault, level 3"),
        (0x92000061, "EC 0x24 data abort, lower EL; IL 1; WnR 1 (write); DFSC 0x21 alignment fault"),
        (
            0x9600002B,
            "EC 0x25 data abort, same EL; IL 1; WnR 0 (read); DFSC 0x2b translation fault, level -1",
        ),
        (0x02000000, "EC 0x00 unknown reason; IL 1; ISS 0x0000000"),
        (0xFC000000, "EC 0x3f unallocated; IL 0; ISS 0x0000000"),
    ],
)
def test_syndrome_is_put_into_the_manuals_words(esr: int, wanted: str) -> None:
    """Class, instruction length and fault status come out as the manual names them."""
    assert describe_esr(esr) == wanted


def test_every_syndrome_has_a_description() -> None:
    """No class and no status code raises, allocated or not."""
    for exception_class in range(64):
        for status in range(64):
            assert describe_esr(exception_class << 26 | status).startswith(f"EC {exception_class:#04x} ")
