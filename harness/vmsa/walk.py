"""One translation at stage 1, step by step, in the order of Arm's pseudocode, and the walk of either stage.

Source: Arm ARM DDI 0487, D8.2; ASL AArch64_S1Translate and AArch64_S1Walk, whose order of checks is kept:
TxSZ, VA range, E0PD, NFD, EPD, address of the first descriptor; then, descriptor by descriptor, external
abort, type, address of the next, nT of a table; then contiguous and nT, output address, access flag,
alignment, permission. May import the standard library and `harness.errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from harness.errors import ChannelError
from harness.vmsa.access import Access, denial
from harness.vmsa.attributes import DeviceMemory, memory_type
from harness.vmsa.descriptor import Block, Leaf, Page, Table, TableAttributes, decode
from harness.vmsa.fault import Fault, FaultKind, Step
from harness.vmsa.field import ones
from harness.vmsa.regime import Regime, Regimes, VaRange
from harness.vmsa.stage import Stage

__all__ = [
    "ARCHITECTURE",
    "Choices",
    "LeafCheck",
    "Memory",
    "Translation",
    "first_table_attributes",
    "is_contiguous",
    "leaf_oa",
    "read",
    "read_word",
    "walk",
    "walk_tables",
]

Memory = Callable[[int, int], bytes | None]
"""Physical memory: called with an address and a size in bytes, it returns that many bytes.

For what is not memory it returns None, or raises LookupError, OSError or ChannelError.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the architecture leaves to implementations and this model leaves to its caller."""

    honour_contiguous: bool = True
    """The Contiguous bit takes part in the output address (ASL StageOA). Either answer is the same where
    the group is programmed as it must be."""
    contiguous_faults: bool = False
    """A contiguous group larger than the input address space faults (ASL AArch64_ContiguousBitFaults)."""
    nt_faults: bool = False
    """A block with nT set faults, and a table that skips levels (ASL AArch64_BlocknTFaults); for an
    implementation of FEAT_BBM."""


ARCHITECTURE: Final = Choices()
"""As the pseudocode has it, without what it leaves to implementations."""

_NOTHING: Final = TableAttributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A translation that succeeded."""

    va: int
    """The input address: at stage 2, an intermediate physical one."""
    pa: int
    level: int
    size_log2: int
    """log2 of the bytes that the leaf maps."""
    leaf: Block | Page
    inherited: TableAttributes
    """What the tables handed down, as written."""
    contiguous: bool
    """The leaf is one of a contiguous group: the bit is set, and means that here."""
    chain: tuple[Step, ...]
    """The descriptors read, from the start level on; the last is the leaf."""


LeafCheck = Callable[[Block | Page, TableAttributes], Fault | None]
"""What refuses a leaf last, alignment and permission, as a fault without address and chain; or None."""


def walk(
    regime: Regime | Regimes,
    memory: Memory,
    va: int,
    access: Access | None = None,
    *,
    choices: Choices = ARCHITECTURE,
) -> Translation | Fault:
    """Translate the 64-bit address `va`; every outcome of the architecture is a value.

    Without an `access` alignment and permissions are not checked, and the address is taken as a data
    access by EL1 would. Raises ValueError for an address of more than 64 bits, or of the other range than
    a single Regime's where there are two.
    """
    if va < 0 or va >> 64:
        raise ValueError(f"{va:#x} is not an address of 64 bits")
    chosen = regime.of(va) if isinstance(regime, Regimes) else regime
    if isinstance(chosen, Fault):
        return replace(chosen, va=va)
    if chosen.name.has_unprivileged and chosen.va_range is not VaRange.of(va):
        raise ValueError(f"{va:#x} is not in the {chosen.va_range.name.lower()} range: give both regimes")
    refused = _refused_before_walk(chosen, va, access)
    if refused is not None:
        return Fault(kind=FaultKind.TRANSLATION, level=0, va=va, reason=refused)
    check = None if access is None else _check_of(chosen, access)
    return walk_tables(chosen, memory, va, check=check, choices=choices)


