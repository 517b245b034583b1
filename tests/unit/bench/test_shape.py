"""The tables of an area: by geometry, and as leaves have them."""

from __future__ import annotations

import numpy as np
import pytest

from harness.bench.shape import due_shape, found_shape
from harness.bulk import Anomalies, Leaves
from harness.bulk.columns import Entries, LeafEntries
from harness.spec import PageSize
from harness.vmsa import Regime, VaRange, derive, registers_for

START = 1 << 33
CONTIGUOUS = 1 << 52
MIB = 1 << 20


def _leaves(page_size: PageSize, vas: list[int], level: int, size_log2: int, word: int) -> Leaves:
    regime = derive(
        registers_for(granule_log2=page_size.value, txsz=16, pa_bits=48, ips_bits=48), VaRange.LOWER
    )
    assert isinstance(regime, Regime)
    every, small = np.array(vas, np.uint64), np.zeros(len(vas), np.uint8)
    words = np.full(len(vas), word, np.uint64)
    entries = LeafEntries.of(Entries(va=every, pa=every, word=words, inherited=small), level, size_log2)
    return Leaves(regime=regime, entries=entries, anomalies=Anomalies.none(), tables=0)


def test_by_geometry() -> None:
    """A GiB at 4K has 262144 descriptors in 512 tables; at 64K 16384 in two."""
    four, sixty = (due_shape(size, START, 1 << 30) for size in (PageSize.K4, PageSize.K64))
    assert (four.leaves, four.tables, four.table_bytes) == ({3: 262144}, {2: 1, 3: 512}, 513 * 4096)
    assert (sixty.leaves, sixty.tables, sixty.table_bytes) == ({3: 16384}, {2: 1, 3: 2}, 3 * 65536)


def test_an_area_across_a_table() -> None:
    """An area that begins inside one table and ends inside the next is in both."""
    assert due_shape(PageSize.K4, START + MIB, 2 * MIB).tables == {2: 1, 3: 2}


@pytest.mark.parametrize("size", list(PageSize))
def test_found_as_due(size: PageSize) -> None:
    """Leaves of each page of the area, and others around it, are what geometry says."""
    pages = [START - size.bytes, *range(START, START + 64 * MIB, size.bytes), START + 64 * MIB]
    found = found_shape(_leaves(size, pages, 3, size.value, 0), size, START, 64 * MIB)
    assert found == due_shape(size, START, 64 * MIB)


def test_contiguous_and_blocks() -> None:
    """Leaves in contiguous sets are counted, and blocks are leaves of level 2 without a table of level 3."""
    joined = _leaves(PageSize.K4, list(range(START, START + 64 * 1024, 4096)), 3, 12, CONTIGUOUS)
    assert found_shape(joined, PageSize.K4, START, MIB).contiguous == 16
    block = _leaves(PageSize.K4, [START], 2, 21, 0)
    found = found_shape(block, PageSize.K4, START, 2 * MIB)
    assert (found.leaves, found.tables, found.contiguous) == ({2: 1}, {2: 1, 3: 0}, 0)
