"""The figures that `scripts/bench debian` prints for machines."""

from __future__ import annotations

import pytest
from benchmarks import debian

TAKEN = [{"settled": 20.04, "cold": 25.0, "clone": 1.0}, {"settled": 21.0, "cold": 26.0, "clone": 3.0}]


def test_medians() -> None:
    """Each figure is the median of its runs, in seconds with one place."""
    assert debian.medians(TAKEN) == {"settled": 20.5, "cold": 25.5, "clone": 2.0}


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """People see each kernel's figures, and what its boot waited for."""
    by_kernel = {"debian-4k": {**debian.medians(TAKEN), "units": "2s a.service"}}
    debian.show({"machine": "m", "load": 0.1, "runs": 2, "by_kernel": by_kernel})
    said = capsys.readouterr().out
    assert "25.5" in said
    assert "2s a.service" in said
