"""Where the instructions went: the functions of the kernel that gained and lost between two results.

Counts are of one operation: those of the sample that is the number, divided by how often it did the work.
May import harness.bench and the standard library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from harness.bench.guest_output import Samples
from harness.bench.opcode import Kind
from harness.bench.profile import Profile
from harness.bench.result import Result

__all__ = ["Part", "Reasons", "reasons_for"]

USER: Final = "(user space)"
SHOWN: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A function, or another part of the whole, in both results."""

    name: str
    base: float
    other: float

    @property
    def more(self) -> float:
        """How much more the other has."""
        return self.other - self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """One benchmark, taken apart."""

    name: str
    base_total: float
    other_total: float
    functions: tuple[Part, ...]
    """All that differ, user space as one of them, the largest difference first."""
    beside: tuple[Part, ...]
    """User space and kernel; what costs more than its count says: kinds of instructions, faults, tables."""

    @property
    def shown(self) -> tuple[Part, ...]:
        """The functions that matter most."""
        return self.functions[:SHOWN]

    @property
    def rest(self) -> float:
        """What the functions that are not shown add up to."""
        return sum(part.more for part in self.functions[SHOWN:])


def reasons_for(base: Result, other: Result, name: str) -> Reasons | None:
    """What a benchmark's difference is made of; None where functions were not counted in both."""
    one, two = _counted(base, name), _counted(other, name)
    if one is None or two is None:
        return None
    functions = _parts(_by_function(*one), _by_function(*two))
    parts = sorted(functions, key=lambda part: (-abs(part.more), part.name))
    return Reasons(
        name=name,
        base_total=one[1].total / one[0].times,
        other_total=two[1].total / two[0].times,
        functions=tuple(part for part in parts if part.more),
        beside=tuple(part for part in _parts(_beside(*one), _beside(*two)) if part.base or part.other),
    )


def _counted(result: Result, name: str) -> tuple[Samples, Profile] | None:
    row = result.row(name)
    return None if row is None or row.profile is None else (row.samples, row.profile)


def _by_function(samples: Samples, profile: Profile) -> dict[str, float]:
    counts = {**profile.functions, USER: profile.user}
    return {name: count / samples.times for name, count in counts.items()}


def _beside(samples: Samples, profile: Profile) -> dict[str, float]:
    found = {"in user space": profile.user / samples.times, "in the kernel": profile.kernel / samples.times}
    found |= {f"{kind.value} (kernel)": profile.kinds.get(kind, 0) / samples.times for kind in Kind}
    chosen = samples.ticks.index(median_low(samples.ticks))
    found["page faults (process)"] = samples.faults[chosen] / samples.times
    # Of a sample, however often it does its work: tables are made once.
    found["page tables, KiB"] = float(samples.table_kib[chosen])
    return found


def _parts(base: Mapping[str, float], other: Mapping[str, float]) -> Iterator[Part]:
    for name in {**base, **other}:
        yield Part(name=name, base=base.get(name, 0.0), other=other.get(name, 0.0))
