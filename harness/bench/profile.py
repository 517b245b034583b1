"""Counts of instructions by function of the kernel. May import harness.bench, harness.linux and numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.bench.counts import Interval
from harness.bench.opcode import Kind, kinds_of
from harness.linux.kallsyms import SymbolTable

__all__ = ["ABORT", "NO_NAME", "Profile", "profile_of"]

NO_NAME: Final = "(no symbol: a module)"
ABORT: Final = "do_mem_abort"
"""Linux arch/arm64/mm/fault.c: where every abort of an access or a fetch goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Where the instructions of one sample went."""

    user: int
    functions: Mapping[str, int] = field(default_factory=dict)
    """The kernel's, by name of the function; symbols of one name count together."""
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    """Of the kernel's, those of a kind."""
    aborts: int = 0
    """How often the kernel was entered for an access or a fetch that faulted."""

    @property
    def kernel(self) -> int:
        """Instructions of the kernel."""
        return sum(self.functions.values())

    @property
    def total(self) -> int:
        """All of them; one that faults and is repeated counts twice."""
        return self.user + self.kernel


def profile_of(interval: Interval, symbols: SymbolTable | None) -> Profile:
    """The counts of an interval by the symbols of a kernel that runs where it was linked."""
    functions: Counter[str] = Counter()
    kinds: Counter[Kind] = Counter()
    aborts = 0
    entries = interval.entries
    for va, count, opcode in zip(
        entries["va"].tolist(), entries["count"].tolist(), entries["opcode"].tolist(), strict=True
    ):
        symbol = symbols.lookup(va) if symbols is not None else None
        functions[NO_NAME if symbol is None else symbol.name] += count
        for kind in kinds_of(opcode):
            kinds[kind] += count
        if symbol is not None and symbol.name == ABORT and symbol.offset == 0:
            aborts += count
    return Profile(user=interval.user, functions=dict(functions), kinds=dict(kinds), aborts=aborts)
