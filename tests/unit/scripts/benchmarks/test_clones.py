"""The figures that `scripts/bench clones` prints for machines."""

from __future__ import annotations

import pytest
from benchmarks import clones

TIMES = {
    "a": {"clone": [0.1, 0.9, 0.2], "pool": [0.03], "vng": []},
    "b": {"clone": [0.3], "pool": [0.05], "vng": []},
    "c": {"clone": [0.8], "pool": [0.04], "vng": []},
}


def test_figures_are_plain_milliseconds() -> None:
    """A figure is the median over the kernels of each kernel's median, which stands under by_kernel."""
    figures = clones.medians(TIMES)
    assert figures["clone_first_answer_ms_p50"] == 300
    assert figures["pool_first_answer_ms_p50"] == 40
    assert figures["by_kernel"]["a"] == {"clone_first_answer_ms_p50": 200, "pool_first_answer_ms_p50": 30}
    assert "virtme_ng_ms_p50" not in figures


def test_a_way_that_could_not_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """People see every way in the table, and which ones did not run."""
    about = {"machine": "m", "load": 0.1, "runs": 3, "hundred_tests_s": 7.5, "fresh_guests_per_s": 13.3}
    clones.show({**clones.medians(TIMES), **about, "idle_clones_mib": 500})
    said = capsys.readouterr().out
    assert said.count("not run") == 12
    assert "13.3 fresh guests a second" in said
    assert "500 MiB" in said
