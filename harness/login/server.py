"""How sshd comes up in a guest, asked by its serial shell, which is also where its host key is heard of."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.channel.command import CommandShell
from harness.channel.ssh_key import HostKey
from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.paths import data_dir

__all__ = ["Dropbear", "OpenSsh", "SshServer"]


class SshServer(Protocol):
    """The sshd of one kind of guest."""

    @property
    def user(self) -> str:
        """Whom the key is put there for."""

    @property
    def port(self) -> int:
        """Where it listens in the guest."""

    def start(self, shell: CommandShell, public_key: str, deadline: Deadline) -> HostKey:
        """Have it running and let `public_key` in; its host key, as the guest says on its serial line.

        Raises ChannelError with the guest's reason when it cannot be started, CommandTimeout, GuestGone.
        """


class Dropbear:
    """The micro guest's, which it is given only now: `archive` gets what `harness.build.sshd` made."""

    user = "root"
    port = 22

    def __init__(self, archive: Callable[[], Path]) -> None:
        self._archive = archive

    def start(self, shell: CommandShell, public_key: str, deadline: Deadline) -> HostKey:
        """See SshServer; also raises what `archive` does: InfraError when it cannot be had."""
        shell.put(self._archive(), "/run/granule-sshd.tar", deadline)
        return _started("micro", shell, public_key, deadline)


class OpenSsh:
    """A distribution's own, which is installed there and waits to be started."""

    user = "root"
    port = 22

    def start(self, shell: CommandShell, public_key: str, deadline: Deadline) -> HostKey:
        """See SshServer."""
        return _started("disk", shell, public_key, deadline)


def _started(guest: str, shell: CommandShell, public_key: str, deadline: Deadline) -> HostKey:
    """Run a guest's script for it; the host key that it says last."""
    script = (data_dir("guests") / guest / "sshd.sh").read_text()
    done = shell.run(f"set -- {shlex.quote(public_key)}\n{script}", deadline, keep_bytes=1 << 16)
    if not done.ok:
        raise ChannelError(f"the guest could not start an SSH server: {done.text.strip()[-300:]}")
    return HostKey.parse((done.text.splitlines() or [""])[-1])
