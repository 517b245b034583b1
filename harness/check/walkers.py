"""A second walker of the same tables, asked about a sample of addresses.

May import `harness.bulk`, `harness.vmsa` and `harness.verdict`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.bulk import Leaves, segments
from harness.verdict import Finding
from harness.vmsa import VaRange

__all__ = ["Answers", "Place", "Walker", "ask", "sampled_addresses", "walker_findings"]

Walker = Callable[[Sequence[int]], Sequence[int | None]]
"""A second walker: the physical addresses of virtual ones, None for those that are not mapped."""

Answers = tuple[tuple[int, int | None], ...]
"""Addresses, and what a walker said of each."""

Place = Callable[[int], str]
"""Where the descriptor is that ends an address's walk, in words."""

SAMPLED_LEAVES = 150
SAMPLED_EDGES = 75


def sampled_addresses(leaves: Leaves, seed: int) -> tuple[int, ...]:
    """Addresses of the leaves' range within leaves, and just before and after them, where a hole may be."""
    return tuple(
        va for va in _candidates(leaves, random.Random(seed))  # noqa: S311 - a sample, no secret
        if VaRange.of(va) is leaves.regime.va_range
    )  # fmt: skip


def _candidates(leaves: Leaves, chance: random.Random) -> Iterator[int]:
    count = len(leaves)
    for index in chance.sample(range(count), min(SAMPLED_LEAVES, count)):
        yield leaves[index].va + chance.randrange(leaves[index].size_bytes)
    for index in chance.sample(range(count), min(SAMPLED_EDGES, count)):
        # Before the first leaf there may be nothing, and after the last one of the address space.
        yield leaves[index].va - 1 & (1 << 64) - 1
        yield leaves[index].end_va & (1 << 64) - 1 or leaves[index].va


def ask(leaves: Leaves, walker: Walker, seed: int = 0) -> Answers:
    """What a walker says of a sample of addresses, to be asked while nothing changes."""
    vas = sampled_addresses(leaves, seed)
    return tuple(zip(vas, walker(vas), strict=True))


def walker_findings(leaves: Leaves, answers: Answers, place: Place = lambda va: "") -> Iterator[Finding]:
    """Addresses that the model and the walker, which may read all that is mapped, translate otherwise.

    QEMU's debug walk leaves the access flag alone, where a CPU that cannot set it would fault: the ledger's
    `debug-walk-ignores-access-flag`.
    """
    lenient = replace(leaves, regime=replace(leaves.regime, ha=True))
    pas, found = segments(lenient).translate(np.array([va for va, _ in answers], np.uint64))
    for (va, theirs), pa, is_mapped in zip(answers, pas.tolist(), found.tolist(), strict=True):
        ours = pa if is_mapped else None
        if ours != theirs:
            yield Finding(
                what=f"translation of {va:#x}, by the model and by QEMU",
                wanted="unmapped" if ours is None else f"{ours:#x}{place(va)}",
                seen="unmapped" if theirs is None else f"{theirs:#x}",
            )
