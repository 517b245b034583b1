"""The kernel half of a snapshot, by every witness there is: rules, a second walker, the kernel's own words.

An oracle that is not there is named, with its reason: a check says what it could not compare.
May import what `half` may, and the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.check.contiguous import contiguous_groups_are_whole
from harness.check.half import KernelHalf
from harness.check.invariants import INVARIANTS, Invariant
from harness.check.kimage import KIMAGE_RULES
from harness.check.layout_check import facts_of_layout, layout_findings
from harness.check.linear_map import LINEAR_MAP_RULES
from harness.check.ptdump import compare_ptdump
from harness.check.vmalloc import stable_areas, vmalloc_areas_are_mapped, vmalloc_guard_pages_are_unmapped
from harness.check.walkers import Answers, walker_findings
from harness.verdict import Finding

__all__ = ["RULES", "KernelTables", "Witness", "check_kernel_tables"]

RULES: tuple[Invariant, ...] = (
    *INVARIANTS,
    contiguous_groups_are_whole,
    *LINEAR_MAP_RULES,
    *KIMAGE_RULES,
    vmalloc_guard_pages_are_unmapped,
    vmalloc_areas_are_mapped,
)
"""Every rule; each is a function of the half that yields findings, and its docstring says what it claims."""


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
    findings: tuple[Finding, ...]

    @property
    def evidence(self) -> str:
        """Who was asked what, in one line."""
        return ", ".join(str(one) for one in self.witnesses)


def check_kernel_tables(half: KernelHalf, answers: Answers | None = None) -> KernelTables:
    """Check the kernel's half by rules and by every witness.

    `answers` are a second walker's, or None where there is none. That no witness but the tables could be
    asked is a finding: what was not compared has not passed.
    """
    findings = [finding for rule in RULES for finding in rule(half)]
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
        leaves=len(half.leaves), compared=compared, witnesses=tuple(witnesses), findings=tuple(findings)
    )


def _absent(half: KernelHalf, name: str) -> Witness:
    why = half.view.absent.get(name, "the guest's own words were not read")
    return Witness(name=name, compared=0, unit="", absent=why)


def _walker(half: KernelHalf, answers: Answers | None) -> tuple[Witness, list[Finding]]:
    if answers is None:
        return _absent(half, "gva2gpa"), []
    found = list(walker_findings(half, answers))
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
