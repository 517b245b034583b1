"""Which control refuses an access: found by lifting one control after the other and asking the model again.

So the reason cannot disagree with the verdict: it is the smallest change with which the access is granted.
May import `harness.vmsa` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

from harness.vmsa import Access, Block, Page, Regime, Table, TableAttributes, Translation
from harness.vmsa.access import denial
from harness.vmsa.descriptor import Leaf
from harness.vmsa.fault import Step

__all__ = ["refused_by"]

_Case = tuple[Regime, Block | Page, TableAttributes, Access]
_Lift = Callable[[_Case], _Case]
_AP1, _AP2 = 1 << 6, 1 << 7


def refused_by(regime: Regime, found: Translation, access: Access) -> str | None:
    """What refuses an access to a leaf, in words; None when nothing does."""
    case: _Case = (regime, found.leaf, found.inherited, access)
    if denial(*case) is None:
        return None
    if regime.pie:
        return _by_indirection(regime, found.leaf, access)
    lifts = dict(_controls(found.chain))
    for number in range(1, len(lifts) + 1):
        for names in combinations(lifts, number):
            if _granted(case, [lifts[name] for name in names]):
                return " and ".join(names)
    return "the permissions of the mapping"


def _granted(case: _Case, lifts: list[_Lift]) -> bool:
    for lift in lifts:
        case = lift(case)
    return denial(*case) is None


def _controls(chain: tuple[Step, ...]) -> Iterator[tuple[str, _Lift]]:
    """Everything that can refuse, and how to take it out of the way."""
    yield "PXN of the leaf", _leaf_bits(Leaf.pxn.mask, False)
    yield "UXN of the leaf", _leaf_bits(Leaf.uxn.mask, False)
    yield "AP[2] = 1 (read-only)", _leaf_bits(_AP2, False)
    yield "AP[1] = 0 (not EL0's)", _leaf_bits(_AP1, True)
    yield f"APTable[1] (no writes){_levels(chain, 2, 'ap_table')}", _tables(ap_table=0b01)
    yield f"APTable[0] (no EL0){_levels(chain, 1, 'ap_table')}", _tables(ap_table=0b10)
    yield f"PXNTable{_levels(chain, 1, 'pxn_table')}", _tables(pxn_table=False)
    yield f"UXNTable{_levels(chain, 1, 'uxn_table')}", _tables(uxn_table=False)
    yield "SCTLR.WXN (what may be written is not executed)", _regime(wxn=False)
    yield "PSTATE.PAN (what EL0 may use EL1 may not)", _access_without_pan
    yield "EL0's right to write (what EL0 may write EL1 never executes)", _leaf_bits(_AP1, False)
    yield "the permission overlay", _regime(poe=False, e0poe=False)


def _leaf_bits(mask: int, value: bool) -> _Lift:
    def lift(case: _Case) -> _Case:
        regime, leaf, inherited, access = case
        return regime, replace(leaf, word=leaf.word | mask if value else leaf.word & ~mask), inherited, access

    return lift


def _tables(**changes: int) -> _Lift:
    def lift(case: _Case) -> _Case:
        regime, leaf, inherited, access = case
        if "ap_table" in changes:
            kept = inherited.ap_table & changes["ap_table"]
            return regime, leaf, replace(inherited, ap_table=kept), access
        return regime, leaf, replace(inherited, **{name: bool(on) for name, on in changes.items()}), access

    return lift


def _regime(**changes: bool) -> _Lift:
    return lambda case: (replace(case[0], **changes), *case[1:])  # type: ignore[arg-type]


def _access_without_pan(case: _Case) -> _Case:
    regime, leaf, inherited, access = case
    return regime, leaf, inherited, replace(access, pan=False)


def _levels(chain: tuple[Step, ...], mask: int, name: str) -> str:
    """` of level 0 and 1`: the tables that hand something down."""
    levels = [
        str(step.level)
        for step in chain
        if isinstance(step.descriptor, Table) and int(getattr(step.descriptor, name)) & mask
    ]
    return f" of level {' and '.join(levels)}" if levels else ""


def _by_indirection(regime: Regime, leaf: Block | Page, access: Access) -> str:
    index = leaf.pi_index
    register, name = (regime.pir, "PIR_EL1") if access.el else (regime.pire0, "PIRE0_EL1")
    nibble = register >> 4 * index & 0xF
    without_pan = replace(access, pan=False)
    nothing = TableAttributes()
    if access.pan and denial(regime, leaf, nothing, without_pan) is None:
        return "PSTATE.PAN (what EL0 may use EL1 may not)"
    if denial(replace(regime, poe=False, e0poe=False), leaf, nothing, access) is None:
        return "the permission overlay"
    if denial(replace(regime, ha=True, hd=True), leaf, nothing, access) is None:
        return "nDirty: the page is clean, and hardware does not keep dirty state here"
    return f"{name}: entry {index} is {nibble:#x}"