def _refused_before_walk(regime: Regime, va: int, access: Access | None) -> str | None:
    """Why an address faults without a descriptor being read (ASL AArch64_S1Translate), or None."""
    is_user = access is not None and access.el == 0
    if regime.va_out_of_range(va, ifetch=access is not None and access.is_fetch):
        return f"the address is outside the {regime.iasize_bits} bits of its range"
    if is_user and regime.e0pd:
        return "TCR.E0PD refuses the range to EL0"
    if is_user and regime.nfd and access is not None and access.nonfault:
        return "TCR.NFD refuses the range to EL0's non-fault accesses"
    if regime.epd:
        return "TCR.EPD disables walks of the range"
    return None


def walk_tables(
    stage: Stage, memory: Memory, va: int, *, check: LeafCheck | None = None, choices: Choices = ARCHITECTURE
) -> Translation | Fault:
    """Find the leaf of an input address that is within the stage's range (ASL AArch64_S1Walk, _S2Walk)."""
    geometry = stage.geometry
    level = stage.start_level
    inherited = first_table_attributes(stage)
    chain: tuple[Step, ...] = ()
    pa = stage.table_pa | stage.start_index(va) << geometry.desc_log2

    def fault(kind: FaultKind, level: int, reason: str) -> Fault:
        return Fault(kind=kind, level=level, va=va, stage=stage.number, reason=reason, chain=chain)

    if stage.oa_out_of_range(pa):
        reason = f"the first table, at {stage.table_pa:#x}, is beyond {stage.oasize_bits} bits"
        return fault(FaultKind.ADDRESS_SIZE, 0, reason)
    while True:
        word = read_word(memory, pa, big_endian=stage.big_endian, size_bytes=geometry.desc_bytes)
        if word is None:
            chain = (*chain, Step(level, pa, None, None))
            reason = f"there is no memory at {pa:#x} for the descriptor"
            return fault(FaultKind.EXTERNAL_ON_WALK, level, reason)
        descriptor = decode(word, level, geometry, stage.address_format)
        chain = (*chain, Step(level, pa, word, descriptor))
        match descriptor:
            case Table():
                index = geometry.index(va, descriptor.next_level, descriptor.skl)
                pa = descriptor.next_pa | index << geometry.desc_log2
                if stage.oa_out_of_range(pa):
                    reason = f"the next table, at {descriptor.next_pa:#x}, is beyond {stage.oasize_bits} bits"
                    return fault(FaultKind.ADDRESS_SIZE, level, reason)
                if descriptor.skl and descriptor.nt and choices.nt_faults:
                    return fault(FaultKind.TRANSLATION, level, "the table skips levels and has nT set")
                if stage.number == 1:
                    inherited = inherited.under(descriptor)
                level = descriptor.next_level
            case Block() | Page():
                found = _leaf(stage, va, choices, descriptor, inherited, check)
                return replace(found, chain=chain)
            case _:
                what = "reserved" if word & 1 else "invalid"
                shown = f"{word:#0{2 + 2 * geometry.desc_bytes}x}"
                return fault(FaultKind.TRANSLATION, level, f"the descriptor at {pa:#x}, {shown}, is {what}")


