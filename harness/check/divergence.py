"""Known kinds of disagreements between the model and an oracle, as predicates.

What is known of an oracle is kept in `harness.check.ledger`. Knows the model, and nothing of how an oracle
was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from harness.check.disagreement import (
    PAR_PAGE_OFFSET,
    Died,
    Disagreement,
    Faulted,
    Mapped,
    Oracle,
    Unmapped,
)
from harness.vmsa import (
    Block,
    Fault,
    FaultKind,
    Regime,
    Reserved,
    TableAttributes,
    Translation,
    VaRange,
    memory_type,
    shareability,
)
from harness.vmsa.access import denial
from harness.vmsa.attributes import CachePolicy, NormalMemory, attr_index
from harness.vmsa.descriptor import AddressFormat, Leaf
from harness.vmsa.field import bits, ones
from harness.vmsa.geometry import FINAL_LEVEL
from harness.vmsa.registers import Mmfr1, Tcr

__all__ = ["PREDICATES", "Predicate"]

Predicate = Callable[[Disagreement], bool]
"""True for a disagreement that an entry of the ledger explains."""


# A predicate says what an oracle's deviation makes of a case, and not only when it may deviate: else it would
# explain the model's own mistakes too.


def _block_at_any_level(case: Disagreement) -> bool:
    """The model stops at a block that is illegal at its level above 3; the oracle goes on with it."""
    level = _illegal_block_level(case)
    if level is None or not isinstance(case.regime, Regime):
        return False
    size_log2 = case.regime.geometry.size_log2(level)
    word = case.outcome.chain[-1].word or 0
    return _is_seen(case, level, case.regime.address_format.address(word, size_log2), size_log2)


def _illegal_block_above_level_0_kills(case: Disagreement) -> bool:
    return isinstance(case.answer, Died) and _illegal_block_level(case) == -1


def _illegal_block_level(case: Disagreement) -> int | None:
    """The level of a block that ends the model's walk, and is illegal there by a table of our own."""
    last = case.outcome.chain[-1].descriptor if case.outcome.chain else None
    if not isinstance(last, Reserved) or last.level == FINAL_LEVEL or not isinstance(case.regime, Regime):
        return None
    legal = _BLOCK_LEVELS[case.regime.geometry.granule_log2, case.regime.address_format.is_wide]
    return None if last.level in legal else last.level


# By granule, and whether addresses of 52 bits can be had (Arm ARM DDI 0487, D8.3.1, block descriptors).
_BLOCK_LEVELS: Final = {
    (12, False): (1, 2),
    (12, True): (0, 1, 2),
    (14, False): (2,),
    (14, True): (1, 2),
    (16, False): (2,),
    (16, True): (1, 2),
}


def _is_seen(case: Disagreement, level: int, base_pa: int, size_log2: int) -> bool:
    """True where an oracle went on with a leaf: to its address, or to a fault that comes after that."""
    pa = base_pa & ~ones(size_log2) | case.va & ones(size_log2)
    match case.answer:
        case Mapped(pa=None) | Unmapped():
            return True
        case Mapped():
            return (pa ^ (case.answer.pa or 0)) & ones(_SEEN_PA_BITS) & ~PAR_PAGE_OFFSET == 0
        case Faulted():
            later = (FaultKind.ADDRESS_SIZE, FaultKind.ACCESS_FLAG, FaultKind.PERMISSION)
            return case.answer.fsc in {kind.code(level) for kind in later if level >= 0}
        case Died():
            return False


_SEEN_PA_BITS: Final = 48
"""Of addresses that are too large, QEMU keeps no more than these."""


def _high_output_bits_ignored(case: Disagreement) -> bool:
    """An address that is too large by no more than the bits that only 52-bit formats have."""
    regime, outcome = case.regime, case.outcome
    if (
        not isinstance(regime, Regime)
        or regime.oasize_bits > 48
        or regime.address_format is AddressFormat.PA48
        or not isinstance(outcome, Fault)
        or outcome.kind is not FaultKind.ADDRESS_SIZE
    ):
        return False
    if not outcome.chain:
        return bits(regime.table_pa, 51, 48) != 0
    leaf = _leaf(outcome)
    if leaf is None:  # whatever the table elsewhere holds
        return regime.address_format.address(outcome.chain[-1].word or 0, 48) != 0
    size_log2 = regime.geometry.size_log2(leaf.level)
    return leaf.oa >> 48 != 0 and _is_seen(case, leaf.level, leaf.oa, size_log2)


