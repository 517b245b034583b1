"""What the rig asks of an MMU, and what the answers say.

An AT instruction answers in PAR_EL1 (Arm ARM DDI 0487, D24.2), save for an external abort, which is taken as
an exception; a fetch always ends in one: that of the instruction it found, or an instruction abort.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from harness.check.disagreement import Answer, Faulted, Mapped
from harness.vmsa import Access, AccessKind
from harness.vmsa.field import bits

__all__ = ["DATA_OPERATIONS", "FETCHES", "PAN_OPERATIONS", "Operation", "Query", "answer_of"]


class Operation(Enum):
    """What the payload can do with an address; the value is its place in rig.S, `operations`."""

    S1E1R = 0
    S1E1W = 1
    S1E0R = 2
    S1E0W = 3
    S1E1RP = 4
    """With PSTATE.PAN set, as the next; FEAT_PAN2."""
    S1E1WP = 5
    FETCH_EL1 = 6
    FETCH_EL0 = 7

    @property
    def access(self) -> Access:
        """The access that it stands for."""
        return _ACCESSES[self]


_R, _W, _X = AccessKind.READ, AccessKind.WRITE, AccessKind.EXECUTE
_ACCESSES: Final = {
    Operation.S1E1R: Access(kind=_R, el=1),
    Operation.S1E1W: Access(kind=_W, el=1),
    Operation.S1E0R: Access(kind=_R, el=0),
    Operation.S1E0W: Access(kind=_W, el=0),
    Operation.S1E1RP: Access(kind=_R, el=1, pan=True),
    Operation.S1E1WP: Access(kind=_W, el=1, pan=True),
    Operation.FETCH_EL1: Access(kind=_X, el=1),
    Operation.FETCH_EL0: Access(kind=_X, el=0),
}
DATA_OPERATIONS: Final = (Operation.S1E1R, Operation.S1E1W, Operation.S1E0R, Operation.S1E0W)
PAN_OPERATIONS: Final = (Operation.S1E1RP, Operation.S1E1WP)
FETCHES: Final = (Operation.FETCH_EL1, Operation.FETCH_EL0)


@dataclass(frozen=True, slots=True)
class Query:
    """One address, and what to do with it."""

    va: int
    operation: Operation


_TAKEN = 1 << 63
# Exception classes of ESR_EL1: instruction aborts from EL0 and EL1, a data abort from EL1.
_FETCH_ABORTS: Final = (0x20, 0x21)
_EC_DATA_ABORT_EL1: Final = 0x25
_FSC_EXTERNAL: Final = 0x10
"""A synchronous external abort that is not of the walk: the address was translated, and nothing is there."""


def answer_of(operation: Operation, value: int, syndrome: int) -> Answer:
    """What a result says: `value` is PAR_EL1 or FAR_EL1, `syndrome` 0 or ESR_EL1 with bit 63 set.

    A fetch that ended in anything but an abort found an instruction, an SVC or another. Raises ValueError for
    an exception that an AT instruction cannot end in.
    """
    if not syndrome & _TAKEN:
        if value & 1:
            return Faulted(fsc=bits(value, 6, 1))
        return Mapped(pa=bits(value, 51, 12) << 12, attr=bits(value, 63, 56), sh=bits(value, 8, 7))
    ec, fsc = bits(syndrome, 31, 26), bits(syndrome, 5, 0)
    if operation in FETCHES:
        translated = ec not in _FETCH_ABORTS or fsc == _FSC_EXTERNAL
        return Mapped(pa=None) if translated else Faulted(fsc=fsc, taken=True)
    if ec == _EC_DATA_ABORT_EL1:
        return Faulted(fsc=fsc, taken=True)
    raise ValueError(f"{operation.name} ended in an exception of class {ec:#x} (ESR {syndrome & ~_TAKEN:#x})")
