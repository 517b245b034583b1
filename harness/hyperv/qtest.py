"""QEMU's qtest line, beside any accelerator: how the host touches devices and interrupt lines.

Source: QEMU system/qtest.c (softmmu/qtest.c before 8.2). Commands are answered in order; what only pushes is
not waited for, its answers are read later.
"""

from __future__ import annotations

import socket

from harness.deadline import Deadline
from harness.errors import ChannelError

__all__ = ["LineClosed", "Qtest"]

_SEND_S = 10.0
_RECEIVE_BYTES = 1 << 16


class LineClosed(ChannelError):
    """QEMU has ended: nothing that this line could explain."""


class Qtest:
    """One line; closes nothing. Raises LineClosed when QEMU ends, ChannelError when it refuses a command."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.settimeout(_SEND_S)
        self._rest = b""
        self._unanswered = 0

    def fileno(self) -> int:
        """For selecting."""
        return self._socket.fileno()

    def push(self, *commands: str) -> None:
        """Send commands whose answers say nothing."""
        self._unanswered += len(commands)
        try:
            self._socket.sendall("".join(f"{command}\n" for command in commands).encode())
        except OSError as error:
            raise LineClosed(f"QEMU takes no more commands on its qtest line: {error}") from error

    def drain(self) -> None:
        """Read the answers that are there; call it when the line is readable."""
        for line in self._receive():
            self._accept(line)

    def ask(self, command: str, deadline: Deadline) -> int:
        """Send a command and return the number in its answer."""
        while self._unanswered:
            self._wait(deadline)
            self.drain()
        self.push(command)
        lines: list[str] = []
        while not lines:
            self._wait(deadline)
            lines = self._receive()
        self._accept(lines[0])
        return int(lines[0].split()[1], 16) if " " in lines[0] else 0

    def _wait(self, deadline: Deadline) -> None:
        self._socket.settimeout(max(deadline.left_s(), 0.001))
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            raise ChannelError("QEMU does not answer on its qtest line") from None
        except OSError as error:
            raise LineClosed(f"QEMU's qtest line broke: {error}") from error
        finally:
            self._socket.settimeout(_SEND_S)

    def _receive(self) -> list[str]:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise LineClosed(f"QEMU's qtest line broke: {error}") from error
        if not data:
            raise LineClosed("QEMU closed its qtest line")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _accept(self, line: str) -> None:
        self._unanswered -= 1
        if not line.startswith("OK"):
            raise ChannelError(f"QEMU answered on its qtest line: {line[:200]}")
