"""Fixtures of the page-table tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.vmsa import Regime, VaRange, derive, registers_for

MakeRegime = Callable[..., Regime]


@pytest.fixture(scope="session")
def make_regime() -> MakeRegime:
    """Makes a Regime from the arguments of `registers_for`, 4K with 48 bits unless told."""

    def make(va_range: VaRange = VaRange.LOWER, **settings: Any) -> Regime:
        regime = derive(registers_for(**{"granule_log2": 12, "txsz": 16, **settings}), va_range)
        assert isinstance(regime, Regime)
        return regime

    return make
