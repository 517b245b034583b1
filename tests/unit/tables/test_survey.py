"""Tests of harness.tables.survey: sums and rows against the specification's own enumeration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.tables.survey import Survey, survey
from harness.vmsa import Mapping, Right, leaf_attributes, mappings

MakeGuest = Callable[..., Any]


def _survey(guest: Any) -> Survey:
    return survey(guest.builder.regime, guest.snapshot().read, origin="built", half="kernel")


@pytest.mark.parametrize("granule_log2", [12, 14, 16])
def test_rows_are_the_mappings(make_guest: MakeGuest, granule_log2: int) -> None:
    """Rows cover what the specification enumerates, address by address, and the totals are their sums."""
    guest = make_guest(granule_log2)
    found = _survey(guest)
    wanted = [one for one in mappings(guest.builder.regime, guest.builder.read) if isinstance(one, Mapping)]
    covered = [
        (row.va + at, row.pa + at) for row in found.rows() for at in range(0, row.size_bytes, row.leaf_bytes)
    ]
    assert covered == [(one.va, one.oa) for one in wanted]
    assert found.totals.leaves == len(wanted)
    assert found.totals.mapped_bytes == sum(one.size_bytes for one in wanted)
    # Everything in the arena is a table; of the first one only the part that is used.
    first, page = guest.builder.regime.start_table_bytes, 1 << granule_log2
    assert found.totals.table_bytes == len(guest.builder.arena) - (page - first)


def test_what_rows_say(make_guest: MakeGuest) -> None:
    """A row has the rights, the type of memory and the leaf of what it covers."""
    guest = make_guest()
    rows = {row.va: row for row in _survey(guest).rows()}
    text = rows[guest.image_va]
    assert str(text.rights) == "r-x/---"
    assert text.leaf == "4K page"
    device = rows[guest.image_va - (64 << 20)]
    assert str(device.memory) == "Device-nGnRE"
    assert device.is_device
    assert not device.is_cached


def test_sizes_of_leaves(make_guest: MakeGuest) -> None:
    """Leaves are counted by size and by contiguous group, and a row is of one kind."""
    guest = make_guest()
    va = guest.linear_va + (1 << 30)
    guest.builder.map(va, 0x6000_0000, 4 << 20, level=2)
    guest.builder.map(va + (8 << 20), 0x6080_0000, 1 << 16, level=3, contiguous=True)
    found = _survey(guest)
    shares = {share.leaf: (share.leaves, share.mapped_bytes) for share in found.totals.shares}
    assert shares["2M block"] == (2, 4 << 20)
    assert shares["4K page in 64K"] == (16, 1 << 16)
    assert [row.is_contiguous for row in found.rows() if row.va >= va][:2] == [False, True]


def test_write_and_execute(make_guest: MakeGuest) -> None:
    """A leaf that EL1 may write and execute is marked."""
    guest = make_guest()
    va = guest.linear_va + (1 << 30)
    guest.builder.map(va, 0x6000_0000, 4096, attributes=leaf_attributes(uxn=True), level=3)
    rows = [row for row in _survey(guest).rows() if row.is_write_exec]
    assert [row.va for row in rows] == [va]
    assert Right.EXECUTE in rows[0].rights.privileged


def test_limit(make_guest: MakeGuest) -> None:
    """No more rows are made than were asked for."""
    found = _survey(make_guest())
    assert len(list(found.rows(2))) == 2
    assert len(list(found.rows())) == len(found.found)


def test_what_was_odd(make_guest: MakeGuest) -> None:
    """A table outside of memory is odd, is no table that takes memory, and costs nothing else."""
    guest = make_guest()
    clean = _survey(guest)
    guest.builder.plant(guest.linear_va + (1 << 39), 0, 0x7_0000_0003)
    found = _survey(guest)
    assert [odd.pa for odd in found.anomalies] == [0x7_0000_0000]
    assert found.totals == clean.totals


def test_shared_tables_are_not_odd(make_guest: MakeGuest) -> None:
    """A table that is reached twice, as with KASAN, is counted once and is nothing odd."""
    guest = make_guest()
    clean = _survey(guest)
    regime = guest.builder.regime
    word = int.from_bytes(guest.builder.read(regime.table_pa, 8), "little")
    guest.builder.plant(guest.linear_va + (1 << 39), 0, word)
    found = _survey(guest)
    assert not found.anomalies
    assert found.totals.tables == clean.totals.tables


def test_the_last_leaf_of_all(make_guest: MakeGuest) -> None:
    """A leaf that ends with the address space has an end."""
    guest = make_guest()
    guest.builder.map((1 << 64) - 4096, 0x6000_0000, 4096, level=3)
    *_, last = _survey(guest).rows()
    assert last.end_va == 1 << 64
    assert _survey(guest).region_of(last.va).name == "guard"
