"""Tests of harness.determinism.seed."""

from __future__ import annotations

import hashlib

import pytest

from harness.determinism.seed import Purpose, Seed
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), (" 7 ", 7), ("18446744073709551615", 2**64 - 1), ("0xff", 255), ("0X" + "f" * 16, 2**64 - 1)],
)
def test_parse(text: str, value: int) -> None:
    """A seed is a decimal or hexadecimal number of 64 bits."""
    assert Seed.parse(text) == Seed(value)


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "1e3", "18446744073709551616", "0x", "0x1" + "0" * 16, "seven", "9" * 5000, "٣"]
)
def test_parse_refuses(text: str) -> None:
    """Anything else is refused, however long, with a message that stays short."""
    with pytest.raises(UsageError) as caught:
        Seed.parse(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [-1, 2**64])
def test_range(value: int) -> None:
    """A seed out of range cannot be made."""
    with pytest.raises(UsageError):
        Seed(value)


def test_derivation_is_for_ever() -> None:
    """The derivation is the documented sha256: a seed in an old report gives the same run tomorrow."""
    digest = hashlib.sha256(b"granule-seed-1 7 guest-random 0").digest()
    assert Seed(7).derive(Purpose.GUEST_RANDOM) == int.from_bytes(digest[:8], "big")
    assert Seed(7).nonce(3) == hashlib.sha256(b"granule-seed-1 7 nonce 3").hexdigest()[:16]


def test_numbers_differ() -> None:
    """Seeds, purposes and numbers each change what is derived."""
    derived = [
        Seed(seed).derive(purpose, number) for seed in range(50) for purpose in Purpose for number in (0, 1)
    ]
    assert len(set(derived)) == len(derived)


def test_choose_reaches_all() -> None:
    """A choice is in range, and every one is made by some seed."""
    assert {Seed(seed).choose(Purpose.ICOUNT_SHIFT, 7) for seed in range(200)} == set(range(7))
