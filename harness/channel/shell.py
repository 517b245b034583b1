"""A shell in the micro guest: commands framed by our own agent, over a line of its own.

The agent (`guests/programs/agent.c`) answers each request with the command's output as it was written,
then a line `granule:NONCE STATUS`. The nonce is new for every request and never sent in clear inside a
script, so neither an echo nor a command's own output can be taken for the end.

The only file that imports pexpect.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pexpect
import pexpect.socket_pexpect

from harness.channel.command import Completed, short
from harness.deadline import Deadline
from harness.errors import ChannelError, CommandTimeout, DeadlineExceeded, GuestGone, GuestStayed

__all__ = ["Completed", "Shell", "put_request", "raise_if_not_put"]

# How often a waiting command looks whether the guest is still there.
LOOK_S = 0.2
READY = b"granule: ready\n"
INTERRUPT_S = 5.0
SMALL_BYTES = 1 << 16
# What the kernel's input pool holds: a BLAKE2s state (drivers/char/random.c).
SEED_BYTES = 32
# Longer than any mark with the status that follows it.
MARK_ROOM_BYTES = 128
# Output beyond what is kept is cut in steps of this.
FLOOD_BYTES = 1 << 20


class _Line(pexpect.socket_pexpect.SocketSpawn):  # type: ignore[misc]
    """pexpect on our socket, with three habits of its own.

    It asks after the guest while it waits; it keeps to a deadline value, however much comes in; and of a
    flood it keeps the first `keep_bytes` and then only as much as a mark may be split over.
    """

    def __init__(self, sock: socket.socket, raise_if_gone: Callable[[], None]) -> None:
        super().__init__(sock, timeout=None, maxread=1 << 16)
        self._raise_if_gone = raise_if_gone
        self._looked_s = 0.0
        self.begin(Deadline.after(0), 0)

    def begin(self, deadline: Deadline, keep_bytes: int) -> None:
        """Start to wait for a mark."""
        self.deadline = deadline
        self.keep_bytes = keep_bytes
        self.kept: bytes | None = None
        """The beginning of a flood, once it has been cut."""

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:
        """The next piece; raises pexpect.TIMEOUT at the deadline, GuestGone or pexpect.EOF at an end."""
        self._cut_flood()
        while True:
            if self.deadline.expired():
                raise pexpect.TIMEOUT("deadline")
            if time.monotonic() - self._looked_s > LOOK_S:
                self._raise_if_gone()
                self._looked_s = time.monotonic()
            self.socket.settimeout(min(LOOK_S, max(self.deadline.left_s(), 0.001)))
            try:
                data = bytes(self.socket.recv(size))
            except TimeoutError:
                continue
            except OSError:
                data = b""
            if not data:
                self.flag_eof = True
                raise pexpect.EOF("closed")
            return data

    def _cut_flood(self) -> None:
        # pexpect holds all that came before the mark, twice: `_before` for its caller, `_buffer` to search.
        if self._before.tell() <= self.keep_bytes + FLOOD_BYTES:
            return
        held = self._before.getvalue()
        if self.kept is None:
            self.kept = held[: self.keep_bytes]
        for name in ("_before", "_buffer"):
            stream = self.buffer_type()
            stream.write(held[-MARK_ROOM_BYTES:])
            setattr(self, name, stream)


class Shell:
    """One command at a time in a guest.

    `raise_if_gone` is asked while waiting; it raises GuestGone when the guest is beyond answering.
    """

    def __init__(self, sock: socket.socket, raise_if_gone: Callable[[], None]) -> None:
        self._socket = sock
        self._raise_if_gone = raise_if_gone
        self._line = _Line(sock, raise_if_gone)
        self._greeted = False
        # What the agent says at the end of a request whose answer was not read to there.
        self._unread = b""
        # The end of the answer to what should have started another kernel.
        self._left = b""

    def wait_ready(self, deadline: Deadline) -> None:
        """Wait for the agent's greeting, unless it has come; raises DeadlineExceeded or GuestGone.

        After `leave` it is that of the next kernel's agent; raises GuestStayed if the script ended instead.
        """
        if self._greeted:
            return
        marks = [READY, self._left] if self._left else [READY]
        index, said, _ = self._await_any(marks, deadline, "the guest's shell", SMALL_BYTES)
        self._greeted = True
        if index:
            status, _ = self._await(b"\n", Deadline.after(INTERRUPT_S), "an exit status", SMALL_BYTES)
            raise GuestStayed(said.decode(errors="replace").strip(), status.decode(errors="replace"))

    def leave(self, script: str, deadline: Deadline) -> None:
        """Run a script that ends this kernel and starts another: nothing but `wait_ready` may follow.

        Raises DeadlineExceeded or GuestGone when the guest does not take it.
        """
        if self._unread and not self._interrupt(self._unread):
            raise ChannelError("the guest does not end what was broken off before its next kernel")
        nonce = secrets.token_hex(8).encode()
        self._left, self._greeted = b"\ngranule:" + nonce + b" ", False
        self._send(nonce + b" " + base64.b64encode(script.encode()) + b"\n", deadline, script)

    def keep_spare(self, deadline: Deadline) -> None:
        """Have a shell started for the next command: in a clone that command then needs no new process."""
        if not self._request(b"spare", b"", deadline, SMALL_BYTES, "a spare shell").ok:
            raise ChannelError("the guest could not start a spare shell")

    def renew(self, deadline: Deadline) -> None:
        """In a clone, whose agent greeted another host long ago: give it entropy and the time of its own.

        Raises ChannelError when the guest refuses them, DeadlineExceeded or GuestGone.
        """
        seed = base64.b64encode(secrets.token_bytes(SEED_BYTES))
        head = b"fresh %s %d %d" % (seed, *divmod(time.time_ns(), 10**9))
        done = self._request(head, b"", deadline, SMALL_BYTES, "fresh entropy and time")
        if not done.ok:
            raise ChannelError(f"the clone could not be given entropy and time: {done.text.strip()[:200]}")
        self._greeted = True

    def run(self, script: str, deadline: Deadline, *, keep_bytes: int = 1 << 20) -> Completed:
        """Run `script` with `sh -c` in the guest and return its output and exit status.

        Keeps the first `keep_bytes` of output. Raises CommandTimeout (after interrupting the command, so
        that the shell can be used again: see CommandTimeout) or GuestGone.
        """
        return self._request(base64.b64encode(script.encode()), b"", deadline, keep_bytes, script)

    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        """Copy a file of the host to the absolute path `target` in the guest, keeping its mode."""
        head, data = put_request(source, target)
        raise_if_not_put(self._request(head, data, deadline, SMALL_BYTES, f"put {target}"), target)

    def interactive(self, *, rows: int, columns: int) -> tuple[socket.socket, bytes]:
        """Turn the line into an interactive terminal of that size and hand it over; ends this shell.

        Returns the line, and what the agent says on it when the login shell there has ended.
        """
        nonce = secrets.token_hex(8).encode()
        self._socket.settimeout(None)
        self._socket.sendall(b"%s tty %d %d\n" % (nonce, rows, columns))
        return self._socket, b"\ngranule:" + nonce + b" "

    def _request(
        self, body: bytes, payload: bytes, deadline: Deadline, keep_bytes: int, what: str
    ) -> Completed:
        # Whoever broke off a command, by Ctrl-C say, left its answer on the line.
        if self._unread and not self._interrupt(self._unread):
            self._raise_if_gone()
            raise ChannelError(f"the guest does not end what was broken off before '{short(what)}'")
        nonce = secrets.token_hex(8).encode()
        self._unread = end = b"\ngranule:" + nonce + b" "
        self._send(nonce + b" " + body + b"\n" + payload, deadline, what)
        try:
            output, truncated = self._await(end, deadline, what, keep_bytes)
        except DeadlineExceeded as error:
            raise CommandTimeout(str(error), guest_answers=self._interrupt(end)) from None
        status, _ = self._await(b"\n", Deadline.after(INTERRUPT_S), "an exit status", SMALL_BYTES)
        self._unread = b""
        if not re.fullmatch(rb"\d{1,3}", status):
            raise ChannelError(f"the guest's agent ended '{short(what)}' with {status[:40]!r} for a status")
        return Completed(output=output, status=int(status), truncated=truncated)

    def _send(self, data: bytes, deadline: Deadline, what: str) -> None:
        view = memoryview(data)
        while view:
            self._socket.settimeout(LOOK_S)
            try:
                view = view[self._socket.send(view) :]
            except TimeoutError:
                self._raise_if_gone()
                if deadline.expired():
                    raise DeadlineExceeded(f"the guest took no more input for '{short(what)}'") from None
            except OSError as error:
                self._raise_ended(what, error)

    def _await(self, mark: bytes, deadline: Deadline, what: str, keep_bytes: int) -> tuple[bytes, bool]:
        """The bytes before `mark`, `keep_bytes` of them at most, and whether there were more."""
        return self._await_any([mark], deadline, what, keep_bytes)[1:]

    def _await_any(
        self, marks: list[bytes], deadline: Deadline, what: str, keep_bytes: int
    ) -> tuple[int, bytes, bool]:
        """Which of the marks came, the bytes before it, `keep_bytes` at most, and whether there were more."""
        line = self._line
        line.begin(deadline, keep_bytes)
        try:
            # A window to search keeps pexpect from looking through all output again with every piece.
            index: int = line.expect_exact(marks, searchwindowsize=max(map(len, marks)) + MARK_ROOM_BYTES)
        except pexpect.TIMEOUT:
            last = bytes(line.before or b"")[-200:]
            raise DeadlineExceeded(f"no answer in time to '{short(what)}'; last output: {last!r}") from None
        except pexpect.EOF as error:
            self._raise_ended(what, error)
        got: bytes = line.before if line.kept is None else line.kept
        return index, got[:keep_bytes], line.kept is not None or len(got) > keep_bytes

    def _raise_ended(self, what: str, error: Exception) -> NoReturn:
        """Raise GuestGone, with the machine's own reason if it has one."""
        # The line closes a moment before QEMU can be reaped and tell why.
        with contextlib.suppress(DeadlineExceeded):
            Deadline.after(1).wait_until(lambda: self._raise_if_gone() is not None, "QEMU's end")
        raise GuestGone(f"the guest closed its shell line during '{short(what)}'") from error

    def _interrupt(self, end: bytes) -> bool:
        """Have the agent kill the command, and read up to its closing line; says whether it came."""
        try:
            self._socket.send(b"\x03")
            self._await(end, Deadline.after(INTERRUPT_S), "an interrupt", SMALL_BYTES)
            self._await(b"\n", Deadline.after(INTERRUPT_S), "an interrupt", SMALL_BYTES)
        except (OSError, ChannelError):
            return False
        self._unread = b""
        return True


def put_request(source: Path, target: str) -> tuple[bytes, bytes]:
    """What asks the agent to write a file of the host's: the request's words, and the file that follows."""
    data = source.read_bytes()
    mode = format(source.stat().st_mode & 0o777, "o")
    return b"put %s %s %d" % (base64.b64encode(target.encode()), mode.encode(), len(data)), data


def raise_if_not_put(done: Completed, target: str) -> None:
    """Raise ChannelError, with the agent's reason, when it could not write the file."""
    if not done.ok:
        raise ChannelError(f"could not write {target} in the guest: {done.text.strip()}")
