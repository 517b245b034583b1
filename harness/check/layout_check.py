"""What VMCOREINFO says of the layout, against the registers and the formulas of memory.h.

The formulas are `harness.linux.layout`'s. May import what `half` may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.check.half import KernelHalf
from harness.verdict import Finding
from harness.vmsa.field import ones

__all__ = ["LayoutFact", "facts_of_layout", "layout_findings"]

_NUMBER = re.compile("(0x)?[0-9a-f]{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutFact:
    """One thing that two sources say."""

    what: str
    wanted: int
    """What registers, or the formulas, make it."""
    seen: int
    """What the kernel says."""

    @property
    def finding(self) -> Finding:
        """As a finding, for those that differ."""
        return Finding(what=self.what, wanted=f"{self.wanted:#x}", seen=f"{self.seen:#x}")


def facts_of_layout(half: KernelHalf) -> tuple[LayoutFact, ...]:
    """All that can be compared; none without VMCOREINFO."""
    return tuple(_by_registers(half)) + tuple(_by_formulas(half))


def layout_findings(half: KernelHalf) -> Iterator[Finding]:
    """Those of the facts on which the sources differ."""
    return (fact.finding for fact in facts_of_layout(half) if fact.wanted != fact.seen)


def _by_registers(half: KernelHalf) -> Iterator[LayoutFact]:
    info, regime = half.view.vmcoreinfo, half.regime
    if info is None:
        return
    yield LayoutFact(
        what="VMCOREINFO: log2 of PAGESIZE", wanted=regime.geometry.granule_log2, seen=info.page_log2
    )
    yield LayoutFact(what="VMCOREINFO: TCR_EL1_T1SZ", wanted=64 - regime.iasize_bits, seen=info.txsz)
    yield LayoutFact(what="TTBR1: swapper_pg_dir", wanted=info.table_pa, seen=regime.table_pa)


def _by_formulas(half: KernelHalf) -> Iterator[LayoutFact]:
    layout, note = half.layout, half.view.note
    if layout is None:
        return
    formulas = {
        "NUMBER(MODULES_VADDR)": layout.modules.start,
        "NUMBER(MODULES_END)": layout.modules.stop,
        "NUMBER(VMALLOC_END)": layout.vmalloc.stop,
        "NUMBER(VMEMMAP_START)": layout.vmemmap.start,
        "NUMBER(VMEMMAP_END)": layout.vmemmap.stop,
    }
    for name, wanted in formulas.items():
        seen = _number(note.get(name))
        if seen is not None:
            yield LayoutFact(what=f"VMCOREINFO: {name}", wanted=wanted, seen=seen)
    offset = _number(note.get("KERNELOFFSET"))
    if half.kimage is not None and offset is not None:
        text_va = half.kimage.va(half.kimage.code_pa).start
        yield LayoutFact(
            what="kernel text: address", wanted=layout.kimage_va + offset & ones(64), seen=text_va
        )
    if half.kimage is not None and half.memstart_pa is not None:
        alias_va = layout.linear_va(half.kimage.code_pa.start, half.memstart_pa)
        inside = alias_va in layout.linear_map
        yield LayoutFact(what="kernel text: alias in the linear map", wanted=1, seen=int(inside))


def _number(text: str | None) -> int | None:
    """A number of 64 bits as the note has them, all in hexadecimal."""
    return int(text, 16) if text is not None and _NUMBER.fullmatch(text) else None
