"""A live guest as the checks see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from harness.channel.command import Completed
from harness.channel.ssh import Ssh
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels.kernel import Kernel
from harness.linux.kconfig import Kconfig
from harness.linux.tap import TapResult, parse_tap
from harness.login import SshAccess
from harness.qemu.machine import Machine
from harness.smoke.evidence import Evidence
from harness.spec import PageSize

__all__ = ["Presence", "Subject"]


class Presence(Enum):
    """Where a driver is."""

    BUILT_IN = "built in"
    MODULE = "a module"
    NOT_GIVEN = "a module that the guest lacks"
    ABSENT = "absent"
    UNKNOWN = "unknown"

    @property
    def may_be_used(self) -> bool:
        """True unless it is known not to be there."""
        return self in (Presence.BUILT_IN, Presence.MODULE, Presence.UNKNOWN)


def _unheard(_script: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The guest under test: its machine, its kernel, and the page size it was asked for."""

    machine: Machine
    kernel: Kernel
    config: Kconfig | None
    """The kernel's configuration, where it is known."""
    page_size: PageSize
    boot_time: bool = False
    """It takes its page size from the command line, whatever its Image header says."""
    deadline: Deadline
    """When the whole cell has to be done."""
    command_s: float
    """Seconds that one command may take; scaled to the accelerator and the CPU model."""
    access: SshAccess | None = None
    """How it is reached by SSH, where it can be."""
    heard: Callable[[str], None] = _unheard
    """Told of each script that is run in the guest."""

    def sh(self, script: str) -> Completed:
        """Run a script in the guest."""
        self.heard(script)
        return self.machine.shell.run(script, self.deadline.sooner(self.command_s))

    @property
    def way_in(self) -> SshAccess:
        """The way in by SSH; raises UsageError where there is none."""
        if self.access is None:
            raise UsageError("nobody said how this guest is reached by SSH: it has its serial shell only")
        return self.access

    @property
    def ssh(self) -> Ssh:
        """A connection by SSH: `run`, `put`, `get`, `stream`. It is opened when first asked for.

        Raises ChannelError when it cannot be had, UsageError without a network, InfraError when the server
        for the guest cannot be fetched.
        """
        return self.way_in.get(self.deadline.sooner(self.command_s))

    def probe(self, *words: str) -> tuple[TapResult, int]:
        """Run a probe program in the guest; its points and its exit status."""
        done = self.sh(" ".join(("probe", *words)))
        return parse_tap(done.output), done.status

    def option(self, name: str) -> str | None:
        """A Kconfig option of the kernel without CONFIG_: `y`, `m`, a value, or None when off or unknown.

        Off is what `.config` does not mention, and what it says is not set.
        """
        value = self.config.get(name) if self.config is not None else None
        return None if value == "n" else value

    def presence(self, option: str, module: str) -> Presence:
        """Where a driver is: by the kernel's configuration if that is known, else by what the guest finds."""
        in_guest = f"find /lib/modules -name '{module.replace('_', '[-_]')}.ko*' 2>/dev/null | grep -q ."
        if self.config is not None:
            known = {"y": Presence.BUILT_IN, "m": Presence.MODULE}.get(self.option(option) or "")
            if known is Presence.MODULE and not self.sh(in_guest).ok:
                return Presence.NOT_GIVEN
            return known or Presence.ABSENT
        if self.sh(in_guest).ok:
            return Presence.MODULE
        return Presence.UNKNOWN

    def has_driver(self, evidence: Evidence, option: str, module: str) -> bool:
        """True when a driver is to be used; it has been loaded then, if it is a module.

        A kernel without it is a reason to skip. A module that is there and does not load is a finding: a
        driver that is wrong at one page size shows itself so. One of which nothing is known is tried.
        """
        where = self.presence(option, module)
        if where is Presence.ABSENT:
            evidence.not_here(f"the kernel was built without CONFIG_{option}")
        elif where is Presence.NOT_GIVEN:
            evidence.not_here(
                f"{module} is a module of this kernel, and its modules were not given (--modules)"
            )
        elif where is Presence.MODULE:
            done = self.sh(f"modprobe {module}")
            seen = done.text.strip()[-200:] or f"status {done.status}"
            return evidence.holds(f"module {module}", done.ok, wanted="loaded", seen=seen)
        return where.may_be_used
