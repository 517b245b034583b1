"""How long to wait for a guest: longer where instructions are translated, and for costlier CPU models."""

from __future__ import annotations

from dataclasses import dataclass

from harness.spec import Accel, GuestKind

__all__ = ["Patience"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Time-outs of one cell, in seconds. They end a wait; nothing is judged by how much of them was used."""

    cell_s: float
    boot_s: float
    command_s: float
    silence_s: float
    """A console this quiet, while the guest owes us something, means a hang."""

    @classmethod
    def of(
        cls, accel: Accel, cpu: str, cell_s: float | None = None, guest: GuestKind = GuestKind.MICRO
    ) -> Patience:
        """The default for an accelerator and CPU model; `cell_s` from the user replaces the cell's limit.

        The figures are some twenty times what an idle two-core machine needs under TCG (a Debian kernel
        boots in 3 to 6 s): continuous integration shares its cores.
        """
        factor = 1.0 if accel.is_emulation else 0.25
        if accel.is_emulation and cpu.startswith("max"):
            factor = 2.0
        if guest.is_on_disk:
            # Services that start, and checks that make file systems and volumes.
            factor *= 6.0
        if cell_s is not None:
            # Whoever gives a time-out means that something takes long: the boot, or a command.
            return cls(cell_s=cell_s, boot_s=cell_s, command_s=cell_s, silence_s=min(30 * factor, cell_s / 2))
        return cls(cell_s=400 * factor, boot_s=120 * factor, command_s=90 * factor, silence_s=30 * factor)
