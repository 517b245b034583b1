"""Records of columns."""

from __future__ import annotations

import numpy as np
import pytest

from harness.bulk import columns
from harness.bulk.columns import Entries, LeafEntries, Output


def _leaves(first: int, count: int) -> LeafEntries:
    va = np.arange(first, first + count, dtype=np.uint64)
    entries = Entries(va=va, pa=va + np.uint64(100), word=va, inherited=np.zeros(count, np.uint8))
    return LeafEntries.of(entries, 3, 12)


def test_output_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """More may be written than there was room for, and all of it is there, in all columns."""
    monkeypatch.setattr(columns, "_FIRST_CAPACITY", 3)
    out = Output(1000)
    for start, count in ((0, 2), (2, 0), (2, 1), (3, 50), (53, 7)):
        out.append(_leaves(start, count))
    assert out.leaves.va.tolist() == list(range(60))
    assert out.leaves.pa.tolist() == list(range(100, 160))
    assert set(out.leaves.level.tolist()) == {3}
    assert set(out.leaves.size_log2.tolist()) == {12}


@pytest.mark.parametrize("count", [0, 1, 1 << 16, 1 << 18])
def test_room_has_columns_of_their_own(count: int) -> None:
    """Columns in one block do not overlap, and have the types that they say."""
    room = LeafEntries.room(count)
    for number, name in enumerate(room.names()):
        assert len(getattr(room, name)) == count
        getattr(room, name)[:] = number + 1
    for number, name in enumerate(room.names()):
        assert (getattr(room, name) == number + 1).all()
    assert [column.dtype.str[1:] for column in (room.level, room.va)] == ["i1", "u8"]


def test_split_and_join() -> None:
    """Rows that were taken apart and joined are the same rows."""
    leaves = _leaves(5, 10)
    parts = list(leaves.split(4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert LeafEntries.join([_leaves(0, 0), *parts]).va.tolist() == leaves.va.tolist()
    assert len(LeafEntries.join([_leaves(0, 0)])) == 0


def test_in_order() -> None:
    """Sorting moves whole rows."""
    mixed = LeafEntries.join([_leaves(7, 2), _leaves(1, 2)]).in_order()
    assert mixed.va.tolist() == [1, 2, 7, 8]
    assert mixed.pa.tolist() == [101, 102, 107, 108]
