"""The figures that `scripts/bench selector` prints for machines."""

from __future__ import annotations

import os

import pytest
from benchmarks import selector


def test_costs_are_pair_by_pair() -> None:
    """A cost is the median of the differences to the plain start that was taken beside it."""
    start = selector.Start
    runs = {
        "plain": [start(100, 50), start(300, 60), start(200, 70)],
        "stored": [start(150, 55), start(310, 75), start(230, 80)],
        "lz4": [start(190, 150), start(390, 160), start(290, 170)],
    }
    assert selector.figures_of(runs) == {
        "plain_ms": 200, "stored_cost_ms": 30, "lz4_cost_ms": 90,
        "plain_cpu_ms": 60, "stored_cost_cpu_ms": 10, "lz4_cost_cpu_ms": 100,
    }  # fmt: skip


def test_cpu_time() -> None:
    """A process has had some processor time, and no less later."""
    first = selector.cpu_ms_of(os.getpid())
    assert 0 < first <= selector.cpu_ms_of(os.getpid())


def test_table_has_a_row_for_each_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """People get the costs of each kernel and the sizes of the files."""
    costs = dict(zip(selector.FIGURES, (200.0, 30.4, -9.0, 60.0, 10.0, 100.0), strict=True))
    selector.show({
        "machine": "m", "runs": 3, "cpu": "max", "by_kernel": {"a": costs}, "selector_bytes": 1 << 14,
        "member_bytes": {"a": 3 << 20}, "stored_bytes": 4 << 20, "lz4_bytes": 1 << 20,
    })  # fmt: skip
    said = capsys.readouterr().out
    assert ["a", "200", "+30", "-9", "60", "+10", "+100"] in [line.split() for line in said.splitlines()]
    assert "combined 4.00 MiB" in said
