"""The history file and its trends."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench.history import append_history, read_history, trends
from harness.errors import UsageError
from harness.spec import PageSize

from .conftest import MakeResult, MakeRow


def test_drift(row: MakeRow, result: MakeResult, tmp_path: Path) -> None:
    """Nights are appended, and each kernel's benchmark has its drift from the first to the last."""
    path = tmp_path / "history"
    for ticks in (100, 110, 132):
        append_history(
            path, [result(row("fork", (ticks,))), result(row("fork", (7,)), page_size=PageSize.K64)]
        )
    drifting, still = trends(read_history(path))
    assert (drifting.title, drifting.values) == ("k 4K", (100, 110, 132))
    assert drifting.percent == pytest.approx(32)
    assert drifting.last_percent == pytest.approx(20)
    assert (still.title, still.percent) == ("k 64K", 0)


def test_another_program(row: MakeRow, result: MakeResult, tmp_path: Path) -> None:
    """What another program counted is no drift of this one's."""
    path = tmp_path / "history"
    append_history(path, [result(row("fork", (100,))), result(row("fork", (200,)), program_sha256="other")])
    assert [one.percent for one in trends(read_history(path))] == [0, 0]


def test_one_run(row: MakeRow, result: MakeResult, tmp_path: Path) -> None:
    """One run has no last step."""
    append_history(tmp_path / "history", [result(row("fork", (5,)))])
    (only,) = trends(read_history(tmp_path / "history"))
    assert (only.percent, only.last_percent) == (0, None)


@pytest.mark.parametrize(
    "line",
    ["x", "[]", '{"format": 9}', '{"format": 1, "made": "", "title": "", "clock": "", "kernel_sha256": ""}'],
)
def test_refused(tmp_path: Path, line: str) -> None:
    """A line that is none of ours is named."""
    (tmp_path / "history").write_text(line + "\n")
    with pytest.raises(UsageError, match="line 1"):
        read_history(tmp_path / "history")
