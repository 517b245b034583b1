"""What an oracle says of an address, and a disagreement between it and the model.

An oracle here is an implementation's MMU or its debugger's walk. Knows the model, and nothing of how an
oracle was asked; which disagreements are known is `harness.check.divergence`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from harness.vmsa import Access, Fault, Regime, Registers, Translation

__all__ = [
    "PAR_PAGE_OFFSET",
    "Answer",
    "Died",
    "Disagreement",
    "Faulted",
    "Mapped",
    "Oracle",
    "Unmapped",
]

PAR_PAGE_OFFSET: Final = 0xFFF
"""The bits of an address that PAR_EL1 leaves out."""


class Oracle(Enum):
    """Who gave the other answer."""

    MMU = "the MMU"
    """An AT instruction, or an access."""
    DEBUG_WALK = "the debug walk"
    """QEMU's gva2gpa, which gdb and `x` share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """An address that was translated; None for what the oracle does not tell."""

    pa: int | None
    attr: int | None = None
    """The MAIR byte, as in PAR_EL1.ATTR."""
    sh: int | None = None
    """As in PAR_EL1.SH."""

    def __str__(self) -> str:
        shown = ((name, getattr(self, name)) for name in ("pa", "attr", "sh"))
        return ", ".join(f"{name} {value:#x}" for name, value in shown if value is not None) or "mapped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """A fault with its status code."""

    fsc: int
    taken: bool = False
    """Taken as an exception, and not reported in PAR_EL1."""

    def __str__(self) -> str:
        return f"FSC {self.fsc:#04x}{' by an exception' if self.taken else ''}"


@dataclass(frozen=True, slots=True)
class Unmapped:
    """An oracle's "no", without a reason."""

    def __str__(self) -> str:
        return "unmapped"


@dataclass(frozen=True, slots=True)
class Died:
    """QEMU ended instead of answering."""

    said: str

    def __str__(self) -> str:
        return f"nothing, for QEMU died: {self.said}"


Answer = Mapped | Faulted | Unmapped | Died
"""All that an oracle can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An address that the model and an oracle see differently."""

    va: int
    access: Access
    registers: Registers
    regime: Regime | Fault
    """What the model makes of the registers, for the range of the address."""
    outcome: Translation | Fault
    """What the model makes of it."""
    answer: Answer
    """What the oracle said."""
    oracle: Oracle

    def __str__(self) -> str:
        ours = self.outcome.sentence if isinstance(self.outcome, Fault) else f"pa {self.outcome.pa:#x}"
        chain = " ".join(
            f"L{step.level}:{step.word:#x}" for step in self.outcome.chain if step.word is not None
        )
        verb = self.access.kind.name.lower() + (" with PAN" if self.access.pan else "")
        return (
            f"{self.va:#018x}, {verb} by EL{self.access.el}: the model says {ours}; "
            f"{self.oracle.value} says {self.answer} [{chain or 'no descriptor read'}]"
        )
