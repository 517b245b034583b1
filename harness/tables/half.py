"""Which tables of a snapshot are meant: a half of the address space, as a vCPU sees it.

May import `harness.snapshot`, `harness.vmsa` and `harness.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from harness.errors import UsageError
from harness.snapshot import Snapshot, is_trampoline, kernel_regime
from harness.vmsa import AddressFormat, Fault, Regime, Registers, StageOff, VaRange, derive

__all__ = ["Half", "Unknown", "View", "view_of"]


class Half(Enum):
    """The halves of an address space; the value is how people say it."""

    KERNEL = "kernel"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A range of which the registers do not tell what rules it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A snapshot as one vCPU sees it, its tables not yet read."""

    snapshot: Snapshot
    vcpu: int
    lower: Regime | Fault | Unknown
    upper: Regime | Fault | Unknown
    instead: Mapping[Half, str] = field(default_factory=dict)
    """Why the first table of a half is not the one that the vCPU's TTBR holds, in words."""

    @property
    def registers(self) -> Mapping[str, int]:
        """The vCPU's, by name."""
        return self.snapshot.vcpus[self.vcpu].registers

    def of(self, va: int) -> Regime | Fault:
        """What an address meets; raises UsageError where the registers do not tell."""
        return self._known(Half.USER if VaRange.of(va) is VaRange.LOWER else Half.KERNEL)

    def regime(self, half: Half) -> Regime:
        """What rules a half; raises UsageError where it has no tables."""
        found = self._known(half)
        if isinstance(found, Fault):
            raise UsageError(
                f"{self.snapshot.origin}: the {half.value} half has no tables: every address of it meets a "
                f"{found.kind.value} ({found.reason})"
            )
        return found

    def listed(self, half: Half) -> Regime:
        """The same for what reads a half whole, which `harness.bulk` does not do for every format."""
        regime = self.regime(half)
        if regime.address_format is AddressFormat.D128:
            raise UsageError(
                f"{self.snapshot.origin}: its descriptors have 128 bits (FEAT_D128): they are explained "
                "address by address (walk), and not listed"
            )
        return regime

    def _known(self, half: Half) -> Regime | Fault:
        found = self.upper if half is Half.KERNEL else self.lower
        if isinstance(found, Unknown):
            raise UsageError(
                f"{self.snapshot.origin}: the registers of vCPU {self.vcpu} do not lead to tables of the "
                f"{half.value} half: {found.reason}"
            )
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not known, assumed, or may mislead, in words."""
        said = list(self.snapshot.notes)
        for one in (self.upper, self.lower):
            said += one.notes if isinstance(one, Regime) else ()
        return tuple(dict.fromkeys(said))


def view_of(
    snapshot: Snapshot, *, vcpu: int | None = None, table_pa: int | None = None, half: Half | None = None
) -> View:
    """A vCPU's view; with `table_pa` the first table of `half` (the kernel's unless given) is that one.

    Without `vcpu` it is the first one's, and the kernel's tables are found where they are, should that vCPU
    not have them. Raises UsageError for a vCPU that is not there, registers that make no sense, and an
    address that cannot hold a first table.
    """
    origin = snapshot.origin
    number = vcpu or 0
    if not 0 <= number < len(snapshot.vcpus):
        there = f"0 to {len(snapshot.vcpus) - 1}" if snapshot.vcpus else "none"
        raise UsageError(f"{origin}: there is no vCPU {number}; there are: {there}")
    try:
        registers = Registers.from_names(snapshot.vcpus[number].registers)
    except ValueError as error:
        raise UsageError(f"{origin}: vCPU {number}: {error}") from error
    lower, upper = (_derived(registers, one) for one in VaRange)
    view = View(snapshot=snapshot, vcpu=number, lower=lower, upper=upper)
    if table_pa is not None:
        return _at_table(view, half or Half.KERNEL, table_pa)
    if vcpu is None and (not isinstance(upper, Regime) or is_trampoline(upper, snapshot)):
        return _elsewhere(view)
    return view


def _elsewhere(view: View) -> View:
    """The view with the kernel's tables where the snapshot has them, if it has them."""
    try:
        found = kernel_regime(view.snapshot)
    except UsageError:
        # What the vCPU itself has says more.
        return view
    why = f"not the one that vCPU {view.vcpu} has in TTBR1"
    return replace(view, upper=found, instead={Half.KERNEL: why})


def _at_table(view: View, half: Half, table_pa: int) -> View:
    try:
        moved = view.regime(half).at_table(table_pa)
    except ValueError as error:
        raise UsageError(f"{view.snapshot.origin}: --table {table_pa:#x}: {error}") from error
    instead = {half: "as was asked for"}
    if half is Half.KERNEL:
        return replace(view, upper=moved, instead=instead)
    return replace(view, lower=moved, instead=instead)


def _derived(registers: Registers, va_range: VaRange) -> Regime | Fault | Unknown:
    try:
        found = derive(registers, va_range)
    except ValueError as error:
        return Unknown(reason=str(error))
    if isinstance(found, StageOff):
        return Unknown(
            reason=f"stage 1 translation is off ({found.name.value}), addresses are physical, and there are "
            "no tables to look at"
        )
    return found
