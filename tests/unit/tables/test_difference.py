"""Tests of harness.tables.difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import UsageError
from harness.tables.difference import Difference, compare
from harness.tables.survey import survey
from harness.vmsa import leaf_attributes

MakeGuest = Callable[..., Any]


def _compare(before: Any, after: Any) -> Difference:
    return compare(
        *(survey(one.builder.regime, one.builder.read, origin="x", half="kernel") for one in (before, after))
    )


def test_the_same(make_guest: MakeGuest) -> None:
    """Two halves that map the same do not differ."""
    found = _compare(make_guest(), make_guest())
    assert not len(found)
    assert not found.counts()


def test_one_bit(make_guest: MakeGuest) -> None:
    """Text that became writable is one change, at its address, with the bit that differs."""
    before, after = make_guest(), make_guest()
    va = after.image_va + 4096
    pa = after.builder.descriptor_pa(va, 3)
    word = int.from_bytes(after.builder.read(pa, 8), "little")
    after.builder.plant(va, 3, word & ~(1 << 7))
    (change,) = _compare(before, after).changes()
    assert (change.va, change.size_bytes, change.region) == (va, 4096, "kernel image")
    assert change.only_attributes == (7,)
    assert change.before is not None
    assert change.after is not None
    assert (str(change.before.rights), str(change.after.rights)) == ("r-x/---", "rwx/---")


def test_added_and_removed(make_guest: MakeGuest) -> None:
    """What one side alone maps has no other side."""
    before, after = make_guest(), make_guest()
    va = after.linear_va + (1 << 30)
    after.builder.map(va, 0x6000_0000, 4 << 20, attributes=leaf_attributes(uxn=True, pxn=True))
    (change,) = _compare(before, after).changes()
    assert change.kinds == ("mapped only in the second",)
    assert change.before is None
    assert change.after is not None
    assert change.after.leaf == "2M block"
    assert _compare(before, after).counts() == {"mapped only in the second": (1, 4 << 20)}
    (removed,) = _compare(after, before).changes()
    assert (removed.kinds, removed.after) == (("mapped only in the first",), None)


def test_split_blocks(make_guest: MakeGuest) -> None:
    """A block that became pages of the same memory is a change of leaf size only."""
    before, after = make_guest(), make_guest()
    va = before.linear_va + (1 << 30)
    before.builder.map(va, 0x6000_0000, 2 << 20, level=2)
    after.builder.map(va, 0x6000_0000, 2 << 20, level=3)
    (change,) = _compare(before, after).changes()
    assert change.kinds == ("leaf size",)
    assert not change.only_attributes


def test_limit(make_guest: MakeGuest) -> None:
    """No more changes are made than were asked for, and none is left out of the counts."""
    before, after = make_guest(), make_guest()
    for number in range(5):
        after.builder.map(after.linear_va + (1 << 30) + number * 8192, 0x6000_0000, 4096, level=3)
    found = _compare(before, after)
    assert len(list(found.changes(2))) == 2
    assert found.counts()["mapped only in the second"] == (5, 5 * 4096)


def test_not_comparable(make_guest: MakeGuest) -> None:
    """Halves of two page sizes are refused in words."""
    with pytest.raises(UsageError, match="geometry"):
        _compare(make_guest(12), make_guest(14))
