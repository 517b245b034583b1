"""One translation, every step of it, as a value that terminals and programs are given.

The walk is `harness.vmsa.walk`'s; here its chain is put into words. May import `harness.vmsa` and this
package's fields, refusal, story and words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.tables.fields import FieldInWords, fields_of, kind_in_words
from harness.tables.half import Half, View
from harness.tables.refusal import refused_by
from harness.tables.story import range_in_words, regime_in_words
from harness.tables.words import size
from harness.vmsa import (
    Access,
    AccessKind,
    Fault,
    Regime,
    Table,
    Translation,
    VaRange,
    memory_type,
    permissions,
    shareability,
    walk,
)
from harness.vmsa.attributes import attr_index
from harness.vmsa.fault import Step
from harness.vmsa.field import ones

__all__ = ["AccessInWords", "Explanation", "StepInWords", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInWords:
    """One descriptor of the walk."""

    level: int
    index: int
    entries: int
    va_bits: str
    """The bits of the address that select the entry, `hi:lo`."""
    table_pa: int
    pa: int
    word: int | None
    kind: str
    fields: tuple[FieldInWords, ...]
    hands_down: tuple[str, ...]
    """Names of what a table imposes on everything below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessInWords:
    """Whether an exception level may do something, and if not, why."""

    el: int
    pan: bool
    kind: str
    fault: Fault | None
    refused_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A translation explained."""

    va: int
    symbol: str
    which: tuple[str, ...]
    """Range, regime and registers."""
    steps: tuple[StepInWords, ...]
    outcome: Translation | Fault
    result: tuple[str, ...]
    """Output address, memory type and rights; or the fault."""
    accesses: tuple[AccessInWords, ...]

    @property
    def is_mapped(self) -> bool:
        """True where the walk ended in an address."""
        return isinstance(self.outcome, Translation)


def explain(view: View, va: int, symbol: str = "") -> Explanation:
    """Walk one address and say everything; raises ValueError for an address of more than 64 bits."""
    regime = view.of(va)
    which = [range_in_words(va)]
    if isinstance(regime, Fault):
        return Explanation(
            va=va, symbol=symbol, which=tuple(which), steps=(), outcome=replace(regime, va=va),
            result=(_fault(regime),), accesses=(),
        )  # fmt: skip
    outcome = walk(regime, view.snapshot.read, va)
    instead = view.instead.get(Half.USER if regime.va_range is VaRange.LOWER else Half.KERNEL, "")
    which += regime_in_words(regime, view.registers, instead=instead)
    above = (None, *outcome.chain)
    return Explanation(
        va=va,
        symbol=symbol,
        which=tuple(which),
        steps=tuple(_step(regime, va, *pair) for pair in zip(above, outcome.chain, strict=False)),
        outcome=outcome,
        result=_result(regime, outcome) if isinstance(outcome, Translation) else (_fault(outcome),),
        accesses=_accesses(view, regime, outcome) if isinstance(outcome, Translation) else (),
    )


def _step(regime: Regime, va: int, above: Step | None, step: Step) -> StepInWords:
    """One descriptor; `above` is the one that led to its table, None for the first."""
    geometry = regime.geometry
    lo = geometry.size_log2(step.level)
    skipped = above.descriptor.skl if above is not None and isinstance(above.descriptor, Table) else 0
    hi = (regime.iasize_bits if above is None else lo + geometry.index_bits(skipped)) - 1
    index = va >> lo & ones(hi - lo + 1)
    descriptor = step.descriptor
    return StepInWords(
        level=step.level,
        index=index,
        entries=1 << hi - lo + 1,
        va_bits=f"{hi}:{lo}",
        table_pa=step.pa - (index << geometry.desc_log2),
        pa=step.pa,
        word=step.word,
        kind="no memory there" if descriptor is None else kind_in_words(regime, descriptor),
        fields=() if descriptor is None else fields_of(regime, descriptor),
        hands_down=_hands_down(regime, descriptor) if isinstance(descriptor, Table) else (),
    )


def _hands_down(regime: Regime, table: Table) -> tuple[str, ...]:
    if regime.hpd:
        return ("NSTable",) if table.ns_table else ()
    named = (
        ("NSTable", table.ns_table),
        ("APTable[1]", table.ap_table & 2),
        ("APTable[0]", table.ap_table & 1),
        ("UXNTable", table.uxn_table),
        ("PXNTable", table.pxn_table),
    )
    return tuple(name for name, is_set in named if is_set)


def _fault(fault: Fault) -> str:
    level = f" at level {fault.level}" if fault.chain or fault.level else ", before any descriptor was read"
    return (
        f"{fault.kind.value}{level}: {fault.reason} (ESR fault status code {fault.fsc:#04x}, {fault.fsc:06b})"
    )


def _result(regime: Regime, found: Translation) -> tuple[str, ...]:
    leaf, geometry = found.leaf, regime.geometry
    log2 = found.size_log2 + (geometry.contiguous_log2(leaf.level) if found.contiguous else 0)
    base, offset = found.pa & ~ones(log2), found.va & ones(log2)
    unit = "contiguous group" if found.contiguous else "leaf"
    source = "TCR.SH" if regime.address_format.value == "LPA2" else "the descriptor"
    rights = permissions(regime, leaf, found.inherited)
    index = attr_index(regime, leaf)
    said = [
        f"output address {found.pa:#x} = {base:#x} + {offset:#x}: bits {log2 - 1}:0 are the address's own, "
        f"{size(1 << log2)} to the {unit}",
        f"memory type {memory_type(regime, leaf)}: AttrIndx {index}, MAIR {regime.mair:#x}",
        f"shareability {shareability(regime, leaf).name.lower()}, from {source}",
        f"rights: EL1 {rights.privileged}, EL0 {rights.user}",
    ]
    if regime.has_pan:
        panned = permissions(regime, leaf, found.inherited, pan=True)
        changes = panned.privileged != rights.privileged
        effect = f"EL1 {panned.privileged}" if changes else "the same"
        said.append(f"with PSTATE.PAN set: {effect}")
    return tuple(said)


def _accesses(view: View, regime: Regime, found: Translation) -> tuple[AccessInWords, ...]:
    """Every access that is refused, or not, by exception level."""
    asked = [Access(kind=kind, el=1) for kind in AccessKind] + [
        Access(kind=kind, el=0) for kind in AccessKind
    ]
    if regime.has_pan:
        asked += [Access(kind=kind, el=1, pan=True) for kind in (AccessKind.READ, AccessKind.WRITE)]
    said = []
    for access in asked:
        outcome = walk(regime, view.snapshot.read, found.va, access)
        fault = outcome if isinstance(outcome, Fault) else None
        why = None
        if fault is not None:
            why = refused_by(regime, found, access) if fault.denial is not None else fault.reason
        said.append(
            AccessInWords(
                el=access.el, pan=access.pan, kind=access.kind.name.lower(), fault=fault, refused_by=why
            )
        )
    return tuple(said)