def _leaf(
    stage: Stage,
    va: int,
    choices: Choices,
    leaf: Block | Page,
    inherited: TableAttributes,
    check: LeafCheck | None,
) -> Translation | Fault:
    """The checks of a leaf, in order, and its output address (the ends of AArch64_S1Walk, _S1Translate).

    The chain is left to the caller.
    """

    def fault(kind: FaultKind, reason: str) -> Fault:
        return Fault(kind=kind, level=leaf.level, va=va, stage=stage.number, reason=reason)

    contiguous = is_contiguous(stage, leaf, inherited)
    pa = leaf_oa(stage, leaf, va, contiguous=contiguous and choices.honour_contiguous)
    group_log2 = stage.geometry.size_log2(leaf.level) + stage.geometry.contiguous_log2(leaf.level)
    if contiguous and choices.contiguous_faults and group_log2 > stage.iasize_bits:
        return fault(FaultKind.TRANSLATION, "the contiguous group is larger than the address space")
    if isinstance(leaf, Block) and choices.nt_faults and leaf.nt:
        return fault(FaultKind.TRANSLATION, "the block has nT set")
    if stage.oa_out_of_range(pa):
        reason = f"the output address, {pa:#x}, is beyond {stage.oasize_bits} bits"
        return fault(FaultKind.ADDRESS_SIZE, reason)
    if not leaf.af and not stage.ha:
        return fault(FaultKind.ACCESS_FLAG, "the access flag is clear and hardware may not set it")
    refused = None if check is None else check(leaf, inherited)
    if refused is not None:
        return replace(refused, va=va, stage=stage.number)
    return Translation(
        va=va,
        pa=pa,
        level=leaf.level,
        size_log2=stage.geometry.size_log2(leaf.level),
        leaf=leaf,
        inherited=inherited,
        contiguous=contiguous,
        chain=(),
    )


def _check_of(regime: Regime, access: Access) -> LeafCheck:
    """Alignment and permission of an access at stage 1."""

    def check(leaf: Block | Page, inherited: TableAttributes) -> Fault | None:
        on_device = isinstance(memory_type(regime, leaf), DeviceMemory)
        if not access.aligned and on_device and not access.is_fetch:
            reason = "an unaligned access to Device memory"
            return Fault(kind=FaultKind.ALIGNMENT, level=leaf.level, reason=reason)
        refused = denial(regime, leaf, inherited, access)
        if refused is None:
            return None
        verb = access.kind.name.lower()
        reason = f"EL{access.el} may not {verb}: refused by {refused.value} (leaf {leaf.word:#018x})"
        return Fault(kind=FaultKind.PERMISSION, level=leaf.level, reason=reason, denial=refused)

    return check


def first_table_attributes(stage: Stage) -> TableAttributes:
    """What the registers hand down to the first table."""
    return TableAttributes(disch=isinstance(stage, Regime) and stage.disch)


def leaf_oa(stage: Stage, leaf: Leaf, va: int, *, contiguous: bool) -> int:
    """Where a leaf translates an address to, checked against nothing (ASL StageOA).

    Of a `contiguous` leaf the address bits of its whole group take part, whatever the descriptor has there.
    """
    size_log2 = stage.geometry.size_log2(leaf.level)
    size_log2 += stage.geometry.contiguous_log2(leaf.level) if contiguous else 0
    return leaf.oa & ~ones(size_log2) | va & ones(size_log2)


def is_contiguous(stage: Stage, leaf: Leaf, inherited: TableAttributes = _NOTHING) -> bool:
    """True where the Contiguous bit of a leaf makes it one of a contiguous group (ASL AArch64_ContiguousBit).

    Of a table of 128-bit descriptors `inherited` says whether the bit is ignored in it.
    """
    ignored = (isinstance(stage, Regime) and stage.pnch) or inherited.disch
    return leaf.contiguous and not ignored and stage.geometry.contiguous_log2(leaf.level) > 0


def read_word(memory: Memory, pa: int, *, big_endian: bool, size_bytes: int = 8) -> int | None:
    """The descriptor at a physical address, or None where there is no memory (ASL FetchDescriptor)."""
    data = read(memory, pa, size_bytes)
    return None if data is None else int.from_bytes(data, "big" if big_endian else "little")


def read(memory: Memory, pa: int, size_bytes: int) -> bytes | None:
    """That many bytes of physical memory, or None where any of them is not memory."""
    try:
        data = memory(pa, size_bytes)
    except (ChannelError, LookupError, OSError):
        return None
    return data if data is not None and len(data) == size_bytes else None
