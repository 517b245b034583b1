"""Where the instructions went: the functions of the kernel that gained and lost between two results.

Counts are of one operation: those of the sample that is the number, divided by how often it did the work.
May import harness.bench and the standard library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

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
    kinds: tuple[Part, ...]
    """Kinds of instructions that cost more than their count says."""

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
    rows = (base.row(name), other.row(name))
    if rows[0] is None or rows[1] is None or rows[0].profile is None or rows[1].profile is None:
        return None
    profiles = tuple(
        _of_one(row.profile, row.samples.times) for row in rows if row is not None and row.profile
    )
    kinds = tuple(
        {
            kind: row.profile.kinds.get(kind, 0) / row.samples.times
            for kind in Kind
        }
        for row in rows
        if row is not None and row.profile
    )  # fmt: skip
    parts = sorted(_parts(*profiles), key=lambda part: (-abs(part.more), part.name))
    return Reasons(
        name=name,
        base_total=sum(profiles[0].values()),
        other_total=sum(profiles[1].values()),
        functions=tuple(part for part in parts if part.more),
        kinds=tuple(Part(name=kind.value, base=kinds[0][kind], other=kinds[1][kind]) for kind in Kind),
    )


def _of_one(profile: Profile, times: int) -> dict[str, float]:
    return {name: count / times for name, count in {**profile.functions, USER: profile.user}.items()}


def _parts(base: Mapping[str, float], other: Mapping[str, float]) -> Iterator[Part]:
    for name in {**base, **other}:
        yield Part(name=name, base=base.get(name, 0.0), other=other.get(name, 0.0))
