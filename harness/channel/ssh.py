"""A shell in a guest by SSH: commands side by side, files both ways, output as it comes.

It is a second way in and not the witness: whoever uses it pins the host key that the guest named on its
serial line, and asks that line when this one is silent. The only file that imports paramiko.

paramiko's own calls wait without end, or with a time-out of their own; each is made in a thread here and
attended by the caller's, which asks after the guest and keeps to the deadline.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shlex
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TypeVar

import paramiko

from harness.channel.command import Completed, short
from harness.channel.ssh_key import Login
from harness.channel.ssh_stream import LOOK_S, Stream
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, WrongHostKey

__all__ = ["Ssh"]

T = TypeVar("T")

SMALL_BYTES = 1 << 16
# RFC 4253, 6.1: 35000 bytes have to be taken, and paramiko asks for 32768 a packet.
PACKET_LIMIT_BYTES = 256 << 10
SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # RFC 8332
"""What a server signs with, where that is not named as its key is."""
ENDING_S = 1.0
LONG_S = 86400.0  # paramiko's timers take no infinity

# What it has to say is in the errors that it raises; without a handler Python prints it besides.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _Packets(paramiko.Packetizer):  # type: ignore[misc]
    """paramiko's reader, which would take whatever length a server names, with a bound."""

    _greeting_bytes = 0

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > PACKET_LIMIT_BYTES:
            raise paramiko.SSHException(f"the server announced a packet of {n} bytes")
        return bytes(super().read_all(n, check_rekey))

    def _read_timeout(self, timeout: float) -> bytes:
        data = bytes(super()._read_timeout(timeout))
        self._greeting_bytes += len(data)
        if self._greeting_bytes > PACKET_LIMIT_BYTES:
            raise paramiko.SSHException("the server's greeting does not end")
        return data


