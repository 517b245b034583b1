"""A live guest as the checks see it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.channel.shell import Completed
from harness.deadline import Deadline
from harness.kernels.kernel import Kernel
from harness.linux.kconfig import Kconfig
from harness.linux.tap import TapResult, parse_tap
from harness.qemu.machine import Machine
from harness.spec import PageSize

__all__ = ["Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The guest under test: its machine, its kernel, and the page size it was asked for."""

    machine: Machine
    kernel: Kernel
    config: Kconfig | None
    """The kernel's configuration, where it is known."""
    page_size: PageSize
    command_s: float
    """Seconds that one command may take; scaled to the accelerator and the CPU model."""

    def sh(self, script: str) -> Completed:
        """Run a script in the guest."""
        return self.machine.shell.run(script, Deadline.after(self.command_s))

    def probe(self, *words: str) -> tuple[TapResult, int]:
        """Run a probe program in the guest; its points and its exit status."""
        done = self.sh(" ".join(("probe", *words)))
        return parse_tap(done.output), done.status

    def option(self, name: str) -> str | None:
        """A Kconfig option of the kernel without CONFIG_: `y`, `m`, a value, or None when off or unknown."""
        return self.config.get(name) if self.config is not None else None

    def can_load(self, module: str) -> bool:
        """True when the guest can have this module: built in, or in its initramfs."""
        return self.sh(f"modprobe {module} 2>/dev/null || grep -q '/{module}.ko' "
                       "/lib/modules/$(uname -r)/modules.builtin 2>/dev/null").ok  # fmt: skip
