"""How long to wait for a guest: longer where instructions are translated, and for costlier CPU models."""

from __future__ import annotations

from dataclasses import dataclass

from harness.spec import Accel

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
    def of(cls, accel: Accel, cpu: str, cell_s: float | None = None) -> Patience:
        """The default for an accelerator and CPU model; `cell_s` from the user replaces the cell's limit.

        The figures are some twenty times what an idle two-core machine needs under TCG (a Debian kernel
        boots in 3 to 6 s): continuous integration shares its cores.
        """
        factor = 1.0 if accel.is_emulation else 0.25
        if accel.is_emulation and cpu.startswith("max"):
            factor = 2.0
        limit_s = cell_s if cell_s is not None else 400 * factor
        return cls(
            cell_s=limit_s,
            boot_s=min(120 * factor, limit_s),
            command_s=min(90 * factor, limit_s),
            silence_s=min(30 * factor, limit_s / 2),
        )
