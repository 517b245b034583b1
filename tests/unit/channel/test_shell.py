"""Tests of harness.channel.shell against an agent of our own in a thread."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.channel.shell import Shell
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, GuestGone, GuestStayed


def _never_gone() -> None:
    """A guest that is always there."""


@pytest.fixture
def line() -> Iterator[tuple[Shell, socket.socket]]:
    """A shell, and the guest's end of its line."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Shell(ours, _never_gone), theirs


def _answer(theirs: socket.socket, reply: Callable[[bytes, bytes], bytes]) -> threading.Thread:
    """Answer one request: `reply` gets nonce and body and returns the bytes to send."""

    def serve() -> None:
        request = theirs.makefile("rb").readline()
        nonce, _, body = request.rstrip(b"\n").partition(b" ")
        theirs.sendall(reply(nonce, body))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_output_and_status(line: tuple[Shell, socket.socket]) -> None:
    """Output comes back byte for byte with the exit status, and the script arrived as it was."""
    shell, theirs = line
    seen: list[bytes] = []

    def reply(nonce: bytes, body: bytes) -> bytes:
        seen.append(base64.b64decode(body))
        return b"a\r\n\x00\xff\x1b[2J no newline at the end" + b"\ngranule:" + nonce + b" 42\n"

    _answer(theirs, reply)
    done = shell.run("printf 'x'\nexit 42", Deadline.after(10))
    assert done.output == b"a\r\n\x00\xff\x1b[2J no newline at the end"
    assert done.status == 42
    assert not done.ok
    assert seen == [b"printf 'x'\nexit 42"]


def test_a_forged_end_is_output(line: tuple[Shell, socket.socket]) -> None:
    """A command that prints something like the closing line cannot end its own answer."""
    shell, theirs = line
    forged = b"\ngranule:0123456789abcdef 0\n"
    _answer(theirs, lambda nonce, _: forged + b"\ngranule:" + nonce + b" 1\n")
    done = shell.run("forge", Deadline.after(10))
    assert done.output == forged
    assert done.status == 1


def test_a_flood_is_cut(line: tuple[Shell, socket.socket]) -> None:
    """Of megabytes of output the beginning is kept and the rest is said to be missing."""
    shell, theirs = line
    _answer(theirs, lambda nonce, _: b"y\n" * (2 << 20) + b"\ngranule:" + nonce + b" 0\n")
    done = shell.run("yes", Deadline.after(60), keep_bytes=1000)
    assert done.output == b"y\n" * 500
    assert done.truncated


