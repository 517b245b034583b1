"""Tests of harness.cli.replay: which cells of a report can be run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.replay import chosen
from harness.determinism.record import RunRecord
from harness.errors import UsageError
from harness.verdict import CellResult

REPORT = Path("report.json")


def test_all_cells_that_repeat(exact_cell: CellResult, exact_record: RunRecord) -> None:
    """Without an id every cell with a record is run again; with one that cell alone."""
    other = replace(exact_cell, id="16k-k")
    cells = (exact_cell, replace(exact_cell, id="64k-k", exact=None), other)
    assert chosen(cells, None, REPORT) == ((exact_cell, exact_record), (other, exact_record))
    assert chosen(cells, "16k-k", REPORT) == ((other, exact_record),)


def test_none_that_repeats(exact_cell: CellResult) -> None:
    """A report of ordinary runs is refused with the command that makes another; so is an unknown id."""
    ordinary = replace(exact_cell, id="64k-k", exact=None)
    with pytest.raises(UsageError, match="--deterministic"):
        chosen((ordinary,), None, REPORT)
    with pytest.raises(UsageError, match="it has 4k-k"):
        chosen((exact_cell, ordinary), "64k-k", REPORT)
