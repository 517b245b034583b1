"""The errors granule raises, and the exit status each one ends a command with.

    GranuleError
    ├── UsageError            2  what was asked for cannot be
    └── InfraError            3  this machine, or our own set-up, is at fault
        ├── ToolMissing          a program is not installed
        ├── KernelUnavailable    a kernel is not here and could not be made
        ├── LaunchError          QEMU did not start
        └── ChannelError         a line to a guest broke
            ├── GuestGone            the guest ended while we talked to it
            ├── GuestStayed          it was to start another kernel and did not
            ├── QemuDied             QEMU itself crashed or was killed
            ├── WrongHostKey         who answers by SSH is not the guest
            └── DeadlineExceeded     it did not answer in time
                └── CommandTimeout       a command in a guest did not end in time

A guest's misbehaviour is a `Finding` and a cell's outcome is a `Verdict`; an exception means that we
failed. Each message says what happened, what was wanted, and what to do next.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ChannelError",
    "CommandTimeout",
    "DeadlineExceeded",
    "ExitStatus",
    "GranuleError",
    "GuestGone",
    "GuestStayed",
    "InfraError",
    "KernelUnavailable",
    "LaunchError",
    "QemuDied",
    "ToolMissing",
    "UsageError",
    "WrongHostKey",
]


class ExitStatus(IntEnum):
    """Exit status of every granule command."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    INFRA = 3
    INTERRUPTED = 130
    TERMINATED = 143


class GranuleError(Exception):
    """Base of all errors raised on purpose; `str()` of it is one paragraph for the user."""

    exit_status = ExitStatus.INFRA


class UsageError(GranuleError):
    """What was asked for cannot be: an unknown name, a contradiction, a file of the wrong kind."""

    exit_status = ExitStatus.USAGE


class InfraError(GranuleError):
    """Something on this machine is missing or failed; says nothing about the kernel under test."""


class ToolMissing(InfraError):
    """A program is not installed."""

    def __init__(self, tool: str, *, package: str) -> None:
        super().__init__(f"{tool} is not installed. Install it with: apt-get install {package}")
        self.tool = tool
        self.package = package


class KernelUnavailable(InfraError):
    """A kernel of the catalogue is not in the cache and could not be fetched or built."""


class LaunchError(InfraError):
    """QEMU ended before its monitor answered.

    Arguments: what was being done; `argv`, the command line; `exit_status` (negative: a signal);
    `stderr`, what QEMU printed.
    """

    def __init__(self, what: str, *, argv: tuple[str, ...], exit_status: int | None, stderr: str) -> None:
        said = stderr.strip() or "nothing on stderr"
        super().__init__(f"{what}: QEMU ended with status {exit_status} and said: {said}")
        self.argv = argv
        self.exit_status_of_qemu = exit_status
        self.stderr = stderr


class ChannelError(InfraError):
    """A line to a guest (console, shell, monitor, gdbstub) broke or spoke nonsense."""


class GuestGone(ChannelError):
    """The guest ended, panicked or rebooted while a command was running in it."""


class GuestStayed(ChannelError):
    """A guest was to start another kernel, and its own still answers; `said` is what the attempt printed."""

    def __init__(self, said: str, status: str) -> None:
        super().__init__(f"the guest stayed with its kernel: status {status}, and {said or 'not a word'}")
        self.said = said


class QemuDied(ChannelError):
    """QEMU crashed or was killed: that says nothing about the kernel under test."""


class WrongHostKey(ChannelError):
    """Who answered by SSH has another host key than the one that the guest named: nothing was sent there."""


class DeadlineExceeded(ChannelError):
    """Something was awaited and did not come in time."""


class CommandTimeout(DeadlineExceeded):
    """A command in a guest did not end in time.

    `guest_answers`: the guest took the interrupt and is there for more, so that it is the command that
    takes long and not the guest that hangs.
    """

    def __init__(self, message: str, *, guest_answers: bool) -> None:
        super().__init__(message)
        self.guest_answers = guest_answers