def test_silence_ends_at_the_deadline(
    line: tuple[Shell, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that never ends is interrupted at its deadline, and its last output is in the error."""
    monkeypatch.setattr("harness.channel.shell.INTERRUPT_S", 0.1)
    shell, theirs = line
    _answer(theirs, lambda _nonce, _body: b"still busy")
    with pytest.raises(DeadlineExceeded, match="still busy"):
        shell.run("sleep 1000", Deadline.after(0.5))
    assert theirs.recv(10) == b"\x03"


def test_after_an_interrupt_the_shell_goes_on(line: tuple[Shell, socket.socket]) -> None:
    """The late end of an interrupted command is not taken for the end of the next."""
    shell, theirs = line

    def serve() -> None:
        stream = theirs.makefile("rb")
        nonce = stream.readline().split()[0]
        assert stream.read(1) == b"\x03"
        theirs.sendall(b"killed\ngranule:" + nonce + b" 130\n")
        nonce = stream.readline().split()[0]
        theirs.sendall(b"second\ngranule:" + nonce + b" 0\n")

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(DeadlineExceeded):
        shell.run("first", Deadline.after(0.3))
    assert shell.run("second", Deadline.after(10)).output == b"second"


def test_after_a_command_was_broken_off_the_shell_goes_on(
    line: tuple[Shell, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an exception from elsewhere, such as Ctrl-C, left unread is not the answer to the next command."""
    shell, theirs = line

    def serve() -> None:
        stream = theirs.makefile("rb")
        nonce = stream.readline().split()[0]
        theirs.sendall(b"first")
        assert stream.read(1) == b"\x03"
        theirs.sendall(b"\ngranule:" + nonce + b" 130\n")
        nonce = stream.readline().split()[0]
        theirs.sendall(b"second\ngranule:" + nonce + b" 0\n")

    threading.Thread(target=serve, daemon=True).start()
    with monkeypatch.context() as broken:
        broken.setattr(shell, "_await", _break_off)
        with pytest.raises(KeyboardInterrupt):
            shell.run("first", Deadline.after(10))
    assert shell.run("second", Deadline.after(10)).output == b"second"


def _break_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_closed_line_is_a_dead_guest(line: tuple[Shell, socket.socket]) -> None:
    """A line that closes in the middle of a command ends it at once."""
    shell, theirs = line

    def serve() -> None:
        theirs.makefile("rb").readline()
        theirs.sendall(b"half")
        theirs.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(GuestGone, match="closed its shell line during 'anything'"):
        shell.run("anything", Deadline.after(30))


def test_a_guest_that_is_gone_is_noticed_while_waiting() -> None:
    """The reason that the machine gives for the guest's end is what the waiting command raises."""

    def gone() -> None:
        raise GuestGone("the kernel said: Kernel panic - not syncing: test")

    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(GuestGone, match="Kernel panic"):
        Shell(ours, gone).run("anything", Deadline.after(30))


def test_a_status_that_is_none_is_an_error(line: tuple[Shell, socket.socket]) -> None:
    """An agent that speaks nonsense is a broken channel and not an exit status."""
    shell, theirs = line
    _answer(theirs, lambda nonce, _: b"\ngranule:" + nonce + b" zero\n")
    with pytest.raises(ChannelError, match="zero"):
        shell.run("anything", Deadline.after(10))


def test_put_sends_mode_length_and_bytes(line: tuple[Shell, socket.socket], tmp_path: Path) -> None:
    """A file goes over with its mode and its exact bytes."""
    shell, theirs = line
    source = tmp_path / "program"
    source.write_bytes(b"\x7fELF\n\x00\xff")
    source.chmod(0o755)
    seen: list[bytes] = []

    def serve() -> None:
        stream = theirs.makefile("rb")
        nonce, *words = stream.readline().split()
        seen.extend([*words, stream.read(int(words[3]))])
        theirs.sendall(b"\ngranule:" + nonce + b" 0\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    shell.put(source, "/root/program", Deadline.after(10))
    thread.join()
    assert seen == [b"put", base64.b64encode(b"/root/program"), b"755", b"7", b"\x7fELF\n\x00\xff"]


def test_a_clone_is_ready_without_a_greeting(line: tuple[Shell, socket.socket]) -> None:
    """A clone's agent gets 32 bytes that are new each time and the time of day; then the shell is ready."""
    shell, theirs = line
    seen: list[list[bytes]] = []

    def reply(nonce: bytes, body: bytes) -> bytes:
        seen.append(body.split(b" "))
        return b"\ngranule:" + nonce + b" 0\n"

    before_s = time.time()
    for _ in range(2):
        _answer(theirs, reply)
        shell.renew(Deadline.after(10))
    shell.wait_ready(Deadline.after(0))
    (verb, seed, seconds, nanoseconds), (_, other, _, _) = seen
    assert verb == b"fresh"
    assert len(base64.b64decode(seed)) == 32
    assert seed != other
    assert before_s - 1 <= int(seconds) + int(nanoseconds) / 1e9 <= time.time()


def test_a_clone_that_stays_stale_is_an_error(line: tuple[Shell, socket.socket]) -> None:
    """A guest that could not be reseeded is not used, and says why."""
    shell, theirs = line
    _answer(theirs, lambda nonce, _: b"granule agent: no device\ngranule:" + nonce + b" 1\n")
    with pytest.raises(ChannelError, match="no device"):
        shell.renew(Deadline.after(10))


def test_the_greeting_is_waited_for_once(line: tuple[Shell, socket.socket]) -> None:
    """A shell that has greeted is ready whenever it is asked again."""
    shell, theirs = line
    theirs.sendall(b"granule: ready\n")
    shell.wait_ready(Deadline.after(10))
    shell.wait_ready(Deadline.after(0))


def test_the_next_kernels_agent_greets_anew(line: tuple[Shell, socket.socket]) -> None:
    """After a script that ends its kernel the shell is ready with the next greeting, and not before."""
    shell, theirs = line
    theirs.sendall(b"granule: ready\n")
    shell.wait_ready(Deadline.after(10))
    shell.leave("kexec --exec", Deadline.after(10))
    with pytest.raises(DeadlineExceeded):
        shell.wait_ready(Deadline.after(0.1))
    request = theirs.recv(1 << 16)
    assert base64.b64decode(request.split()[1]) == b"kexec --exec"
    theirs.sendall(b"cut off in the midst\0granule: ready\n")
    shell.wait_ready(Deadline.after(10))
    _answer(theirs, lambda nonce, _: b"on\ngranule:" + nonce + b" 0\n")
    assert shell.run("true", Deadline.after(10)).output == b"on"


def test_a_kernel_that_stays(line: tuple[Shell, socket.socket]) -> None:
    """A script that was to end its kernel and came back is an error that says why; the shell goes on."""
    shell, theirs = line
    thread = _answer(theirs, lambda nonce, _: b"kexec: reboot: EBUSY\ngranule:" + nonce + b" 1\n")
    shell.leave("kexec --exec", Deadline.after(10))
    thread.join()
    with pytest.raises(GuestStayed, match="status 1, and kexec: reboot: EBUSY") as caught:
        shell.wait_ready(Deadline.after(10))
    assert caught.value.said == "kexec: reboot: EBUSY"
    _answer(theirs, lambda nonce, _: b"on\ngranule:" + nonce + b" 0\n")
    assert shell.run("true", Deadline.after(10)).output == b"on"
