"""What of a range of addresses no leaf maps. May import `harness.bulk` only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.bulk.columns import Words

__all__ = ["holes"]


def holes(va: range, starts: Words, ends: Words) -> Iterator[range]:
    """The unmapped parts of a range; `starts` and `ends` of the leaves, in order, an end of 2^64 being 0."""
    if not len(va):
        return
    # The last address of each, because the first after it may be 0.
    lasts = ends - np.uint64(1)
    within = np.flatnonzero((starts <= np.uint64(va.stop - 1)) & (lasts >= np.uint64(va.start)))
    if not len(within):
        yield va
        return
    starts, lasts = starts[within], lasts[within]
    gaps = np.flatnonzero(starts[1:] != lasts[:-1] + np.uint64(1))
    before = [va.start, *(int(lasts[at]) + 1 for at in gaps), int(lasts[-1]) + 1]
    after = [int(starts[0]), *(int(starts[at + 1]) for at in gaps), va.stop]
    yield from (range(lo, hi) for lo, hi in zip(before, after, strict=True) if lo < hi)
