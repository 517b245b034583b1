"""What was measured of some kernels and their guests, and what each is held against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from harness.kernels.size import KernelSize
from harness.linux.meminfo import GuestMemory
from harness.spec import PageSize

__all__ = ["Comparison", "Parts", "SizedGuest", "percent"]


class Parts(Enum):
    """By what the parts of all kernels are told; kinds are never mixed, as they count differently."""

    SECTIONS = "sections"
    SYMBOLS = "symbols"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedGuest:
    """A booted guest's memory."""

    kernel: str
    """The label of its kernel."""
    page_size: PageSize
    memory: GuestMemory

    @property
    def label(self) -> str:
        """The kernel's label, with the page size where that does not say it."""
        token = self.page_size.token
        return self.kernel if self.kernel.endswith(f"-{token}") else f"{self.kernel} {self.page_size.label}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that a report shows; `base` is the label of one of the kernels."""

    kernels: tuple[KernelSize, ...]
    base: str
    guests: tuple[SizedGuest, ...] = ()
    without_guest: tuple[str, ...] = ()
    """Why there is no guest of some kernel and page size, a line for each."""

    @property
    def base_kernel(self) -> KernelSize:
        """The kernel that sizes are held against."""
        return next(one for one in self.kernels if one.label == self.base)

    @property
    def parts(self) -> Parts:
        """Sections where every kernel that has parts has a vmlinux; else symbols, for all of them."""
        known = [one for one in self.kernels if not one.unknown]
        if not known:
            return Parts.NONE
        return Parts.SECTIONS if all(one.sections for one in known) else Parts.SYMBOLS

    def against(self, guest: SizedGuest) -> SizedGuest | None:
        """The guest that this one is held against: one of its page size, which matters most, if there is any.

        The base's, or else that of the kernel named first, which itself is held against the base's first.
        """
        same = [one for one in self.guests if one.page_size is guest.page_size]
        based = [one for one in same if one.kernel == self.base]
        first = (based or same)[0]
        if first is not guest:
            return first
        if guest.kernel == self.base:
            return None
        return next((one for one in self.guests if one.kernel == self.base), None)


def percent(value: int, base: int) -> float | None:
    """How much larger a value is, in percent of the base; None where the base is nothing."""
    return None if base == 0 else 100 * (value - base) / base
