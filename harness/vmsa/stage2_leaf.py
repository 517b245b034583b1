"""What stage 2 makes of a leaf: fields, memory type, who may do what; and the walk that asks.

Source: Arm ARM DDI 0487, D8.3 to D8.6; ASL AArch64_S2ApplyOutputPerms, AArch64_S2DirectBasePermissions,
AArch64_S2IndirectBasePermissions, AArch64_S2CheckPermissions, S2DecodeMemAttrs, AArch64_S2ApplyFWBMemAttrs,
AArch64_S2Translate, in the same order. May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from harness.vmsa.access import Access, AccessKind, Permissions, Right
from harness.vmsa.address import AddressFormat
from harness.vmsa.attributes import (
    Cacheability,
    CachePolicy,
    DeviceMemory,
    MemoryType,
    NormalMemory,
    ReservedMemory,
    Shareability,
)
from harness.vmsa.descriptor import Block, Leaf, Page, TableAttributes
from harness.vmsa.fault import Denial, Fault, FaultKind
from harness.vmsa.field import Field, Flag
from harness.vmsa.stage2 import IPA_BITS, Stage2Regime
from harness.vmsa.walk import ARCHITECTURE, Choices, Memory, Translation, walk_tables

__all__ = [
    "FromStage1",
    "Stage2Fields",
    "stage2_memory",
    "stage2_permissions",
    "stage2_shareability",
    "walk_stage2",
]


@dataclass(frozen=True, slots=True)
class Stage2Fields:
    """A leaf's word as stage 2 reads it; of 128 bits the lower ones are the same."""

    word: int

    mem_attr = Field(5, 2)
    s2ap = Field(7, 6)
    """6 readable, 7 writable."""
    dirty = Flag(7)
    """With indirect permissions, in place of S2AP[1]."""
    sh = Field(9, 8)
    fnxs = Flag(11)
    dbm = Flag(51)
    xnx = Flag(53)
    xn = Flag(54)


class FromStage1(Enum):
    """Memory types that stage 2 leaves to stage 1, with HCR_EL2.FWB set."""

    UNCHANGED = "as stage 1 has it"
    NON_CACHEABLE = "Normal NC, or Device where stage 1 has that"


_ALLOCATES: Final = {"read_allocate": True, "write_allocate": True}
_CACHEABILITY: Final = {
    0b01: Cacheability(policy=CachePolicy.NON_CACHEABLE),
    0b10: Cacheability(policy=CachePolicy.WRITE_THROUGH, **_ALLOCATES),
    0b11: Cacheability(policy=CachePolicy.WRITE_BACK, **_ALLOCATES),
}
_N, _R, _W = Right.NONE, Right.READ, Right.WRITE
_X: Final = ((_N, _N), (_N, Right.EXECUTE), (Right.EXECUTE, _N), (Right.EXECUTE, Right.EXECUTE))
"""Execution by EL1 and by EL0."""

# Rights to data by the nibble of S2PIR, for any access but a walk's own or a read-check-write: with 2, 3, 6
# and 7, "mostly read-only", those may write.
_INDIRECT: Final = (_N, _N, _R, _R, _W, _N, _R, _R, *(_R,) * 4, *(_R | _W,) * 4)


def stage2_memory(regime: Stage2Regime, leaf: Leaf) -> MemoryType | FromStage1:
    """The memory type that MemAttr names, without what stage 1 adds.

    That of a ReservedMemory is MemAttr. Without FWB the stronger of both stages' types is what results; with
    it, this one, except that Device is combined with the Device of stage 1.
    """
    fields = Stage2Fields(leaf.word)
    attr = fields.mem_attr
    if regime.fwb:
        return _forced(attr)
    if attr >> 2 == 0b00:
        return replace(_device(attr), xs=not fields.fnxs)
    inner, outer = _CACHEABILITY.get(attr & 0b11), _CACHEABILITY[attr >> 2]
    if inner is None:
        return ReservedMemory(attr)
    return NormalMemory(inner=inner, outer=outer, xs=not fields.fnxs)


def _forced(attr: int) -> MemoryType | FromStage1:
    """ASL AArch64_S2ApplyFWBMemAttrs; MemAttr[3] is FEAT_MTE_PERM's."""
    if not attr & 0b100:
        return _device(attr)
    if attr & 0b11 == 0b11:
        return FromStage1.UNCHANGED
    if attr & 0b11 == 0b10:
        return NormalMemory(inner=_CACHEABILITY[0b11], outer=_CACHEABILITY[0b11], xs=False)
    return FromStage1.NON_CACHEABLE


