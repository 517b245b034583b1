"""A guest at one moment, as a value: what every cross-check and table walk starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.memory.ram import PhysicalMemory
from harness.vmsa import Regimes, Registers, StageOff, derive_both
from harness.vmsa.registers import REGISTER_NAMES

__all__ = ["REGISTERS", "Snapshot", "Vcpu"]

REGISTERS = ("pc", "cpsr", *sorted(name.upper() for name in REGISTER_NAMES))
"""Names of the registers that a snapshot keeps of each vCPU: the gdbstub's for the first two, then the
architecture's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vcpu:
    """One vCPU's registers by name, as `REGISTERS` spells them; those that are not known are left out."""

    registers: Mapping[str, int]

    @property
    def el(self) -> int | None:
        """The exception level it was stopped at, from PSTATE; None when PSTATE is not known."""
        pstate = self.registers.get("cpsr")
        return None if pstate is None else pstate >> 2 & 0b11

    def regimes(self) -> Regimes | StageOff:
        """What rules its translations, the kernel's and its process's; raises ValueError as `derive` does."""
        return derive_both(Registers.from_names(self.registers))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """A guest at one moment. Of a running machine it is valid only while the vCPUs stay stopped."""

    vcpus: tuple[Vcpu, ...]
    memory: PhysicalMemory
    origin: str
    """Where it comes from, for messages: a cell's id, a file's name."""
    notes: tuple[str, ...] = ()
    """What was not known and what was taken instead, in words."""

    def read(self, pa: int, size_bytes: int) -> bytes:
        """The bytes at a physical address; raises ChannelError when any of them is not in the snapshot."""
        return self.memory.read(pa, size_bytes)

    @property
    def ram(self) -> tuple[range, ...]:
        """The physical addresses that `read` answers for, in order."""
        return self.memory.ranges
