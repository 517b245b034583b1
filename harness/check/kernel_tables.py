"""The kernel half of the address space: every leaf by rules, a sample of addresses by a second walker.

Two walkers that read one corrupted table agree with each other: the rules see what they cannot, such as
kernel text that can be written. A wrong output address that is still RAM is seen by neither.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from harness.bulk import Leaves, Reads, permissions, walk_all
from harness.verdict import Finding
from harness.vmsa import Anomaly, AnomalyKind, Memory, Regime, Right, Translation, memory_type, walk
from harness.vmsa.attributes import NormalMemory

__all__ = ["KernelTables", "Walker", "check_kernel_tables"]

Walker = Callable[[int], int | None]
"""A second walker: the physical address of a virtual one, or None when it is not mapped."""

SAMPLED_LEAVES = 150
SAMPLED_EDGES = 75
SHOWN = 3

# KASAN maps thousands of shadow entries through one table, and a kernel may share tables at will.
NOT_A_FAULT = frozenset({AnomalyKind.TABLE_SHARED})


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTables:
    """What was looked at, and what was found."""

    leaves: int
    """Leaves of the whole kernel half, each held against every rule."""
    compared: int
    """Addresses that both walkers translated."""
    findings: tuple[Finding, ...]


def check_kernel_tables(
    regime: Regime, memory: Memory, walker: Walker | None, ram: range, *, seed: int = 0
) -> KernelTables:
    """Check the tables of a regime for the upper range while nothing changes them.

    Arguments: `walker`, the second opinion, or None where there is none; `ram`, the physical addresses that
    are RAM; `seed` chooses the sample.
    """
    leaves = walk_all(regime, Reads(memory))
    findings = [_anomaly(found) for found in leaves.anomalies if found.kind not in NOT_A_FAULT]
    findings += _by_rules(regime, leaves, ram)
    addresses = tuple(_sample(leaves, random.Random(seed))) if walker is not None else ()  # noqa: S311
    if walker is not None:
        findings += _by_walker(regime, memory, walker, addresses)
    if not len(leaves):
        findings.append(Finding(what="kernel page tables", wanted="leaves", seen="none"))
    return KernelTables(leaves=len(leaves), compared=len(addresses), findings=tuple(findings))


def _anomaly(found: Anomaly) -> Finding:
    where = f"level {found.level} at {found.va:#x}"
    return Finding(
        what=f"kernel page tables, {where}",
        wanted="a sound table",
        seen=f"{found.kind.value} ({found.pa:#x})",
    )


def _by_rules(regime: Regime, leaves: Leaves, ram: range) -> Iterator[Finding]:
    """No leaf is writable and executable, none is open to EL0, and Normal memory is RAM."""
    rights = permissions(regime, leaves)
    user = rights.user_may(Right.READ) | rights.user_may(Right.WRITE) | rights.user_may(Right.EXECUTE)
    last = leaves.pa + (leaves.size_bytes - np.uint64(1))
    outside = np.flatnonzero((leaves.pa < np.uint64(ram.start)) | (last >= np.uint64(ram.stop)))
    # Few leaves are outside RAM, and most of those are devices: the specification says which.
    stray = [
        index for index in outside if isinstance(memory_type(regime, leaves[int(index)].leaf), NormalMemory)
    ]
    broken = {
        "writable and executable": np.flatnonzero(
            rights.privileged_may(Right.WRITE) & rights.privileged_may(Right.EXECUTE)
        ),
        "open to EL0": np.flatnonzero(user),
        "Normal memory outside RAM": np.array(stray, dtype=np.intp),
    }
    for what, which in broken.items():
        if len(which):
            shown = [leaves[index] for index in which[:SHOWN]]
            places = ", ".join(f"{leaf.va:#x} -> {leaf.oa:#x} ({leaf.word:#x})" for leaf in shown)
            yield Finding(what=f"kernel leaves: {what}", wanted="none", seen=f"{len(which)}: {places}")


def _sample(leaves: Leaves, chance: random.Random) -> Iterator[int]:
    """Addresses within leaves, and just before and after them, where a hole may be."""
    count = len(leaves)
    for index in chance.sample(range(count), min(SAMPLED_LEAVES, count)):
        yield leaves[index].va + chance.randrange(leaves[index].size_bytes)
    for index in chance.sample(range(count), min(SAMPLED_EDGES, count)):
        yield leaves[index].va - 1
        # The last leaf of the address space has nothing after it.
        yield leaves[index].end_va & (1 << 64) - 1 or leaves[index].va


def _by_walker(
    regime: Regime, memory: Memory, walker: Walker, addresses: tuple[int, ...]
) -> Iterator[Finding]:
    for va in addresses:
        if not va >> 55 & 1:
            continue  # the edge of the lowest leaf lies in the other range
        outcome = walk(regime, memory, va)
        ours = outcome.pa if isinstance(outcome, Translation) else None
        theirs = walker(va)
        if ours != theirs:
            wanted = "unmapped" if ours is None else f"{ours:#x}"
            seen = "unmapped" if theirs is None else f"{theirs:#x}"
            yield Finding(what=f"translation of {va:#x}, by the model and by QEMU", wanted=wanted, seen=seen)