def _device(attr: int) -> DeviceMemory:
    """ASL DecodeDevice: nGnRnE, nGnRE, nGRE, GRE."""
    kind = attr & 0b11
    return DeviceMemory(gathering=kind == 3, reordering=kind >= 2, early_acknowledgement=kind >= 1)


def stage2_shareability(regime: Stage2Regime, leaf: Leaf) -> Shareability:
    """A leaf's shareability as written: in the descriptor, or in VTCR.SH0 for the LPA2 format."""
    is_lpa2 = regime.address_format is AddressFormat.LPA2
    return Shareability(regime.sh if is_lpa2 else Stage2Fields(leaf.word).sh)


def stage2_permissions(regime: Stage2Regime, leaf: Leaf) -> Permissions:
    """What stage 2 leaves to EL1 and to EL0 of the rights that stage 1 gives.

    A clean leaf that hardware may not make dirty is not writable.
    """
    privileged, user = _rights(regime, leaf)
    if _is_stuck_clean(regime, leaf):
        privileged, user = privileged & ~_W, user & ~_W
    return Permissions(privileged=privileged, user=user)


def _rights(regime: Stage2Regime, leaf: Leaf) -> tuple[Right, Right]:
    """Base rights of EL1 and EL0, whatever the dirty state (ASL AArch64_S2ComputePermissions)."""
    if regime.s2pie:
        nibble = regime.s2pir >> 4 * leaf.pi_index & 0xF
        px, ux = _X[nibble & 0b11] if nibble & 0b1000 else _X[0]
        return _INDIRECT[nibble] | px, _INDIRECT[nibble] | ux
    fields = Stage2Fields(leaf.word)
    writable = bool(fields.s2ap & 0b10) or (regime.ha and regime.hd and fields.dbm)
    data = (_R if fields.s2ap & 0b01 else _N) | (_W if writable else _N)
    # XN[1:0] of 00 both, 01 EL0, 10 neither, 11 EL1.
    px, ux = _X[(3, 1, 0, 2)[fields.xn << 1 | (regime.xnx and fields.xnx)]]
    return data | px, data | ux


def _is_stuck_clean(regime: Stage2Regime, leaf: Leaf) -> bool:
    return regime.s2pie and not Stage2Fields(leaf.word).dirty and not (regime.ha and regime.hd)


def walk_stage2(
    regime: Stage2Regime | Fault,
    memory: Memory,
    ipa: int,
    access: Access | None = None,
    *,
    choices: Choices = ARCHITECTURE,
) -> Translation | Fault:
    """Translate the intermediate physical address `ipa` at stage 2; every outcome is a value.

    Without an `access` alignment and permissions are not checked. Device memory is what stage 2 says is
    Device. Raises ValueError for an address of more than 56 bits. Source: ASL AArch64_S2Translate.
    """
    if ipa < 0 or ipa >> IPA_BITS:
        raise ValueError(f"{ipa:#x} is not an intermediate physical address: those have {IPA_BITS} bits")
    if isinstance(regime, Fault):
        return Fault(kind=regime.kind, level=regime.level, stage=2, va=ipa, reason=regime.reason)
    if not regime.spans(ipa):
        reason = f"the address is outside the {regime.iasize_bits} bits of stage 2"
        return Fault(kind=FaultKind.TRANSLATION, level=0, stage=2, va=ipa, reason=reason)

    def check(leaf: Block | Page, _: TableAttributes) -> Fault | None:
        return None if access is None else _refusal(regime, leaf, access)

    return walk_tables(regime, memory, ipa, check=check, choices=choices)


def _refusal(regime: Stage2Regime, leaf: Leaf, access: Access) -> Fault | None:
    """ASL AArch64_S2HasAlignmentFault, AArch64_S2CheckPermissions."""
    on_device = isinstance(stage2_memory(regime, leaf), DeviceMemory)
    if not access.aligned and on_device and not access.is_fetch:
        return Fault(
            kind=FaultKind.ALIGNMENT, level=leaf.level, reason="an unaligned access to Device memory"
        )
    granted = _rights(regime, leaf)[access.el == 0]
    if access.kind.value not in granted:
        refused = Denial.BASE
    elif access.kind is AccessKind.WRITE and _is_stuck_clean(regime, leaf):
        refused = Denial.DIRTY_STATE
    else:
        return None
    reason = f"EL{access.el} may not {access.kind.name.lower()}: refused by {refused.value}"
    return Fault(kind=FaultKind.PERMISSION, level=leaf.level, reason=reason, denial=refused)
