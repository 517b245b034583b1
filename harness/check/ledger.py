"""The ledger of known divergences: where an oracle is known to answer other than the model, and why.

A comparison of the model with another walker ends in disagreements. One that an entry of the ledger explains,
for the QEMU that gave the answer, is no finding; any other is. An entry that explains nothing over a run that
should have met it is stale. What an entry covers is a predicate in code, `harness.check.divergence`; where it
applies, why it is so and how that is known are data, in `ledger.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from harness.check.disagreement import Disagreement
from harness.check.divergence import PREDICATES, Predicate
from harness.errors import InfraError

__all__ = ["Divergence", "Ledger", "Version", "VersionRange"]

Version = tuple[int, int, int]
"""As `harness.qemu.probe.Qemu.version` has it."""

_COMPARATOR: Final = re.compile(r"(==|>=|<=|<|>)\s*(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class VersionRange:
    """QEMU versions, as `>=7.2, <8.0`: every comparator holds. A missing third number is 0."""

    comparators: tuple[tuple[str, Version], ...]

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """Raises ValueError for anything but comparators separated by commas."""
        found = []
        for part in text.split(","):
            match = _COMPARATOR.fullmatch(part.strip())
            if match is None:
                raise ValueError(f"{text!r} is not a range of versions like '>=7.2, <8.0'")
            found.append((match[1], (int(match[2]), int(match[3]), int(match[4] or 0))))
        return cls(tuple(found))

    def __contains__(self, version: Version) -> bool:
        return all(
            {"==": version == other, ">=": version >= other, "<=": version <= other}.get(
                operator, version < other if operator == "<" else version > other
            )
            for operator, other in self.comparators
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """An entry of the ledger."""

    id: str
    qemu: VersionRange
    """The versions that answer so, as far as is known."""
    predicate: str
    """Name in `PREDICATES`."""
    reason: str
    source: str
    """Where QEMU's side and the architecture's can be read."""


class Ledger:
    """Known divergences, by id. Raises ValueError for one id twice, or a predicate that does not exist."""

    def __init__(
        self, entries: Iterable[Divergence], predicates: Mapping[str, Predicate] = PREDICATES
    ) -> None:
        self.entries = tuple(entries)
        self._predicates = predicates
        ids = [entry.id for entry in self.entries]
        if len(set(ids)) != len(ids):
            raise ValueError(f"the ledger has an id twice: {', '.join(sorted(ids))}")
        for entry in self.entries:
            if entry.predicate not in predicates:
                raise ValueError(f"{entry.id} names the predicate {entry.predicate!r}, which does not exist")

    @classmethod
    def load(cls, path: Path | None = None) -> Ledger:
        """The project's ledger, or another; raises InfraError when it is malformed or unreadable."""
        path = path or Path(__file__).with_name("ledger.toml")
        try:
            tables = tomllib.loads(path.read_text()).get("divergence", [])
            return cls([_entry(table) for table in tables])
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InfraError(f"the ledger of known divergences, {path}, cannot be used: {error}") from error

    def covers(self, predicate: str, version: Version) -> bool:
        """True where an entry with that predicate speaks of that version."""
        return any(entry.predicate == predicate and version in entry.qemu for entry in self.entries)

    def explain(self, case: Disagreement, version: Version) -> Divergence | None:
        """The first entry that explains a disagreement with that version, or None."""
        for entry in self.entries:
            if version in entry.qemu and self._predicates[entry.predicate](case):
                return entry
        return None

    def stale(self, version: Version, matched: Iterable[str]) -> tuple[Divergence, ...]:
        """Entries that speak of that version and are not among the ids that a complete run matched."""
        seen = set(matched)
        return tuple(entry for entry in self.entries if version in entry.qemu and entry.id not in seen)


def _entry(table: dict[str, str]) -> Divergence:
    wanted = {one.name for one in fields(Divergence)}
    if set(table) != wanted or not all(isinstance(value, str) and value for value in table.values()):
        raise ValueError(f"an entry has the texts {', '.join(sorted(wanted))}, not {sorted(table)}")
    return Divergence(**{**table, "qemu": VersionRange.parse(table["qemu"])})  # type: ignore[arg-type]
