"""A command that runs in a guest by SSH: its input, its output as it comes, and its end.

May import harness.channel.command, harness.deadline, harness.errors.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Protocol, TypeVar

from harness.channel.command import Completed, short
from harness.deadline import Deadline
from harness.errors import ChannelError, CommandTimeout, DeadlineExceeded, GuestGone

__all__ = ["LOOK_S", "Connection", "Stream"]

T = TypeVar("T")

# How often whoever waits looks whether the guest is still there.
LOOK_S = 0.2
# An emulated guest has to start a shell for it, and to give the command its second of grace.
INTERRUPT_S = 15.0
CHUNK_BYTES = 1 << 15
# What a login shell's own start-up files may print before the command begins.
PREAMBLE_BYTES = 1 << 16
LINE_BYTES = 1 << 16
STATUS_BYTES = 16
SIGNALLED = 255

# OpenSSH's server makes a command the leader of a process group, dropbear's does not: one that is to be
# interrupted with all that it started has to be. setsid(1) keeps the process where it is not a leader yet.
LEADER = (
    'read -r _ _ _ _ granule_group _ </proc/$$/stat; [ "$granule_group" = $$ ] || exec setsid sh -c "$1" sh; '
    'unset granule_group; eval "$1"'
)
KILL = (
    "kill -INT -{pid}; n=0; while [ $n -lt {grace_ds} ] && kill -0 -{pid}; do sleep 0.1; n=$((n+1)); done; "
    "kill -KILL -{pid}; true"
)
# In tenths of a second, the serial agent's: see INTERRUPT_GRACE_MS in guests/programs/agent.c.
GRACE_DS = 10


class Connection(Protocol):
    """What a Stream needs of `harness.channel.ssh.Ssh`, which says what each does."""

    @property
    def is_open(self) -> bool:
        """False once it was closed or has broken."""

    def channel(self, command: str, deadline: Deadline, what: str) -> Any:
        """A paramiko Channel on which the command is being started."""

    def attended(
        self, call: Callable[[], T], deadline: Deadline, what: str, stop: threading.Event | None = None
    ) -> T:
        """The result of a call that may wait for the guest."""

    def look(self) -> None:
        """Raise GuestGone when the guest is beyond answering."""

    def raise_broken(self, what: str, cause: object) -> NoReturn:
        """Raise GuestGone or ChannelError, whichever fits a connection that broke."""


class Stream:
    """A running command; a context manager, which interrupts the command if it has not ended.

    Iterating gives its output in pieces as they come, 32 KiB at most, until it ends; then `status` is set.
    What a process that it left behind prints later is not its own. Raises CommandTimeout at the deadline (the
    command has been interrupted then), GuestGone, and ChannelError when the connection breaks.
    """

    def __init__(
        self,
        connection: Connection,
        body: str,
        what: str,
        deadline: Deadline,
        *,
        interrupts: bool = True,
    ) -> None:
        self._connection = connection
        self._what = what
        self._deadline = deadline
        self._interrupts = interrupts
        self._pid = 0
        self._held = b""
        self._ends_with = b""
        self._looked_s = 0.0
        self.status: int | None = None
        """The exit status, once the command has ended; 255 where a signal ended its shell."""
        # The end is told where the output is, and after it: an exit status goes by another way and may be
        # sooner, and the channel's end may be later, when a process that was left behind holds it.
        mark = f"granule:{secrets.token_hex(8)}"
        # Servers read the two outputs from two pipes: only within one is there an order.
        script = f"exec 2>&1; echo {mark}:start $$; ({body}); echo {mark}:end $?"
        words = ("exec", "sh", "-c", LEADER, "sh", script)
        try:
            self._channel = connection.channel(shlex.join(words), deadline, what)
        except DeadlineExceeded as error:
            raise CommandTimeout(str(error), guest_answers=False) from error
        self._channel.settimeout(LOOK_S)
        try:
            self._await_start(f"{mark}:start ".encode())
            self._ends_with = f"{mark}:end ".encode()
        except BaseException:
            self._channel.close()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None and self._interrupts and not isinstance(error, GuestGone | CommandTimeout):
            self._interrupt()
        if self._connection.is_open:
            self._channel.close()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._next():
            yield piece

    def lines(self, *, limit_bytes: int = LINE_BYTES) -> Iterator[bytes]:
        """The output by lines as they come, each with its newline; a line over the limit comes in pieces."""
        held = b""
        for piece in self:
            held += piece
            while (end := held.find(b"\n", 0, limit_bytes) + 1) or len(held) >= limit_bytes:
                line = held[: end or limit_bytes]
                held = held[len(line) :]
                yield line
        if held:
            yield held

    def collect(self, keep_bytes: int) -> Completed:
        """All the output that is still to come, the first `keep_bytes` of it, and the exit status."""
        kept, truncated = bytearray(), False
        for piece in self:
            room_bytes = keep_bytes - len(kept)
            truncated = truncated or len(piece) > room_bytes
            kept += piece[:room_bytes] if room_bytes > 0 else b""
        return Completed(output=bytes(kept), status=self._ended(), truncated=truncated)

    def _errors(self) -> str:
        """The beginning of what a login shell said on stderr before it ended."""
        pieces: list[bytes] = []
        while self._channel.recv_stderr_ready() and len(pieces) < 2:
            pieces.append(bytes(self._channel.recv_stderr(CHUNK_BYTES)))
        return b"".join(pieces).decode(errors="replace")

    def feed(self, data: BinaryIO) -> int | None:
        """Give the command its input, and the input's end; returns how many bytes it was.

        None when the command ended without taking all of it.
        """
        stop = threading.Event()
        try:
            return self._connection.attended(lambda: self._send(data, stop), self._deadline, self._what, stop)
        except DeadlineExceeded as error:
            raise self._timeout(str(error)) from error

    def _send(self, data: BinaryIO, stop: threading.Event) -> int | None:
        sent_bytes = 0
        while piece := data.read(CHUNK_BYTES):
            while piece and not stop.is_set():
                try:
                    taken_bytes = self._channel.send(piece)
                except TimeoutError:
                    continue
                except OSError:
                    if self._connection.is_open:
                        return None
                    raise
                if taken_bytes == 0:  # paramiko's word for an end on the other side
                    return None
                piece = piece[taken_bytes:]
                sent_bytes += taken_bytes
            if stop.is_set():
                return None
        self._channel.shutdown_write()
        return sent_bytes

    def _await_start(self, mark: bytes) -> None:
        """Read up to the line that says which process the command is; what comes after it is output."""
        said = b""
        while True:
            piece = self._next()
            said += piece
            found = re.search(rb"(?:^|\n)" + mark + rb"(\d{1,10})\n", said)
            if found is not None:
                self._pid, self._held = int(found[1]), said[found.end() :]
                return
            if not piece or len(said) > PREAMBLE_BYTES:
                raise ChannelError(
                    f"the guest's login shell did not start '{short(self._what)}'; its status is "
                    f"{self.status}, and it said {said[-300:]!r} {self._errors()[-300:]}"
                )

    def _next(self) -> bytes:
        """The next piece of output; empty when the command has ended, whose status is known then."""
        while self.status is None:
            piece = self._before_end()
            if piece or self.status is not None:
                return piece
            received = self._receive()
            if not received:
                # No word of the end: the command's own shell did not come to say it.
                self._await_status()
                piece, self._held = self._held, b""
                return piece
            self._held += received
        return b""

    def _before_end(self) -> bytes:
        """What is output for certain of what has been received; sets the status where that is there."""
        if not self._ends_with:
            piece, self._held = self._held, b""
            return piece
        output, end, rest = self._held.partition(self._ends_with)
        status, newline, _ = rest.partition(b"\n")
        if newline or len(rest) > STATUS_BYTES:
            if not re.fullmatch(rb"\d{1,3}", status):
                raise ChannelError(f"'{short(self._what)}' ended with {status[:40]!r} for a status")
            self.status = int(status)
            return output
        kept = end + rest if end else _possible_start(output, self._ends_with)
        self._held = kept
        return output if end else output[: len(output) - len(kept)]

    def _receive(self) -> bytes:
        """What comes next on the channel; empty at its end."""
        while True:
            if self._deadline.expired():
                raise self._timeout(f"no end in time of '{short(self._what)}' by SSH")
            if time.monotonic() - self._looked_s > LOOK_S:
                self._connection.look()
                self._looked_s = time.monotonic()
            with contextlib.suppress(TimeoutError):
                return bytes(self._channel.recv(CHUNK_BYTES))

    def _await_status(self) -> None:
        """At the channel's end, whose status may be on its way."""

        def there() -> bool:
            self._connection.look()
            return bool(self._channel.status_event.is_set())

        try:
            self._deadline.wait_until(there, "an exit status")
        except DeadlineExceeded:
            raise self._timeout(f"no end in time of '{short(self._what)}' by SSH") from None
        status = int(self._channel.exit_status)
        if status == -1 and not (self._channel.eof_received and self._stays_open()):
            self._connection.raise_broken(self._what, "the server hung up")
        # RFC 4254, 6.10: a shell that a signal ended has no status.
        self.status = SIGNALLED if status == -1 else status & 0xFF

    def _stays_open(self) -> bool:
        """Whether it was the command that ended: paramiko ends channels before it says that all has ended."""
        with contextlib.suppress(DeadlineExceeded):
            Deadline.after(LOOK_S).wait_until(lambda: not self._connection.is_open, "the connection's end")
        return self._connection.is_open

    def _ended(self) -> int:
        if self.status is None:
            raise ChannelError(f"'{short(self._what)}' has not ended")
        return self.status

    def _timeout(self, message: str) -> CommandTimeout:
        """The error for a command that takes too long, which has been interrupted."""
        return CommandTimeout(message, guest_answers=self._interrupts and self._interrupt())

    def _interrupt(self) -> bool:
        """Kill the command and what it started; says whether the guest was there to do so."""
        if not self._connection.is_open:
            return False
        body = f"exec 2>/dev/null; {KILL.format(pid=self._pid, grace_ds=GRACE_DS)}" if self._pid else "true"
        try:
            with Stream(
                self._connection, body, "an interrupt", Deadline.after(INTERRUPT_S),
                interrupts=False,
            ) as killer:  # fmt: skip
                return killer.collect(0).ok
        except ChannelError:
            return False


def _possible_start(data: bytes, mark: bytes) -> bytes:
    """The end of `data` that may turn out to begin `mark`."""
    return next((mark[:size] for size in range(len(mark) - 1, 0, -1) if data.endswith(mark[:size])), b"")
