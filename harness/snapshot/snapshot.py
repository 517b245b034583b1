"""A guest at one moment, as a value: what every cross-check and table walk starts from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from harness.bulk import Ram, Reads, TableSource
from harness.memory.ram import ContiguousMemory, PhysicalMemory
from harness.vmsa import Regime, Regimes, Registers, StageOff, derive_both
from harness.vmsa.registers import REGISTER_NAMES

__all__ = ["GENERAL_REGISTERS", "REGISTERS", "Snapshot", "Vcpu"]

GENERAL_REGISTERS = (*(f"x{number}" for number in range(31)), "sp", "pc", "cpsr")
"""The gdbstub's names, in the order of the kernel's struct user_pt_regs (QEMU gdb-xml/aarch64-core.xml)."""

REGISTERS = (*GENERAL_REGISTERS, *sorted(name.upper() for name in REGISTER_NAMES))
"""Names of the registers that a snapshot keeps of each vCPU: the gdbstub's, then the architecture's. Files of
earlier versions of granule have pc and cpsr of the first."""


def _nothing() -> None:
    """What there is to close of a snapshot that owns nothing."""


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
    """A guest at one moment. Of a running machine it is valid only while the vCPUs stay stopped.

    One that was opened from a file holds a map of it: a context manager, or `close()`.
    """

    vcpus: tuple[Vcpu, ...]
    memory: PhysicalMemory
    origin: str
    """Where it comes from, for messages: a cell's id, a file's name."""
    notes: tuple[str, ...] = ()
    """What was not known and what was taken instead, in words."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What made it: kernel, QEMU, command line, by name."""
    on_close: Callable[[], None] = field(default=_nothing, repr=False)
    """Releases what the snapshot owns; a running machine's memory is not its own."""

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file that it was opened from, if any; safe to call again."""
        self.on_close()

    def read(self, pa: int, size_bytes: int) -> bytes:
        """The bytes at a physical address; raises ChannelError when any of them is not in the snapshot."""
        return self.memory.read(pa, size_bytes)

    def tables(self) -> TableSource:
        """For `harness.bulk`: the memory without a copy where it is in one piece, else by `read`."""
        if isinstance(self.memory, ContiguousMemory) and self.memory.contiguous is not None:
            base_pa, buffer = self.memory.contiguous
            return Ram(buffer, base_pa)
        return Reads(self.memory.read)

    @property
    def first_tables(self) -> frozenset[int]:
        """Physical addresses of the first tables that vCPUs have for the kernel half, be it a trampoline."""
        found: set[int] = set()
        for vcpu in self.vcpus:
            with contextlib.suppress(ValueError):
                upper = getattr(vcpu.regimes(), "upper", None)
                found |= {upper.table_pa} if isinstance(upper, Regime) else set()
        return frozenset(found)

    @property
    def ram(self) -> tuple[range, ...]:
        """The physical addresses that `read` answers for, in order."""
        return self.memory.ranges
