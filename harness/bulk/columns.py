"""Records whose fields are arrays of one length: what all of this package is made of.

May import NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bools", "Columns", "Entries", "LeafEntries", "Levels", "Output", "Small", "Words"]

Words = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Small = NDArray[np.uint8]
Levels = NDArray[np.int8]

_FIRST_CAPACITY: Final = 1 << 22
"""Leaves that room is made for at first, where there could be more."""
_LEAF_BYTES: Final = 27
_MANY: Final = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Rows as columns: every field is an array, and all are of one length."""

    va: Words

    def __len__(self) -> int:
        return len(self.va)

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(one.name for one in fields(cls))

    def take(self, which: slice | Bools | NDArray[np.intp]) -> Self:
        """Some of the rows; of a slice the arrays are views."""
        return type(self)(**{name: getattr(self, name)[which] for name in self.names()})

    def split(self, rows: int) -> Iterator[Self]:
        """All rows, so many at a time."""
        return (self.take(slice(start, start + rows)) for start in range(0, len(self), rows))

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """The rows of all parts, one after the other; there must be at least one."""
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.names()})

    def freeze(self) -> Self:
        """The same, its arrays made read-only."""
        for name in self.names():
            getattr(self, name).flags.writeable = False
        return self


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries(Columns):
    """Descriptors of one level: where they map from, the address in them, what the tables handed down.

    Of tables, too: the descriptors that lead to them.
    """

    pa: Words
    word: Words
    inherited: Small


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeafEntries(Entries):
    """Leaves of several levels."""

    level: Levels
    size_log2: Small

    @classmethod
    def of(cls, entries: Entries, level: int, size_log2: int) -> Self:
        """Leaves of one level."""
        count = len(entries)
        return cls(
            va=entries.va,
            pa=entries.pa,
            word=entries.word,
            inherited=entries.inherited,
            level=np.full(count, level, np.int8),
            size_log2=np.full(count, size_log2, np.uint8),
        )

    @classmethod
    def room(cls, count: int) -> Self:
        """Room for that many, in one block; memory is taken as it is written.

        Touching new pages is what costs most: NumPy asks for huge ones from 4 MiB on, hence one block.
        """
        block = np.empty(
            count * _LEAF_BYTES if count < _MANY else max(count * _LEAF_BYTES, 1 << 22), np.uint8
        )
        wide = block[: 24 * count].view(np.uint64).reshape(3, count)
        narrow = block[24 * count : _LEAF_BYTES * count].reshape(3, count)
        return cls(
            va=wide[0],
            pa=wide[1],
            word=wide[2],
            inherited=narrow[0],
            level=narrow[1].view(np.int8),
            size_log2=narrow[2],
        )

    def in_order(self) -> Self:
        """By address; fast for a few sorted stretches, which NumPy's stable sort of 64 bits merges."""
        return self.take(np.argsort(self.va, kind="stable"))


class Output:
    """Leaves that are written one after the other, at most `most` of them if nobody writes under us."""

    def __init__(self, most: int) -> None:
        self._room = LeafEntries.room(min(most, _FIRST_CAPACITY))
        self._used = 0

    def append(self, leaves: LeafEntries) -> None:
        """Write leaves; twice the room is made where there is too little."""
        end = self._used + len(leaves)
        if end > len(self._room):
            self._room = LeafEntries.join([self.leaves, LeafEntries.room(2 * end - self._used)])
        for name in leaves.names():
            getattr(self._room, name)[self._used : end] = getattr(leaves, name)
        self._used = end

    @property
    def leaves(self) -> LeafEntries:
        """What was written."""
        return self._room.take(slice(self._used))
