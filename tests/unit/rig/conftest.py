"""ID registers of CPU models, as their manuals and QEMU give them, and a job to look at."""

from __future__ import annotations

import pytest

from harness.vmsa import Registers


@pytest.fixture
def max_cpu() -> Registers:
    """QEMU 7.2's `max`: LPA2 for 4K and 16K, LVA, TTST, HAFDBS 2, HPDS, PAN 2, E0PD."""
    return Registers.from_names(
        {
            "ID_AA64MMFR0_EL1": 0x0000_0323_1020_1126,
            "ID_AA64MMFR1_EL1": 0x0000_0110_1021_1122,
            "ID_AA64MMFR2_EL1": 0x1021_0110_1001_1011,
        }
    )


@pytest.fixture
def a57() -> Registers:
    """Cortex-A57 (TRM r1p3, 4.3): 44-bit addresses, 4K and 64K pages, and nothing that came later."""
    return Registers.from_names({"ID_AA64MMFR0_EL1": 0x1124, "ID_AA64MMFR1_EL1": 0, "ID_AA64MMFR2_EL1": 0})
