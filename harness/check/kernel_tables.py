"""The kernel half of the address space: every leaf by rules, a sample of addresses by a second walker.

Two walkers that read one corrupted table agree with each other: the rules see what they cannot, such as
kernel text that can be written. A wrong output address that is still RAM is seen by neither.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.verdict import Finding
from harness.vmsa import (
    Anomaly,
    AnomalyKind,
    Mapping,
    Memory,
    Permissions,
    Regime,
    Right,
    Translation,
    mappings,
    memory_type,
    permissions,
    walk,
)
from harness.vmsa.attributes import NormalMemory

__all__ = ["KernelTables", "Walker", "check_kernel_tables"]

Walker = Callable[[int], int | None]
"""A second walker: the physical address of a virtual one, or None when it is not mapped."""

SAMPLED_LEAVES = 150
SAMPLED_EDGES = 75
SHOWN = 3

# KASAN maps thousands of shadow entries through one table, and a kernel may share tables at will.
NOT_A_FAULT = frozenset({AnomalyKind.TABLE_SHARED})
# Of a descriptor, what is left when the output address is taken out: attributes above and below it.
ATTRIBUTE_BITS = ~((1 << 50) - (1 << 12))


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
    leaves: list[Mapping] = []
    findings: list[Finding] = []
    for found in mappings(regime, memory):
        if isinstance(found, Mapping):
            leaves.append(found)
        elif found.kind not in NOT_A_FAULT:
            findings.append(_anomaly(found))
    findings += _by_rules(regime, leaves, ram)
    addresses = tuple(_sample(leaves, random.Random(seed))) if walker is not None else ()  # noqa: S311
    if walker is not None:
        findings += _by_walker(regime, memory, walker, addresses)
    if not leaves:
        findings.append(Finding(what="kernel page tables", wanted="leaves", seen="none"))
    return KernelTables(leaves=len(leaves), compared=len(addresses), findings=tuple(findings))


def _anomaly(found: Anomaly) -> Finding:
    where = f"level {found.level} at {found.va:#x}"
    return Finding(
        what=f"kernel page tables, {where}",
        wanted="a sound table",
        seen=f"{found.kind.value} ({found.pa:#x})",
    )


def _by_rules(regime: Regime, leaves: list[Mapping], ram: range) -> Iterator[Finding]:
    """No leaf is writable and executable, none is open to EL0, and Normal memory is RAM."""
    rights: dict[tuple[object, ...], Permissions] = {}
    broken: dict[str, list[Mapping]] = {}
    for leaf in leaves:
        key = (leaf.word & ATTRIBUTE_BITS, leaf.level, leaf.inherited)
        if key not in rights:
            rights[key] = permissions(regime, leaf.leaf, leaf.inherited)
        allowed = rights[key]
        if Right.WRITE in allowed.privileged and Right.EXECUTE in allowed.privileged:
            broken.setdefault("writable and executable", []).append(leaf)
        if allowed.user & (Right.READ | Right.WRITE | Right.EXECUTE):
            broken.setdefault(f"open to EL0 ({allowed.user})", []).append(leaf)
        inside = leaf.oa in ram and leaf.oa + leaf.size_bytes - 1 in ram
        if not inside and isinstance(memory_type(regime, leaf.leaf), NormalMemory):
            broken.setdefault("Normal memory outside RAM", []).append(leaf)
    for what, which in broken.items():
        places = ", ".join(f"{leaf.va:#x} -> {leaf.oa:#x} ({leaf.word:#x})" for leaf in which[:SHOWN])
        yield Finding(what=f"kernel leaves: {what}", wanted="none", seen=f"{len(which)}: {places}")


def _sample(leaves: list[Mapping], chance: random.Random) -> Iterator[int]:
    """Addresses within leaves, and just before and after them, where a hole may be."""
    for leaf in chance.sample(leaves, min(SAMPLED_LEAVES, len(leaves))):
        yield leaf.va + chance.randrange(leaf.size_bytes)
    for leaf in chance.sample(leaves, min(SAMPLED_EDGES, len(leaves))):
        yield leaf.va - 1
        # The last leaf of the address space has nothing after it.
        yield leaf.end_va & (1 << 64) - 1 or leaf.va


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
