"""Rights in bulk: equal to the specification's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bulk import Leaves, Ram, permissions, walk_all
from harness.bulk.columns import LeafEntries
from harness.bulk.leaves import Anomalies
from harness.vmsa import Regime, Right, TableBuilder
from harness.vmsa import permissions as specified

WORD = st.integers(0, (1 << 64) - 1)
FLAGS = ("ha", "hd", "hpd", "wxn", "has_pan", "epan", "pie", "poe", "e0poe")


@settings(max_examples=50, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1 << 32), pan=st.booleans())
def test_is_equal_to_the_specification(
    regimes: st.SearchStrategy[Regime], data: st.DataObject, seed: int, pan: bool
) -> None:
    """Of any leaf under any tables, with direct and indirect permissions and overlays."""
    regime = data.draw(regimes)
    changed: dict[str, Any] = {name: data.draw(WORD) for name in ("pir", "pire0", "por", "por_el0")}
    changed |= {flag: data.draw(st.booleans()) for flag in FLAGS}
    regime = replace(regime, **changed)
    rng = np.random.default_rng(seed)
    count = 64
    entries = LeafEntries.room(count)
    entries.word[:] = rng.integers(0, 1 << 64, count, np.uint64) | np.uint64(3)
    entries.inherited[:] = rng.integers(0, 32, count)
    entries.level[:], entries.size_log2[:], entries.va[:], entries.pa[:] = 3, 12, 0, 0
    leaves = Leaves(regime=regime, entries=entries, anomalies=Anomalies.none(), tables=1)
    rights = permissions(regime, leaves, pan=pan)
    for one, privileged, user in zip(leaves, rights.privileged, rights.user, strict=True):
        wanted = specified(regime, one.leaf, one.inherited, pan=pan)
        assert (Right(int(privileged)), Right(int(user))) == (wanted.privileged, wanted.user)


def test_masks_of_rights(builder: TableBuilder) -> None:
    """Where software has all of some rights: tables that take them away included."""
    leaves = walk_all(builder.regime, Ram(builder.arena, builder.arena_pa))
    rights = permissions(builder.regime, leaves)
    writable = rights.privileged_may(Right.READ | Right.WRITE)
    executable = rights.privileged_may(Right.EXECUTE)
    for one, may_write, may_execute in zip(leaves, writable, executable, strict=True):
        below_first = one.va >> 39 == builder.regime.lowest_va >> 39
        assert may_write == (not below_first)
        assert may_execute == (one.va >> 21 != builder.regime.lowest_va >> 21)
    assert rights.user_may(Right.READ).sum() == 1


def test_no_leaves(builder: TableBuilder) -> None:
    """Of no leaves there are no rights."""
    assert len(permissions(builder.regime, walk_all(builder.regime, Ram(b""))).user) == 0
