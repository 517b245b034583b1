"""What the user's own `ssh` needs to log in: key and host key as files in memory, gone when we are."""

from __future__ import annotations

import contextlib
import os
import shlex
from types import TracebackType

from harness.channel.ssh_key import Login
from harness.qemu.forward import Forward

__all__ = ["ClientFiles"]


class ClientFiles:
    """A private key and a known_hosts file that ssh(1) of the same user can read; a context manager.

    They are files in memory under this process's /proc, so that nothing is left behind, however it ends.
    """

    def __init__(self, forward: Forward, login: Login) -> None:
        self._forward = forward
        self._user = login.user
        self._cleanup = contextlib.ExitStack()
        known = f"[{forward.host}]:{forward.host_port} {login.host_key}\n"
        self.key = self._file("granule-key", login.key.private)
        """Path of the private key, readable by its owner only, without which ssh refuses it."""
        self.known_hosts = self._file("granule-known-hosts", known)
        """Path of the file in which the guest's host key is the only one."""

    def _file(self, name: str, content: str) -> str:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        self._cleanup.callback(os.close, descriptor)
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content.encode())
        return f"/proc/{os.getpid()}/fd/{descriptor}"

    def __enter__(self) -> ClientFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the files away."""
        self._cleanup.close()

    @property
    def command(self) -> str:
        """The line to paste into a shell; options for scp(1) and sftp(1) are the same but for `-P PORT`."""
        words = ("ssh", "-p", str(self._forward.host_port), "-i", self.key, "-o", "IdentitiesOnly=yes")
        options = (f"UserKnownHostsFile={self.known_hosts}", "StrictHostKeyChecking=yes")
        pinned = tuple(word for option in options for word in ("-o", option))
        return shlex.join((*words, *pinned, f"{self._user}@{self._forward.host}"))
