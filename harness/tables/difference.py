"""What differs between two halves, in words.

May import `harness.bulk`, `harness.vmsa` and this package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.bulk import ChangeKind, Changes, diff
from harness.bulk.diff import NOT_MAPPED
from harness.bulk.leaves import unpacked
from harness.errors import UsageError
from harness.tables.survey import Survey
from harness.tables.words import leaf_name
from harness.vmsa import Block, Page, Permissions, Regime, memory_type, permissions
from harness.vmsa.walk import is_contiguous

__all__ = ["Change", "Difference", "Side", "compare"]

_WORDS: Final = {
    ChangeKind.ADDED: "mapped only in the second",
    ChangeKind.REMOVED: "mapped only in the first",
    ChangeKind.ATTRIBUTES: "attributes",
    ChangeKind.OUTPUT: "output address",
    ChangeKind.LEVEL: "leaf size",
    ChangeKind.TABLES: "what the tables hand down",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one of the two maps there."""

    pa: int
    word: int
    level: int
    rights: Permissions
    memory: str
    leaf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A range of addresses within which everything differs in one way."""

    va: int
    size_bytes: int
    kinds: tuple[str, ...]
    region: str
    before: Side | None
    after: Side | None

    @property
    def only_attributes(self) -> tuple[int, ...]:
        """The bits of the descriptors that differ, where both map the same in leaves of one size."""
        if self.before is None or self.after is None or self.kinds != (_WORDS[ChangeKind.ATTRIBUTES],):
            return ()
        differ = self.before.word ^ self.after.word
        return tuple(bit for bit in range(63, -1, -1) if differ >> bit & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two halves held against each other."""

    before: Survey
    after: Survey
    found: Changes

    def __len__(self) -> int:
        return len(self.found)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Ranges and bytes by the kind of change, in words."""
        ranges: Counter[str] = Counter()
        size_bytes: Counter[str] = Counter()
        for kind, size in zip(self.found.kind.tolist(), self.found.size_bytes.tolist(), strict=True):
            for words in _kinds(kind):
                ranges[words] += 1
                size_bytes[words] += size
        return {words: (ranges[words], size_bytes[words]) for words in _WORDS.values() if ranges[words]}

    def changes(self, limit: int | None = None) -> Iterator[Change]:
        """The changes in order of addresses, at most so many."""
        end = len(self) if limit is None else min(limit, len(self))
        return (self._change(index) for index in range(end))

    def _change(self, index: int) -> Change:
        found = self.found
        va = int(found.va[index])
        return Change(
            va=va,
            size_bytes=int(found.size_bytes[index]),
            kinds=_kinds(int(found.kind[index])),
            region=self.after.region_of(va).name,
            before=_side(
                self.before.regime,
                int(found.before_pa[index]), int(found.before_word[index]),
                int(found.before_level[index]), int(found.before_inherited[index]),
            ),
            after=_side(
                self.after.regime,
                int(found.after_pa[index]), int(found.after_word[index]),
                int(found.after_level[index]), int(found.after_inherited[index]),
            ),
        )  # fmt: skip


def compare(before: Survey, after: Survey) -> Difference:
    """What `after` maps otherwise than `before`; raises UsageError for what is not comparable."""
    try:
        return Difference(before=before, after=after, found=diff(before.leaves, after.leaves))
    except ValueError as error:
        raise UsageError(f"{before.origin} and {after.origin}: {error}") from error


def _kinds(kind: int) -> tuple[str, ...]:
    return tuple(words for one, words in _WORDS.items() if kind & one)


def _side(regime: Regime, pa: int, word: int, level: int, inherited: int) -> Side | None:
    if level == NOT_MAPPED:
        return None
    leaf = Page(word, level, pa) if level == 3 else Block(word, level, pa)
    return Side(
        pa=pa,
        word=word,
        level=level,
        rights=permissions(regime, leaf, unpacked(inherited)),
        memory=str(memory_type(regime, leaf)),
        leaf=leaf_name(regime.geometry, level, contiguous=is_contiguous(regime, leaf)),
    )
