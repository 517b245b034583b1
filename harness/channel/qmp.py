"""QEMU's monitor, spoken over one end of a socket pair. The only file that imports qemu.qmp.

qemu.qmp is asynchronous; its event loop stays in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded

__all__ = ["Qmp", "QmpCommandError"]

T = TypeVar("T")


class QmpCommandError(ChannelError):
    """QEMU refused a command; `str()` is what it said."""


class Qmp:
    """One monitor connection, for use from one thread at a time. Close it when done."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        """Negotiate; raises ChannelError when QEMU hangs up and DeadlineExceeded when it stays silent."""
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("granule")
        self._listener = EventListener()
        self._client.register_listener(self._listener)
        sock.setblocking(False)
        try:
            self._wait(self._client.connect(sock), deadline, "QEMU's monitor")
        except AssertionError as error:
            # qemu.qmp asserts that the session is up, which it is not where QEMU ended a moment ago.
            self._loop.close()
            raise ChannelError("QEMU's monitor: the connection broke") from error
        except ChannelError:
            self._loop.close()
            raise

    def execute(self, command: str, deadline: Deadline, **arguments: object) -> Any:
        """Send a command and return its result; raises QmpCommandError when QEMU refuses it."""
        spelled = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return self._wait(self._client.execute(command, spelled or None), deadline, f"QMP {command}")
        except ExecuteError as error:
            raise QmpCommandError(f"QEMU refused {command}: {error}") from error

    def execute_all(
        self, command: str, arguments: Sequence[dict[str, object]], deadline: Deadline
    ) -> list[Any]:
        """Send a command once for each set of arguments without waiting in between; results in that order.

        QEMU answers one after another; it is the waiting that this saves. Errors as for `execute`.
        """

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*(self._client.execute(command, each) for each in arguments))

        try:
            return self._wait(all_of_them(), deadline, f"QMP {command}")
        except ExecuteError as error:
            raise QmpCommandError(f"QEMU refused {command}: {error}") from error

    def send_descriptor(self, name: str, descriptor: int, deadline: Deadline) -> None:
        """Give QEMU a copy of a file descriptor, for later commands to name as `fd:NAME`."""

        async def send() -> None:
            self._client.send_fd_scm(descriptor)

        self._wait(send(), deadline, "QEMU's monitor")
        self.execute("getfd", deadline, fdname=name)

    def wait_event(self, name: str, deadline: Deadline) -> dict[str, Any] | None:
        """The data of the next event of that name, or None when none comes in time; others are dropped."""

        async def next_one() -> dict[str, Any]:
            while True:
                event: dict[str, Any] = dict(await self._listener.get())
                if event["event"] == name:
                    return event.get("data") or {}

        try:
            return self._wait(next_one(), deadline, f"event {name}")
        except DeadlineExceeded:
            return None

    def close(self) -> None:
        """Hang up; safe to call when QEMU has ended already."""
        if self._loop.is_closed():
            return
        # QEMU may have ended first: then there is nobody to say goodbye to.
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError):
            self._loop.run_until_complete(asyncio.wait_for(self._client.disconnect(), 5))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _wait(self, awaitable: Coroutine[Any, Any, T], deadline: Deadline, what: str) -> T:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(awaitable, max(deadline.left_s(), 0.001)))
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer in time from {what}") from error
        except ExecuteError:
            raise
        except (QMPError, OSError, EOFError) as error:
            raise ChannelError(f"{what}: the connection broke ({error or type(error).__name__})") from error
