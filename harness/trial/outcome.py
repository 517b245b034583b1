"""What one guest showed of a driver: checks, rules of the wire, and whether the driver crossed it at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.qemu.machine import Machine
from harness.verdict import CellResult, Verdict

__all__ = ["DRIVER_OF", "Outcome", "RuleCount"]

DRIVER_OF: Final = {
    "hv_vmbus": "hv_vmbus",
    "hv_utils": "hv_utils",
    "hv_balloon": "hv_balloon",
    "hv_storvsc": "storvsc",
    "hv_netvsc": "netvsc",
    "hv_sock": "hv_sock",
}
"""Modules, and the names that rules have for their drivers."""
_PROTOCOL: Final = "the protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """What became of one rule."""

    driver: str
    source: str
    """Where in Linux it lies."""
    claim: str
    comparisons: int
    broken: int
    first: str = ""
    """Of what was wanted and seen, where it was broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One guest's."""

    cell: CellResult
    rules: Mapping[str, RuleCount]
    """By name."""

    @classmethod
    def of(cls, cell: CellResult, machine: Machine | None) -> Outcome:
        """From a cell that has run, and the machine that it ran on; None where it came to none."""
        if machine is None or machine.hyperv is None or machine.hyperv.checker is None:
            return cls(cell=cell, rules={})
        report, log = machine.hyperv.checker.report(), machine.hyperv.log
        first = {finding.rule.name: finding for finding in reversed(report.findings)}
        rules = {
            one.rule.name: RuleCount(
                driver=one.rule.driver, source=one.rule.source, claim=one.rule.claim,
                comparisons=one.comparisons, broken=one.broken,
                first=f"{first[one.rule.name].seen}; wanted {first[one.rule.name].wanted}"
                if one.rule.name in first else "",
            )
            for one in report.results
        }  # fmt: skip
        known = {str(finding) for finding in report.findings}
        for violation in log.violations:
            if violation.what in known:
                continue
            name = f"protocol: {violation.rule.value}"
            earlier = rules.get(name)
            rules[name] = RuleCount(
                driver=violation.where,
                source=_PROTOCOL,
                claim=violation.rule.value,
                comparisons=0,
                broken=1 if earlier is None else earlier.broken + 1,
                first=violation.what if earlier is None else earlier.first,
            )
        return cls(cell=cell, rules=rules)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Of each check, in the order they ran."""
        return {check.name: check.verdict for check in self.cell.checks}

    def crossed(self, module: str) -> bool:
        """True where the module's driver did something on the wire that was judged."""
        driver = DRIVER_OF[module]
        return any(
            rule.driver == driver and (rule.comparisons or rule.broken) for rule in self.rules.values()
        )
