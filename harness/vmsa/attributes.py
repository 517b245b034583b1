"""Memory types and shareability: what a MAIR byte and SH say.

Source: Arm ARM DDI 0487, D24.2, MAIR_EL1; ASL S1DecodeMemAttrs, DecodeLDFAttr, AArch64_MAIRAttr.
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from harness.vmsa.descriptor import AddressFormat, Leaf
from harness.vmsa.regime import Regime

__all__ = [
    "CachePolicy",
    "Cacheability",
    "DeviceMemory",
    "MemoryType",
    "NormalMemory",
    "ReservedMemory",
    "Shareability",
    "attr_index",
    "decode_mair_byte",
    "memory_type",
    "shareability",
]


class CachePolicy(Enum):
    """How a cache treats writes."""

    NON_CACHEABLE = "NC"
    WRITE_THROUGH = "WT"
    WRITE_BACK = "WB"


class Shareability(Enum):
    """The value of SH; 1 is reserved."""

    NON = 0
    RESERVED = 1
    OUTER = 2
    INNER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cacheability:
    """Inner or outer cacheability of Normal memory."""

    policy: CachePolicy
    read_allocate: bool = False
    write_allocate: bool = False
    transient: bool = False

    def __str__(self) -> str:
        hints = "R" * self.read_allocate + "W" * self.write_allocate
        return self.policy.value + ("t" if self.transient else "") + (f"-{hints}A" if hints else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Device memory: whether accesses gather, reorder and are acknowledged early."""

    gathering: bool
    reordering: bool
    early_acknowledgement: bool
    xs: bool = True

    def __str__(self) -> str:
        said = ((self.gathering, "G"), (self.reordering, "R"), (self.early_acknowledgement, "E"))
        return "Device-" + "".join(letter if has else f"n{letter}" for has, letter in said)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalMemory:
    """Normal memory."""

    inner: Cacheability
    outer: Cacheability
    tagged: bool = False
    """Holds Allocation Tags (FEAT_MTE2)."""
    xs: bool = True

    def __str__(self) -> str:
        cached = str(self.inner) if self.inner == self.outer else f"inner {self.inner} outer {self.outer}"
        return f"Normal {cached}{' tagged' if self.tagged else ''}"


@dataclass(frozen=True, slots=True)
class ReservedMemory:
    """A MAIR byte that names no memory type."""

    attr: int

    def __str__(self) -> str:
        return f"reserved ({self.attr:#04x})"


MemoryType = DeviceMemory | NormalMemory | ReservedMemory
"""All that a MAIR byte can mean."""

_NC = Cacheability(policy=CachePolicy.NON_CACHEABLE)
_DEVICES = (  # bits 3:2: nGnRnE, nGnRE, nGRE, GRE
    {"gathering": False, "reordering": False, "early_acknowledgement": False},
    {"gathering": False, "reordering": False, "early_acknowledgement": True},
    {"gathering": False, "reordering": True, "early_acknowledgement": True},
    {"gathering": True, "reordering": True, "early_acknowledgement": True},
)


def decode_mair_byte(attr: int) -> MemoryType:
    """The memory type that one byte of MAIR names; total over 0 to 255."""
    match attr:
        case 0x40:
            return NormalMemory(inner=_NC, outer=_NC, xs=False)
        case 0xA0:
            through = Cacheability(policy=CachePolicy.WRITE_THROUGH, read_allocate=True)
            return NormalMemory(inner=through, outer=through, xs=False)
        case 0xF0:
            back = Cacheability(policy=CachePolicy.WRITE_BACK, read_allocate=True, write_allocate=True)
            return NormalMemory(inner=back, outer=back, tagged=True, xs=False)
    if attr >> 4 == 0 and not attr & 0b10:
        return DeviceMemory(**_DEVICES[attr >> 2 & 3], xs=not attr & 1)
    if not attr >> 4 or not attr & 0xF:
        return ReservedMemory(attr)
    inner, outer = _cacheability(attr & 0xF), _cacheability(attr >> 4)
    is_back = inner.policy is outer.policy is CachePolicy.WRITE_BACK
    return NormalMemory(inner=inner, outer=outer, xs=not is_back)


def _cacheability(nibble: int) -> Cacheability:
    """ASL DecodeLDFAttr; bit 3 non-transient, 2 write-back, 1:0 allocation hints."""
    if nibble == 0b0100:
        return _NC
    return Cacheability(
        policy=CachePolicy.WRITE_BACK if nibble & 0b0100 else CachePolicy.WRITE_THROUGH,
        read_allocate=bool(nibble & 0b0010),
        write_allocate=bool(nibble & 0b0001),
        transient=not nibble & 0b1000,
    )


def attr_index(regime: Regime, leaf: Leaf) -> int:
    """AttrIndx: 3 bits, or 4 with TCR2.AIE (ASL AArch64_S1NextWalkStateLeaf)."""
    return leaf.attr_indx | (leaf.attr_indx_high << 3 if regime.aie else 0)


def memory_type(regime: Regime, leaf: Leaf) -> MemoryType:
    """The memory type that a leaf selects from MAIR, or from MAIR2 for indices 8 to 15."""
    index = attr_index(regime, leaf)
    return decode_mair_byte((regime.mair2 if index > 7 else regime.mair) >> 8 * (index & 7) & 0xFF)


def shareability(regime: Regime, leaf: Leaf) -> Shareability:
    """A leaf's shareability as written: in the descriptor, or in TCR.SHx for the LPA2 format."""
    return Shareability(regime.sh if regime.address_format is AddressFormat.LPA2 else leaf.sh)
