"""Results to compare, made of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.bench.guest_output import Outcome, Samples
from harness.bench.profile import Profile
from harness.bench.result import Clock, Result, Row
from harness.spec import PageSize

MakeRow = Callable[..., Row]
MakeResult = Callable[..., Result]


@pytest.fixture
def row() -> MakeRow:
    """Makes a benchmark's row from its ticks."""

    def make(name: str, ticks: tuple[int, ...], **given: Any) -> Row:
        profile: Profile | None = given.pop("profile", None)
        varied: str = given.pop("varied", "")
        zeros = (0,) * len(ticks)
        fields: dict[str, Any] = {
            "unit": "call", "about": "does it", "times": 1, "outcome": Outcome.OK, "reason": "",
            "faults": zeros, "table_kib": zeros,
        }  # fmt: skip
        samples = Samples(name=name, ticks=ticks, **{**fields, **given})
        return Row(samples=samples, profile=profile, varied=varied)

    return make


@pytest.fixture
def result() -> MakeResult:
    """Makes a result from rows."""

    def make(*rows: Row, **given: Any) -> Result:
        fields: dict[str, Any] = {
            "label": "k", "page_size": PageSize.K4, "clock": Clock.INSTRUCTIONS, "clock_hz": 10**9,
            "accelerator": "tcg", "cpu": "neoverse-n1", "qemu": "QEMU 7.2", "memory_mib": 384,
            "large_bytes": 64 << 20, "program_sha256": "aa", "release": "6.12", "version": "#1",
            "kernel_sha256": "bb", "origin": "somewhere", "compiler": "gcc 12", "config": {"A": "y"},
            "verified": True,
        }  # fmt: skip
        return Result(rows=rows, **{**fields, **given})

    return make