class Ssh:
    """A connection to a guest's sshd, logged in; a context manager, for use from several threads.

    Arguments: `sock`, connected to it, ours from then on; `raise_if_gone`, asked while waiting: it raises
    GuestGone when the guest is beyond answering; `last_words`, what its console said last, for errors. Raises
    WrongHostKey when the server has another key than `login` expects, ChannelError when it does not let us
    in, DeadlineExceeded, GuestGone.
    """

    def __init__(
        self,
        sock: socket.socket,
        login: Login,
        deadline: Deadline,
        *,
        raise_if_gone: Callable[[], None],
        last_words: Callable[[], str],
    ) -> None:
        self.login = login
        self._raise_if_gone = raise_if_gone
        self._last_words = last_words
        self._transport = paramiko.Transport(sock, packetizer_class=_Packets)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._log_in(deadline)
            on_failure.pop_all()

    def __enter__(self) -> Ssh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; commands that run in the guest are left to themselves."""
        self._transport.close()
        self._transport.sock.close()  # which close() leaves open when the other side hung up first
        if self._transport.is_alive():
            self._transport.join(ENDING_S)

    @property
    def is_open(self) -> bool:
        """False once it was closed or has broken."""
        return bool(self._transport.is_active())

    def run(self, script: str, deadline: Deadline, *, keep_bytes: int = 1 << 20) -> Completed:
        """Run `script` with `sh` in the guest and return its output and exit status.

        Keeps the first `keep_bytes` of output; the status is 255 where a signal ended the script's shell.
        Raises CommandTimeout (after interrupting the command), GuestGone, or ChannelError when the connection
        breaks.
        """
        with self.stream(script, deadline) as stream:
            return stream.collect(keep_bytes)

    def stream(self, script: str, deadline: Deadline) -> Stream:
        """Start `script` as `run` does, and give its output as it comes; leaving the Stream ends it."""
        # The script goes by its input: servers bound the length of a command (dropbear 9000 bytes).
        body = 'granule_script=$(cat); exec </dev/null; eval "unset granule_script\n$granule_script"'
        stream = self._start(body, script, deadline)
        with contextlib.ExitStack() as on_failure:
            on_failure.push(stream)
            stream.feed(io.BytesIO(script.encode()))
            on_failure.pop_all()
        return stream

    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        """Copy a file of the host to the absolute path `target` in the guest, keeping its mode."""
        mode = format(source.stat().st_mode & 0o777, "o")
        name = shlex.quote(target)
        with (
            source.open("rb") as data,
            self._start(f"cat >{name} && chmod {mode} {name}", f"put {target}", deadline) as stream,
        ):
            sent_bytes = stream.feed(data)
            done = stream.collect(SMALL_BYTES)
        if not done.ok or sent_bytes is None:
            raise ChannelError(f"could not write {target} in the guest: {_said(done.text, done.status)}")

    def get(self, source: str, target: Path, deadline: Deadline, *, limit_bytes: int = 1 << 30) -> None:
        """Copy a file of the guest to the host: to `target` as a whole, or not at all.

        Raises ChannelError when the guest cannot read it or it has more than `limit_bytes`.
        """
        partial = target.with_name(f".{target.name[:200]}.partial")
        try:
            with partial.open("wb") as out:
                self._receive(source, out, deadline, limit_bytes)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _receive(self, source: str, out: io.BufferedWriter, deadline: Deadline, limit_bytes: int) -> None:
        last = b""
        with self._start(f"cat <{shlex.quote(source)}", f"get {source}", deadline) as stream:
            for chunk in stream:
                if out.tell() + len(chunk) > limit_bytes:
                    raise ChannelError(f"{source} in the guest has more than {limit_bytes} bytes")
                out.write(chunk)
                last = (last + chunk)[-300:]
        if stream.status != 0:  # the reason is what came last
            said = _said(last.decode(errors="replace"), stream.status)
            raise ChannelError(f"could not read {source} in the guest: {said}")

    def _log_in(self, deadline: Deadline) -> None:
        transport, expected = self._transport, self.login.host_key
        left_s = min(deadline.left_s() + ENDING_S, LONG_S)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = left_s
        try:
            # So that a server with keys of several types shows the one that is expected.
            options = transport.get_security_options()
            options.key_types = SIGNATURES.get(expected.type, (expected.type,))
        except ValueError as error:
            raise ChannelError(f"host keys of type {expected.type} cannot be checked here") from error
        try:
            self.attended(transport.start_client, deadline, "the greeting")
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise WrongHostKey(f"who answers by SSH has no key of type {expected.type}: {error}") from error
        shown = transport.get_remote_server_key()
        if (shown.get_name(), shown.get_base64()) != (expected.type, expected.base64):
            raise WrongHostKey(
                f"who answers by SSH has the host key {shown.get_name()} {shown.get_base64()}, and the guest "
                f"said on its serial line that its own is {expected}. Nothing was sent there. Has another "
                "program taken the port, or has the guest made itself a new key?"
            )
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(self.login.key.private))
        try:
            self.attended(lambda: transport.auth_publickey(self.login.user, key), deadline, "the login")
        except paramiko.AuthenticationException as error:
            raise ChannelError(
                f"the guest's sshd does not let {self.login.user} in with our key: {error}"
            ) from error
        if not transport.is_authenticated():
            raise ChannelError(f"the guest's sshd wants more of {self.login.user} than a key")

    def _start(self, body: str, what: str, deadline: Deadline) -> Stream:
        return Stream(self, body, what, deadline)

    # What a Stream needs of its connection.

    def channel(self, command: str, deadline: Deadline, what: str) -> paramiko.Channel:
        """A channel on which `command` is being started."""

        def start() -> paramiko.Channel:
            channel = self._transport.open_session(timeout=LONG_S)
            channel.exec_command(command)
            return channel

        return self.attended(start, deadline, what)

    def attended(
        self, call: Callable[[], T], deadline: Deadline, what: str, stop: threading.Event | None = None
    ) -> T:
        """The result of a call that may wait for the guest, made in a thread of its own.

        When it does not end in time the connection is closed, unless the call ends upon `stop`. Raises what
        the call raises, ChannelError for a connection that broke, DeadlineExceeded, GuestGone.
        """
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is raised again, where it is waited for
                future.set_exception(error)

        threading.Thread(target=work, name="ssh-call", daemon=True).start()
        try:
            while not wait([future], min(LOOK_S, deadline.left_s())).done:
                self._raise_if_gone()
                if deadline.expired():
                    raise DeadlineExceeded(f"no answer in time by SSH to '{short(what)}'")
            return future.result()
        except (EOFError, OSError, paramiko.SSHException) as error:
            if isinstance(error, paramiko.AuthenticationException | paramiko.ssh_exception.IncompatiblePeer):
                raise
            self.raise_broken(what, error)
        finally:
            if stop is not None:
                stop.set()
                wait([future], 10 * LOOK_S)
            if not future.done():
                self.close()

    def look(self) -> None:
        """Raise GuestGone when the guest is beyond answering."""
        self._raise_if_gone()

    def raise_broken(self, what: str, cause: object) -> NoReturn:
        """Raise GuestGone with the machine's own reason, or ChannelError when only the connection is gone."""
        # QEMU's end closes the connection a moment before it can be reaped and tell why.
        with contextlib.suppress(DeadlineExceeded):
            Deadline.after(ENDING_S).wait_until(lambda: self._raise_if_gone() is not None, "QEMU's end")
        raise ChannelError(
            f"the SSH connection to the guest broke during '{short(what)}' "
            f"({str(cause) or type(cause).__name__}). The guest itself has not ended: its serial shell can "
            f"say what became of sshd. Its console's last lines:\n{self._last_words()}"
        )


def _said(text: str, status: int | None) -> str:
    return text.strip()[-300:] or f"status {status}"
