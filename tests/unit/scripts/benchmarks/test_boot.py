"""The figures that `scripts/bench boot` prints for machines."""

from __future__ import annotations

import pytest
from benchmarks import boot

OURS = {"a": [1.0, 9.0, 2.0], "b": [3.0, 3.0, 3.0], "c": [8.0, 8.0, 8.0]}
PLAIN = {"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0, 2.0], "c": [8.0, 8.0, 8.0]}


def test_figures_are_plain_numbers() -> None:
    """A figure is the median over the kernels of each kernel's median, which stands under by_kernel."""
    figures = boot.boot_figures(OURS, PLAIN)
    assert (figures["launch_to_shell_s"], figures["plain_qemu_s"], figures["ratio"]) == (3.0, 2.0, 1.5)
    assert figures["by_kernel"]["a"] == {"launch_to_shell_s": 2.0, "plain_qemu_s": 1.0, "ratio": 2.0}


def test_table_has_a_row_for_each_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """People get the figures of each kernel."""
    about = {"machine": "m", "runs": 3, "matrix_s": 7.5, "guest_rss_mib": 200}
    boot.show({**boot.boot_figures(OURS, PLAIN), **about})
    said = capsys.readouterr().out
    assert ["a", "2.00", "1.00", "2.00"] in [line.split() for line in said.splitlines()]
    assert "7.5 s" in said
    assert "200 MiB" in said
