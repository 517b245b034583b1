"""One seed, and from it every number of a run that would otherwise come from chance.

Each use has a purpose of its own, so that a new use changes the numbers of none that exist. May import
harness.errors and the standard library.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum

from harness.errors import UsageError

__all__ = ["Purpose", "Seed"]

SEED_BITS = 64
# Part of what is hashed: raise it when the derivation changes, and old seeds mean other runs.
DERIVATION = "granule-seed-1"


class Purpose(Enum):
    """What a number is for; the value is part of the derivation and never changes."""

    GUEST_RANDOM = "guest-random"
    """QEMU's `-seed`: /chosen/rng-seed and kaslr-seed in the device tree, RNDR and RNDRRS."""
    NONCE = "nonce"
    """The word that ends a command's output on the shell's line."""
    ICOUNT_SHIFT = "icount-shift"
    """How many nanoseconds an instruction takes, where a seed is explored."""
    KASLR = "kaslr"
    """Whether the kernel moves itself, where a seed is explored."""


@dataclass(frozen=True, slots=True)
class Seed:
    """The one source of chance of a run: a number from 0 to 2^64 - 1."""

    value: int

    def __post_init__(self) -> None:
        """Raise UsageError for a number that is out of range."""
        if not 0 <= self.value < 1 << SEED_BITS:
            raise UsageError(f"{self.value} is not a seed: use a number from 0 to 2^{SEED_BITS} - 1")

    @classmethod
    def parse(cls, text: str) -> Seed:
        """From decimal or `0x` hexadecimal digits; raises UsageError for anything else."""
        plain = text.strip()
        if re.fullmatch(r"[0-9]{1,20}", plain):
            return cls(int(plain))
        if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}", plain):
            return cls(int(plain, 16))
        raise UsageError(f"'{text[:40]}' is not a seed: use a number from 0 to 2^{SEED_BITS} - 1")

    def _digest(self, purpose: Purpose, number: int) -> bytes:
        return hashlib.sha256(f"{DERIVATION} {self.value} {purpose.value} {number}".encode()).digest()

    def derive(self, purpose: Purpose, number: int = 0) -> int:
        """The 64-bit number for a purpose; `number` tells several of one purpose apart."""
        return int.from_bytes(self._digest(purpose, number)[:8], "big")

    def choose(self, purpose: Purpose, count: int) -> int:
        """A number from 0 to `count` - 1 for a purpose."""
        return int.from_bytes(self._digest(purpose, 0), "big") % count

    def nonce(self, number: int) -> str:
        """The nonce of a run's `number`-th request: 16 hex digits."""
        return self._digest(Purpose.NONCE, number)[:8].hex()
