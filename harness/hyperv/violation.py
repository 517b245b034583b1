"""What a guest does that no driver of Hyper-V's may do: a finding with a type, never a crash of ours.

May import nothing of the package's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Rule", "Violated", "Violation"]


class Rule(Enum):
    """The kind of rule that was broken."""

    MEMORY = "an address that is not RAM"
    RING = "a ring's index, header or packet length"
    GPADL = "a list of page frames"
    MESSAGE = "a channel message's form"
    STATE = "a message that does not fit what went before"
    HYPERCALL = "a hypercall's input"
    PACKET = "a packet's form"
    SIGNAL = "an interrupt that did not come, or came for nothing"
    PAGE_SIZE = "a conversion between the guest's page size and Hyper-V's"
    DEVICE = "a device's own protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule."""

    rule: Rule
    where: str
    """The device, channel or register it was met at."""
    what: str
    """What was seen, and what was wanted."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.rule.value})"


class Violated(Exception):
    """Carries a violation to where it is recorded: `VmBus` and `Hypercalls` let none of them out."""

    def __init__(self, rule: Rule, what: str, where: str = "guest") -> None:
        super().__init__(what)
        self.rule = rule
        self.what = what
        self.where = where

    def at(self, where: str) -> Violation:
        """The violation, met at `where` unless whoever raised it knew better."""
        return Violation(rule=self.rule, where=where if self.where == "guest" else self.where, what=self.what)
