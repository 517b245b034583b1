"""What a disk does wrong on purpose, so that a driver's error paths are walked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.hyperv.scsi.command import READS, WRITES, Sense
from harness.hyperv.wire.storvsc import SrbStatus

__all__ = ["Fault", "Faults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """For commands that match: an error in place of the command, part of it only, or a delay of it.

    With neither `sense` nor `srb_status` the command is carried out.
    """

    opcodes: frozenset[int] = READS | WRITES
    after: int = 0
    """Matching commands that pass unharmed first."""
    times: int = 1
    """Commands that are harmed."""
    sense: Sense | None = None
    """CHECK CONDITION with this sense data."""
    srb_status: SrbStatus | None = None
    """The adapter's own error; ERROR where only `sense` is given."""
    short_bytes: int | None = None
    """Transfer no more than this and say so, as a success with a residual count."""
    delay_s: float = 0.0
    """Answer no sooner than this, to a tenth of a second; other commands overtake it."""


class Faults:
    """Faults in the order in which they are tried: the first that matches a command harms it."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = list(faults)
        self._seen = [0] * len(self._faults)
        self.injected = 0
        """Commands harmed so far."""

    def add(self, fault: Fault) -> None:
        """One more, tried last."""
        self._faults.append(fault)
        self._seen.append(0)

    def take(self, opcode: int) -> Fault | None:
        """What is to happen to this command; counts it."""
        for index, fault in enumerate(self._faults):
            if opcode not in fault.opcodes:
                continue
            self._seen[index] += 1
            if fault.after < self._seen[index] <= fault.after + fault.times:
                self.injected += 1
                return fault
        return None
