"""The way into one machine by SSH, opened when it is first wanted, and closed with the machine."""

from __future__ import annotations

import socket
import threading

from harness.channel.ssh import Ssh
from harness.channel.ssh_key import HostKey, KeyPair, Login
from harness.deadline import Deadline
from harness.errors import ChannelError, UsageError
from harness.linux.klog import harmless
from harness.login.server import SshServer
from harness.qemu.forward import Forward, open_forward
from harness.qemu.machine import Machine

__all__ = ["SshAccess"]

LAST_WORDS_BYTES, LAST_WORDS_LINES = 2048, 10


class SshAccess:
    """Keys, port and connection of one machine; nothing of it is there before somebody asks."""

    def __init__(self, machine: Machine, server: SshServer) -> None:
        self._machine = machine
        self._server = server
        self._guard = threading.Lock()
        self._there: tuple[Forward, Login] | None = None
        self._shared: Ssh | None = None

    def place(self, deadline: Deadline) -> tuple[Forward, Login]:
        """The port of the host that leads to the guest's sshd, and what it takes to log in there.

        Starts the server the first time. Raises UsageError for a machine without a network, and ChannelError.
        """
        with self._guard:
            return self._place(deadline)

    def get(self, deadline: Deadline) -> Ssh:
        """The machine's connection, made anew if it has been closed or has broken. It ends with the machine.

        Raises as `connect` does.
        """
        with self._guard:
            if self._shared is None or not self._shared.is_open:
                forward, login = self._place(deadline)
                self._shared = self._connect(forward, login, deadline)
                self._machine.when_closed(self._shared.close)
            return self._shared

    def connect(self, deadline: Deadline, *, host_key: HostKey | None = None) -> Ssh:
        """A connection of the caller's own, who closes it; `host_key` in place of what the guest said.

        Raises WrongHostKey, ChannelError when it cannot be had, UsageError for a machine without a network.
        """
        forward, login = self.place(deadline)
        if host_key is not None:
            login = Login(user=login.user, key=login.key, host_key=host_key)
        return self._connect(forward, login, deadline)

    def _place(self, deadline: Deadline) -> tuple[Forward, Login]:
        if self._machine.spec.wire is None:
            raise UsageError("this guest cannot be reached by SSH: its machine has no network")
        if self._there is None:
            key = KeyPair.generate()
            host_key = self._server.start(self._machine.shell, key.public, deadline)
            forward = open_forward(self._machine.qmp, self._server.port, deadline)
            self._there = forward, Login(user=self._server.user, key=key, host_key=host_key)
        return self._there

    def _connect(self, forward: Forward, login: Login, deadline: Deadline) -> Ssh:
        machine = self._machine
        machine.raise_if_gone()
        try:
            sock = socket.create_connection((forward.host, forward.host_port), max(deadline.left_s(), 0.001))
        except OSError as error:
            machine.raise_if_gone()
            raise ChannelError(f"QEMU does not listen on port {forward.host_port}: {error}") from error
        return Ssh(
            sock,
            login,
            deadline,
            raise_if_gone=machine.raise_if_gone,
            last_words=self._last_words,
        )

    def _last_words(self) -> str:
        said = harmless(self._machine.transcript.tail(LAST_WORDS_BYTES))
        return "\n".join(said.splitlines()[-LAST_WORDS_LINES:])
