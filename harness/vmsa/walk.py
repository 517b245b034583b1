"""One translation, step by step, in the order of Arm's pseudocode.

Source: Arm ARM DDI 0487, D8.2; ASL AArch64_S1Translate and AArch64_S1Walk, whose order of checks is kept:
TxSZ, VA range, E0PD, NFD, EPD, address of the first descriptor; then, descriptor by descriptor, external
abort, type, address of the next; then contiguous and nT, output address, access flag, alignment,
permission. May import the standard library and `harness.errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.errors import ChannelError
from harness.vmsa.access import Access, denial
from harness.vmsa.attributes import DeviceMemory, memory_type
from harness.vmsa.descriptor import Block, Leaf, Page, Table, TableAttributes, decode
from harness.vmsa.fault import Fault, FaultKind, Step
from harness.vmsa.field import ones
from harness.vmsa.regime import Regime, Regimes, VaRange

__all__ = ["Choices", "Memory", "Translation", "is_contiguous", "read", "read_word", "walk"]

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
    """A block with nT set faults (ASL AArch64_BlocknTFaults); for an implementation of FEAT_BBM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A translation that succeeded."""

    va: int
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


def walk(
    regime: Regime | Regimes,
    memory: Memory,
    va: int,
    access: Access | None = None,
    *,
    choices: Choices = Choices(),
) -> Translation | Fault:
    """Translate the 64-bit address `va`; every outcome of the architecture is a value.

    Without an `access` alignment and permissions are not checked, and the address is taken as a data
    access by EL1 would. Raises ValueError for an address of more than 64 bits, or of the other range than
    a single Regime's.
    """
    if va < 0 or va >> 64:
        raise ValueError(f"{va:#x} is not an address of 64 bits")
    chosen = regime.of(va) if isinstance(regime, Regimes) else regime
    if isinstance(chosen, Fault):
        return replace(chosen, va=va)
    if chosen.va_range is not VaRange.of(va):
        raise ValueError(f"{va:#x} is not in the {chosen.va_range.name.lower()} range: give both regimes")
    refused = _refused_before_walk(chosen, va, access)
    if refused is not None:
        return Fault(kind=FaultKind.TRANSLATION, level=0, va=va, reason=refused)
    return _walk_tables(chosen, memory, va, access, choices)


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


def _walk_tables(
    regime: Regime, memory: Memory, va: int, access: Access | None, choices: Choices
) -> Translation | Fault:
    """ASL AArch64_S1Walk."""
    geometry = regime.geometry
    level = regime.start_level
    inherited = TableAttributes()
    chain: tuple[Step, ...] = ()
    pa = regime.table_pa | geometry.start_index(va, regime.iasize_bits) << geometry.desc_log2
    if regime.oa_out_of_range(pa):
        reason = f"the first table, at {regime.table_pa:#x}, is beyond {regime.oasize_bits} bits"
        return Fault(kind=FaultKind.ADDRESS_SIZE, level=0, va=va, reason=reason)

    def fault(kind: FaultKind, reason: str) -> Fault:
        return Fault(kind=kind, level=level, va=va, reason=reason, chain=chain)

    while True:
        word = read_word(memory, pa, big_endian=regime.big_endian)
        if word is None:
            chain = (*chain, Step(level, pa, None, None))
            return fault(FaultKind.EXTERNAL_ON_WALK, f"there is no memory at {pa:#x} for the descriptor")
        descriptor = decode(word, level, geometry, regime.address_format)
        chain = (*chain, Step(level, pa, word, descriptor))
        match descriptor:
            case Table():
                pa = descriptor.next_pa | geometry.index(va, level + 1) << geometry.desc_log2
                if regime.oa_out_of_range(pa):
                    reason = (
                        f"the next table, at {descriptor.next_pa:#x}, is beyond {regime.oasize_bits} bits"
                    )
                    return fault(FaultKind.ADDRESS_SIZE, reason)
                inherited = inherited.under(descriptor)
                level += 1
            case Block() | Page():
                return _leaf(regime, va, access, choices, descriptor, inherited, chain)
            case _:
                what = "reserved" if word & 1 else "invalid"
                return fault(FaultKind.TRANSLATION, f"the descriptor at {pa:#x}, {word:#018x}, is {what}")


def _leaf(
    regime: Regime,
    va: int,
    access: Access | None,
    choices: Choices,
    leaf: Block | Page,
    inherited: TableAttributes,
    chain: tuple[Step, ...],
) -> Translation | Fault:
    """The checks of a leaf, in order, and its output address (the ends of AArch64_S1Walk, _S1Translate)."""

    def fault(kind: FaultKind, reason: str) -> Fault:
        return Fault(kind=kind, level=leaf.level, va=va, reason=reason, chain=chain)

    size_log2 = regime.geometry.size_log2(leaf.level)
    contiguous = is_contiguous(regime, leaf)
    group_log2 = size_log2 + (regime.geometry.contiguous_log2(leaf.level) if contiguous else 0)
    pa = _stage_oa(leaf, va, group_log2 if choices.honour_contiguous else size_log2)
    if contiguous and choices.contiguous_faults and group_log2 > regime.iasize_bits:
        return fault(FaultKind.TRANSLATION, "the contiguous group is larger than the address space")
    if isinstance(leaf, Block) and choices.nt_faults and leaf.nt:
        return fault(FaultKind.TRANSLATION, "the block has nT set")
    if regime.oa_out_of_range(pa):
        reason = f"the output address, {pa:#x}, is beyond {regime.oasize_bits} bits"
        return fault(FaultKind.ADDRESS_SIZE, reason)
    if not leaf.af and not regime.ha:
        return fault(FaultKind.ACCESS_FLAG, "the access flag is clear and hardware may not set it")
    if access is not None:
        on_device = isinstance(memory_type(regime, leaf), DeviceMemory)
        if not access.aligned and on_device and not access.is_fetch:
            return fault(FaultKind.ALIGNMENT, "an unaligned access to Device memory")
        refused = denial(regime, leaf, inherited, access)
        if refused is not None:
            verb = access.kind.name.lower()
            reason = f"EL{access.el} may not {verb}: refused by {refused.value} (leaf {leaf.word:#018x})"
            return replace(fault(FaultKind.PERMISSION, reason), denial=refused)
    return Translation(
        va=va,
        pa=pa,
        level=leaf.level,
        size_log2=size_log2,
        leaf=leaf,
        inherited=inherited,
        contiguous=contiguous,
        chain=chain,
    )


def _stage_oa(leaf: Leaf, va: int, size_log2: int) -> int:
    """ASL StageOA."""
    return leaf.oa & ~ones(size_log2) | va & ones(size_log2)


def is_contiguous(regime: Regime, leaf: Leaf) -> bool:
    """True where bit 52 of a leaf makes it one of a contiguous group (ASL AArch64_ContiguousBit)."""
    return leaf.contiguous and not regime.pnch and regime.geometry.contiguous_log2(leaf.level) > 0


def read_word(memory: Memory, pa: int, *, big_endian: bool) -> int | None:
    """The 64-bit descriptor at a physical address, or None where there is no memory (ASL FetchDescriptor)."""
    data = read(memory, pa, 8)
    return None if data is None else int.from_bytes(data, "big" if big_endian else "little")


def read(memory: Memory, pa: int, size_bytes: int) -> bytes | None:
    """That many bytes of physical memory, or None where any of them is not memory."""
    try:
        data = memory(pa, size_bytes)
    except (ChannelError, LookupError, OSError):
        return None
    return data if data is not None and len(data) == size_bytes else None
