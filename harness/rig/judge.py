"""What the model expects an oracle to say, and whether it said so."""

from __future__ import annotations

from harness.check.disagreement import PAR_PAGE_OFFSET, Answer, Died, Faulted, Mapped, Unmapped
from harness.vmsa import (
    Access,
    Fault,
    FaultKind,
    MemoryType,
    Regime,
    Shareability,
    Translation,
    memory_type,
    shareability,
)
from harness.vmsa.attributes import CachePolicy, DeviceMemory, NormalMemory, ReservedMemory, attr_index

__all__ = ["agrees"]


def agrees(regime: Regime | Fault, outcome: Translation | Fault, access: Access, answer: Answer) -> bool:
    """True where an oracle said, as far as it says anything, what the model says.

    Of the faults of an AT instruction, only an external abort is taken as an exception (Arm ARM DDI 0487,
    D8.13; ASL AArch64_AT).
    """
    if isinstance(outcome, Fault):
        taken = access.is_fetch or outcome.kind is FaultKind.EXTERNAL_ON_WALK
        match answer:
            case Unmapped():
                return True
            case Faulted():
                return answer.fsc == outcome.fsc and answer.taken == taken
            case Mapped() | Died():
                return False
    if not isinstance(answer, Mapped) or not isinstance(regime, Regime):
        return False
    return _same_address(outcome.pa, answer) and _same_attributes(regime, outcome, answer)


def _same_address(pa: int, answer: Mapped) -> bool:
    if answer.pa is None:
        return True
    kept = ~PAR_PAGE_OFFSET if answer.attr is not None else ~0
    return pa & kept == answer.pa & kept


def _same_attributes(regime: Regime, outcome: Translation, answer: Mapped) -> bool:
    """ATTR and SH of PAR_EL1 (ASL PAREncodeAttrs, PAREncodeShareability); reserved ones may be anything."""
    kind = memory_type(regime, outcome.leaf)
    sh = _effective_sh(kind, shareability(regime, outcome.leaf))
    index = attr_index(regime, outcome.leaf)
    attr = (regime.mair2 if index > 7 else regime.mair) >> 8 * (index & 7) & 0xFF
    same_attr = answer.attr is None or isinstance(kind, ReservedMemory) or answer.attr == attr
    return same_attr and (answer.sh is None or sh is None or answer.sh == sh)


def _effective_sh(kind: MemoryType, written: Shareability) -> int | None:
    """Device and Non-cacheable memory is outer shareable, whatever is written; None where it is reserved."""
    match kind:
        case DeviceMemory():
            return Shareability.OUTER.value
        case NormalMemory():
            policies = (kind.inner.policy, kind.outer.policy)
            if policies == (CachePolicy.NON_CACHEABLE, CachePolicy.NON_CACHEABLE):
                return Shareability.OUTER.value
            return None if written is Shareability.RESERVED else written.value
        case ReservedMemory():
            return None
