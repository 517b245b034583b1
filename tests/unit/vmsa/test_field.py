"""Bit fields against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.vmsa.field import Field, Flag, bits, ones


@dataclass(frozen=True, slots=True)
class _Word:
    word: int

    middle = Field(7, 4)
    top = Flag(63)


def test_bits_are_inclusive_at_both_ends() -> None:
    """hi:lo names the bits that the manual names."""
    assert bits(0xABCD, 11, 4) == 0xBC
    assert bits(0xABCD, 3, 3) == 1
    assert bits(0xABCD, 3, 4) == 0
    assert (ones(0), ones(4), ones(64)) == (0, 0xF, 2**64 - 1)


def test_field_of_a_class_is_a_view_of_its_word() -> None:
    """On the class it is the field, on an instance its value."""
    word = _Word(0x8000_0000_0000_00A5)
    assert (word.middle, word.top) == (0xA, True)
    assert _Word.middle == Field(7, 4)
    assert _Word.top.mask == 1 << 63


def test_insertion_leaves_the_other_bits() -> None:
    """into() replaces the field and nothing else."""
    assert Field(7, 4).into(0xFFF, 0) == 0xF0F
    assert Flag(1).into(0b111, False) == 0b101


@pytest.mark.parametrize("value", [-1, 16, 1 << 60])
def test_value_that_does_not_fit_is_refused(value: int) -> None:
    """A value wider than its field never spills into its neighbours."""
    with pytest.raises(ValueError, match="does not fit"):
        Field(7, 4).into(0, value)


def test_nonsense_fields_are_refused() -> None:
    """hi < lo and negative bits are mistakes."""
    with pytest.raises(ValueError, match="hi:lo"):
        Field(3, 4)
    with pytest.raises(ValueError, match="no bit"):
        Flag(-1)