def _access_flag_ignored(case: Disagreement) -> bool:
    """The debug walk translates a leaf whose access flag is clear, and then judges its permissions."""
    leaf = _leaf(case.outcome)
    return (
        case.oracle is Oracle.DEBUG_WALK
        and isinstance(case.regime, Regime)
        and isinstance(case.outcome, Fault)
        and case.outcome.kind is FaultKind.ACCESS_FLAG
        and leaf is not None
        and _is_seen(case, leaf.level, leaf.oa, case.regime.geometry.size_log2(leaf.level))
    )


def _par_sh_as_written(case: Disagreement) -> bool:
    """PAR_EL1.SH holds what the tables say for memory that is outer shareable whatever they say."""
    regime, outcome, answer = case.regime, case.outcome, case.answer
    if not (
        isinstance(answer, Mapped)
        and isinstance(outcome, Translation)
        and isinstance(regime, Regime)
        and answer.pa == outcome.pa & ~PAR_PAGE_OFFSET
        and answer.attr == regime.mair >> 8 * attr_index(regime, outcome.leaf) & 0xFF
        and answer.sh == shareability(regime, outcome.leaf).value
    ):
        return False
    kind = memory_type(regime, outcome.leaf)
    return not isinstance(kind, NormalMemory) or kind.inner.policy is CachePolicy.NON_CACHEABLE


def _leaf(outcome: Translation | Fault) -> Leaf | None:
    """The leaf that a walk came to, whatever became of it."""
    last = outcome.chain[-1].descriptor if outcome.chain else None
    return last if isinstance(last, Leaf) else None


def _hpd_without_feature(case: Disagreement) -> bool:
    """Hierarchical permissions are disabled by TCR.HPD on a CPU without FEAT_HPDS."""
    regime, last = case.regime, _leaf(case.outcome)
    if not isinstance(regime, Regime) or last is None:
        return False
    tcr, mmfr1 = Tcr(case.registers.el1.tcr or 0), Mmfr1(case.registers.id_aa64mmfr1_el1 or 0)
    if mmfr1.hpds or not (tcr.hpd0 if regime.va_range is VaRange.LOWER else tcr.hpd1):
        return False
    refused = denial(replace(regime, hpd=True), last, TableAttributes(), case.access)
    permission = FaultKind.PERMISSION.code(last.level)
    if refused is None:
        size_log2 = regime.geometry.size_log2(last.level)
        return isinstance(case.answer, Mapped) and _is_seen(case, last.level, last.oa, size_log2)
    return isinstance(case.answer, Faulted) and case.answer.fsc == permission


def _block_larger_than_output(case: Disagreement) -> bool:
    """Only where the block begins is checked against the output size, not the address within it."""
    leaf = _leaf(case.outcome)
    return (
        isinstance(case.regime, Regime)
        and isinstance(leaf, Block)
        and isinstance(case.outcome, Fault)
        and case.outcome.kind is FaultKind.ADDRESS_SIZE
        and case.regime.geometry.size_log2(leaf.level) > case.regime.oasize_bits
        and not case.regime.oa_out_of_range(leaf.oa)
        and _is_seen(case, leaf.level, leaf.oa, case.regime.geometry.size_log2(leaf.level))
    )


def _block_res0_bits_out_of_range(case: Disagreement) -> bool:
    """RES0 bits between the granule and a block's size are checked against the output size."""
    leaf = _leaf(case.outcome)
    if not isinstance(case.regime, Regime) or not isinstance(leaf, Block):
        return False
    unmasked = case.regime.address_format.address(leaf.word, case.regime.geometry.granule_log2)
    refused = isinstance(case.answer, Unmapped) or (
        isinstance(case.answer, Faulted) and case.answer.fsc == FaultKind.ADDRESS_SIZE.code(leaf.level)
    )
    return refused and case.regime.oa_out_of_range(unmasked) and not case.regime.oa_out_of_range(leaf.oa)


PREDICATES: Final[Mapping[str, Predicate]] = {
    "block_at_any_level": _block_at_any_level,
    "high_output_bits_ignored": _high_output_bits_ignored,
    "access_flag_ignored": _access_flag_ignored,
    "block_larger_than_output": _block_larger_than_output,
    "block_res0_bits_out_of_range": _block_res0_bits_out_of_range,
    "hpd_without_feature": _hpd_without_feature,
    "illegal_block_above_level_0_kills": _illegal_block_above_level_0_kills,
    "par_sh_as_written": _par_sh_as_written,
}
"""What entries of the ledger can name."""
