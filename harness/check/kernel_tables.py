"""The kernel half of a snapshot, by every witness there is: rules, a second walker, the kernel's own words.

An oracle that is not there is named, with its reason: a check says what it could not compare.
May import what `half` may, and the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from harness.check.contiguous import contiguous_groups_are_whole
from harness.check.half import KernelHalf
from harness.check.invariants import (
    INVARIANTS,
    Invariant,
    kernel_text_read_only_through_every_alias,
    nothing_outside_ram_and_devices,
)
from harness.check.kimage import (
    KIMAGE_RULES,
    kernel_data_is_writable,
    kernel_image_has_no_hole,
    kernel_image_is_write_back,
    kernel_image_obeys_its_offset,
    kernel_image_uses_blocks,
    vmemmap_is_write_back,
)
from harness.check.layout_check import facts_of_layout, layout_findings
from harness.check.linear_map import (
    LINEAR_MAP_RULES,
    linear_map_covers_ram,
    linear_map_is_not_executable,
    linear_map_is_write_back,
    linear_map_maps_system_ram_only,
    linear_map_obeys_arithmetic,
    linear_map_uses_the_sizes_it_may,
)
from harness.check.ptdump import compare_ptdump
from harness.check.vmalloc import stable_areas, vmalloc_areas_are_mapped, vmalloc_guard_pages_are_unmapped
from harness.check.walkers import Answers, walker_findings
from harness.verdict import Finding

__all__ = ["RULES", "KernelTables", "Witness", "check_kernel_tables", "rules_for"]

RULES: tuple[Invariant, ...] = (
    *INVARIANTS,
    contiguous_groups_are_whole,
    *LINEAR_MAP_RULES,
    *KIMAGE_RULES,
    vmalloc_guard_pages_are_unmapped,
    vmalloc_areas_are_mapped,
)
"""Every rule; each is a function of the half that yields findings, and its docstring says what it claims."""

_LAYOUT, _MEMSTART, _KIMAGE = "layout", "memstart_pa", "kimage"
_IOMEM, _AREAS = "view.iomem", "view.areas"
_NEEDS: Final[Mapping[Invariant, tuple[str, ...]]] = {
    kernel_text_read_only_through_every_alias: (_IOMEM,),
    nothing_outside_ram_and_devices: ("devices",),
    linear_map_obeys_arithmetic: (_LAYOUT, _MEMSTART),
    linear_map_maps_system_ram_only: (_LAYOUT, _IOMEM),
    linear_map_covers_ram: (_LAYOUT, _MEMSTART, _IOMEM),
    linear_map_is_not_executable: (_LAYOUT,),
    linear_map_is_write_back: (_LAYOUT,),
    linear_map_uses_the_sizes_it_may: (_LAYOUT, _IOMEM),
    kernel_image_obeys_its_offset: (_KIMAGE,),
    kernel_image_has_no_hole: (_KIMAGE,),
    kernel_image_is_write_back: (_KIMAGE,),
    kernel_data_is_writable: (_KIMAGE,),
    kernel_image_uses_blocks: (_KIMAGE, _AREAS),
    vmemmap_is_write_back: (_LAYOUT,),
    vmalloc_guard_pages_are_unmapped: (_AREAS,),
    vmalloc_areas_are_mapped: (_AREAS,),
}
"""What a rule needs to be known of a half; without it the rule yields nothing, and has shown nothing."""


def rules_for(half: KernelHalf) -> tuple[Invariant, ...]:
    """The rules that can be asked of a half, by what is known of it."""
    return tuple(rule for rule in RULES if all(_is_known(half, one) for one in _NEEDS.get(rule, ())))


def _is_known(half: KernelHalf, name: str) -> bool:
    return attrgetter(name)(half) not in (None, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One oracle: what it was asked."""

    name: str
    compared: int
    unit: str
    absent: str = ""
    """Why it was not asked; empty when it was."""

    def __str__(self) -> str:
        if self.absent:
            return f"no {self.name} ({self.absent})"
        return f"{self.name} {self.compared} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTables:
    """What was looked at, and what was found."""

    leaves: int
    """Leaves of the whole kernel half, each held against every rule."""
    compared: int
    """Facts that another witness than the tables themselves was asked for."""
    witnesses: tuple[Witness, ...]
    unasked: tuple[str, ...]
    """Rules that could not be asked, by name, for want of what they need to know."""
    findings: tuple[Finding, ...]

    @property
    def evidence(self) -> str:
        """Who was asked what, in one line."""
        told = ", ".join(str(one) for one in self.witnesses)
        return f"{told}; not asked: {', '.join(self.unasked)}" if self.unasked else told


