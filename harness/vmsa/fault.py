"""Faults of a translation, as values: kind, level, and the codes that hardware reports for them.

Source: Arm ARM DDI 0487, D24.2, ESR_EL1 (fault status codes) and PAR_EL1; ASL EncodeLDFSC.
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from harness.vmsa.descriptor import Descriptor

__all__ = ["Denial", "Fault", "FaultKind", "Step"]


class FaultKind(Enum):
    """The kinds of fault that either stage reports; the value is how people say it."""

    ADDRESS_SIZE = "address size fault"
    TRANSLATION = "translation fault"
    ACCESS_FLAG = "access flag fault"
    PERMISSION = "permission fault"
    EXTERNAL_ON_WALK = "synchronous external abort on a table walk"
    ALIGNMENT = "alignment fault"

    def code(self, level: int) -> int:
        """The 6-bit fault status code at a level; raises ValueError where the architecture has none."""
        if self is FaultKind.ALIGNMENT:
            return 0x21
        if level in range(4):
            return _FSC_BASE[self] | level
        try:
            return _FSC_ABOVE_LEVEL_0[self, level]
        except KeyError:
            raise ValueError(f"there is no code for a {self.value} at level {level}") from None


_FSC_BASE = {
    FaultKind.ADDRESS_SIZE: 0b000000,
    FaultKind.TRANSLATION: 0b000100,
    FaultKind.ACCESS_FLAG: 0b001000,
    FaultKind.PERMISSION: 0b001100,
    FaultKind.EXTERNAL_ON_WALK: 0b010100,
}
# Level -1 came with FEAT_LPA2, -2 with FEAT_D128; neither holds leaves.
_FSC_ABOVE_LEVEL_0 = {
    (FaultKind.ADDRESS_SIZE, -1): 0b101001,
    (FaultKind.TRANSLATION, -1): 0b101011,
    (FaultKind.EXTERNAL_ON_WALK, -1): 0b010011,
    (FaultKind.ADDRESS_SIZE, -2): 0b101100,
    (FaultKind.TRANSLATION, -2): 0b101010,
    (FaultKind.EXTERNAL_ON_WALK, -2): 0b010010,
}


class Denial(Enum):
    """What refused an access (ASL FaultRecord.overlay, .dirtybit); the value is how people say it."""

    OVERLAY = "the permission overlay"
    BASE = "the permissions of the mapping"
    DIRTY_STATE = "the clean state, which hardware may not change"


@dataclass(frozen=True, slots=True)
class Step:
    """One descriptor of a walk; `word` and `descriptor` are None where memory did not answer."""

    level: int
    pa: int
    """Physical address of the descriptor."""
    word: int | None
    descriptor: Descriptor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A translation that ended in a fault, as the architecture defines it."""

    kind: FaultKind
    level: int
    """As reported: of the descriptor that was at fault, or 0 for what fails before the walk."""
    reason: str
    """Why, in words; the rest of `sentence`."""
    va: int | None = None
    """The input address; None in a fault that every address of a range meets."""
    stage: int = 1
    denial: Denial | None = None
    """For permission faults."""
    chain: tuple[Step, ...] = ()
    """The descriptors read on the way, from the start level on."""

    @property
    def fsc(self) -> int:
        """The fault status code of ESR_EL1.ISS[5:0] (Arm ARM D24.2; ASL EncodeLDFSC)."""
        return self.kind.code(self.level)

    @property
    def par_el1(self) -> int:
        """F, FST and S of PAR_EL1 after an AT instruction; its other bits are left 0."""
        return 1 | self.fsc << 1 | (self.stage == 2) << 9

    @property
    def sentence(self) -> str:
        """The fault in words."""
        where = "" if self.kind is FaultKind.ALIGNMENT else f", level {self.level}"
        what = "" if self.va is None else f"{self.va:#018x}: "
        return f"{what}{self.kind.value}{where} (stage {self.stage}, FSC {self.fsc:#04x}): {self.reason}"
