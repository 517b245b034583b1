"""What every shell in a guest offers, whatever carries it: commands run to their end, and files put there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.deadline import Deadline

__all__ = ["CommandShell", "Completed", "short"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a command in the guest printed (stdout and stderr in order) and its exit status."""

    output: bytes
    status: int
    truncated: bool = False
    """True when it printed more than was asked to be kept; `output` is then its beginning."""

    @property
    def text(self) -> str:
        """The output decoded, with what is not UTF-8 replaced."""
        return self.output.decode(errors="replace")

    @property
    def ok(self) -> bool:
        """True for exit status 0."""
        return self.status == 0


class CommandShell(Protocol):
    """The serial shell (`Shell`, `ExactShell`) and the one by network (`Ssh`), for whoever needs either."""

    def run(self, script: str, deadline: Deadline, *, keep_bytes: int = 1 << 20) -> Completed:
        """Run `script` with `sh`, without input; keep the first `keep_bytes` of its output.

        Raises CommandTimeout, after interrupting the command; GuestGone; ChannelError.
        """

    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        """Copy a file of the host to the absolute path `target` in the guest, keeping its mode."""


def short(what: str) -> str:
    """A command as error messages name it."""
    return what if len(what) <= 60 else what[:57] + "..."
