"""Bit fields, declared once as data and read the same way from registers and descriptors.

`hi:lo` is inclusive, as the manual prints it. A field that is an attribute of a class whose instances hold
a `word` is a view: `Tcr.t0sz` is the field, `Tcr(word).t0sz` its value. May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, overload

__all__ = ["Field", "Flag", "Word", "bits", "ones"]


class Word(Protocol):
    """What a field can be read from: a register or a descriptor that holds its raw value."""

    @property
    def word(self) -> int:
        """The raw value."""
        ...


def ones(width_bits: int) -> int:
    """An integer of that many low bits set; 0 for a width of 0 or less."""
    return (1 << width_bits) - 1 if width_bits > 0 else 0


def bits(word: int, hi: int, lo: int) -> int:
    """Bits `hi:lo` of a word, right-aligned; 0 where hi < lo (an empty field)."""
    return word >> lo & ones(hi - lo + 1)


@dataclass(frozen=True)
class Field:
    """Bits `hi:lo`, inclusive; its value is an unsigned integer. Raises ValueError unless hi >= lo >= 0."""

    hi: int
    lo: int

    def __post_init__(self) -> None:
        if not self.hi >= self.lo >= 0:
            raise ValueError(f"a bit field is written hi:lo with hi >= lo >= 0, not {self.hi}:{self.lo}")

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ones(self.hi - self.lo + 1) << self.lo

    def of(self, word: int) -> int:
        """The field's value in a word."""
        return bits(word, self.hi, self.lo)

    def into(self, word: int, value: int) -> int:
        """The word with the field set to `value`; raises ValueError when the value does not fit."""
        if value < 0 or value << self.lo & ~self.mask:
            raise ValueError(f"{value:#x} does not fit into bits {self.hi}:{self.lo}")
        return word & ~self.mask | value << self.lo

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: Word, owner: type) -> int: ...

    def __get__(self, instance: Word | None, owner: type) -> Self | int:
        return self if instance is None else self.of(instance.word)


@dataclass(frozen=True)
class Flag:
    """One bit; its value is a bool. Raises ValueError for a negative bit number."""

    bit: int

    def __post_init__(self) -> None:
        if self.bit < 0:
            raise ValueError(f"there is no bit {self.bit}")

    @property
    def mask(self) -> int:
        """The bit, in place."""
        return 1 << self.bit

    def of(self, word: int) -> bool:
        """The bit's value in a word."""
        return bool(word >> self.bit & 1)

    def into(self, word: int, value: bool) -> int:
        """The word with the bit set or cleared."""
        return word & ~self.mask | value << self.bit

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: Word, owner: type) -> bool: ...

    def __get__(self, instance: Word | None, owner: type) -> Self | bool:
        return self if instance is None else self.of(instance.word)