def check_kernel_tables(half: KernelHalf, answers: Answers | None = None) -> KernelTables:
    """Check the kernel's half by rules and by every witness.

    `answers` are a second walker's, or None where there is none. That no witness but the tables could be
    asked is a finding: what was not compared has not passed.
    """
    findings = [
        Finding(what=f"the guest's own words: {name}", wanted="to be read", seen=why)
        for name, why in half.view.broken.items()
    ]
    rules = rules_for(half)
    findings += [finding for rule in rules for finding in rule(half)]
    witnesses = [Witness(name="model", compared=len(half.leaves), unit="leaves")]
    for asked in (_walker(half, answers), _ptdump(half), _layout(half), _iomem(half), _areas(half)):
        witness, found = asked
        witnesses.append(witness)
        findings += found
    compared = sum(one.compared for one in witnesses[1:])
    if not compared:
        why = "; ".join(str(one) for one in witnesses[1:])
        findings.append(
            Finding(what="kernel page tables", wanted="a witness beside the tables", seen=f"none: {why}")
        )
    return KernelTables(
        leaves=len(half.leaves),
        compared=compared,
        witnesses=tuple(witnesses),
        unasked=tuple(rule.__name__.replace("_", " ") for rule in RULES if rule not in rules),
        findings=tuple(findings),
    )


def _absent(half: KernelHalf, name: str) -> Witness:
    view = half.view
    why = view.absent.get(name) or view.broken.get(name, "the guest's own words were not read")
    return Witness(name=name, compared=0, unit="", absent=why)


def _walker(half: KernelHalf, answers: Answers | None) -> tuple[Witness, list[Finding]]:
    if answers is None:
        return _absent(half, "gva2gpa"), []
    found = list(walker_findings(half.leaves, answers, half.descriptor_at))
    return Witness(name="gva2gpa", compared=len(answers), unit="addresses"), found


def _ptdump(half: KernelHalf) -> tuple[Witness, list[Finding]]:
    if half.view.dumps is None:
        return _absent(half, "ptdump"), []
    compared = compare_ptdump(half, *half.view.dumps)
    return Witness(name="ptdump", compared=compared.stretches, unit="regions"), list(compared.findings)


def _layout(half: KernelHalf) -> tuple[Witness, list[Finding]]:
    facts = facts_of_layout(half)
    if not facts:
        return _absent(half, "vmcoreinfo"), []
    return Witness(name="vmcoreinfo", compared=len(facts), unit="facts"), list(layout_findings(half))


def _iomem(half: KernelHalf) -> tuple[Witness, list[Finding]]:
    """The rules asked it; here it is only counted."""
    if half.view.iomem is None:
        return _absent(half, "iomem"), []
    return Witness(name="iomem", compared=len(half.view.iomem.resources), unit="resources"), []


def _areas(half: KernelHalf) -> tuple[Witness, list[Finding]]:
    """The rules asked it; here it is only counted."""
    if half.view.areas is None:
        return _absent(half, "vmallocinfo"), []
    return Witness(name="vmallocinfo", compared=len(stable_areas(half)), unit="areas"), []
