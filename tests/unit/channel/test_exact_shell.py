"""Tests of harness.channel.exact_shell: a stub of our own, whose guest asks, answers or misbehaves."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.channel.exact_shell import ExactShell
from harness.channel.gdbstub import Gdbstub
from harness.deadline import Deadline
from harness.determinism.conditions import TRAP_VA
from harness.determinism.seed import Seed
from harness.errors import ChannelError, CommandTimeout, DeadlineExceeded, GuestGone

TARGET = (
    '<target><reg name="x0" bitsize="64" regnum="0"/><reg name="x1" bitsize="64"/>'
    '<reg name="pc" bitsize="64" regnum="32"/></target>'
)
BUFFER_VA = 0x5000
X0, X1, PC = 0, 1, 32
ANSWER_S = 20.0
STOP = "T05thread:p01.01;"


@dataclass
class Guest:
    """A stub whose guest takes input by the trap's rules and answers each request with `say`."""

    room: int = 1 << 16
    say: Callable[[bytes, bytes], bytes | None] = lambda _nonce, _body: None
    """What the guest says to a request before its closing line; None says just that line."""
    ends: bool = True
    """It closes its answers."""
    stops_at: int = TRAP_VA
    silent: bool = False
    """It never stops again once it has taken a request."""
    registers: dict[int, int] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    taken: bytes = b""
    running: int = 0
    """How often it was let go on."""
    pcs: list[int] = field(default_factory=list)
    """Where it was let go on from."""
    output: int = -1

    def reply(self, body: str) -> str | None:
        """The answer to a packet; None for none yet."""
        if body.startswith("qXfer"):
            return "l" + TARGET
        if body.startswith("p"):
            return self.registers[int(body[1:], 16)].to_bytes(8, "little").hex()
        if body.startswith("P"):
            number, value = body[1:].split("=")
            self.registers[int(number, 16)] = int.from_bytes(bytes.fromhex(value), "little")
        if found := re.fullmatch("M([0-9a-f]+),([0-9a-f]+):([0-9a-f]*)", body):
            data = bytes.fromhex(found[3])
            assert len(data) == int(found[2], 16)
            self.memory |= {int(found[1], 16) + at: byte for at, byte in enumerate(data)}
        return self._go_on() if body == "c" else "OK"

    def _go_on(self) -> str | None:
        if self.running:
            self.pcs.append(self.registers[PC])
            got = bytes(self.memory[self.registers_x0 + at] for at in range(self.registers[X0]))
            self.taken += got
            if b"\n" in got:
                self._answer()
                if self.silent:
                    return None
        else:
            os.write(self.output, b"granule: ready\n")
        self.running += 1
        self.registers = {X0: BUFFER_VA, X1: self.room, PC: self.stops_at}
        return STOP

    registers_x0 = BUFFER_VA

    def _answer(self) -> None:
        line = self.taken.rpartition(b"\n")[0].rpartition(b"\n")[2]
        nonce, _, body = line.partition(b" ")
        os.write(self.output, self.say(nonce, body) or b"")
        if self.ends:
            os.write(self.output, b"\ngranule:" + nonce + b" 0\n")


def _serve(theirs: socket.socket, guest: Guest) -> None:
    buffer = b""
    with contextlib.suppress(OSError):
        while data := theirs.recv(1 << 16):
            buffer += data
            while match := re.search(rb"\$([^#]*)#..", buffer):
                buffer = buffer[match.end() :]
                answer = guest.reply(match[1].decode())
                if answer is not None:
                    theirs.sendall(f"+${answer}#00".encode())


Start = Callable[..., ExactShell]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a shell with a guest behind it, greeted."""
    with contextlib.ExitStack() as cleanup:

        def make(
            guest: Guest, *, seed: int = 7, greet: bool = True, limit_bytes: int = 1 << 20
        ) -> ExactShell:
            ours, theirs = socket.socketpair()
            thread = threading.Thread(target=_serve, args=(theirs, guest), daemon=True)
            shell = ExactShell(Gdbstub(ours), Seed(seed), lambda: None, limit_bytes=limit_bytes)
            guest.output = shell.output
            cleanup.callback(theirs.close)
            cleanup.callback(ours.close)
            cleanup.callback(thread.join, ANSWER_S)
            cleanup.callback(theirs.shutdown, socket.SHUT_RDWR)
            cleanup.callback(shell.close)
            thread.start()
            shell.go()
            if greet:
                shell.wait_ready(_deadline())
            return shell

        yield make


def _deadline() -> Deadline:
    return Deadline.after(ANSWER_S)


def _echo(_nonce: bytes, body: bytes) -> bytes:
    return base64.b64decode(body)


def test_a_command_and_its_answer(start: Start) -> None:
    """What the guest says between the request and its closing line is the output."""
    done = start(Guest(say=_echo)).run("echo hello", _deadline())
    assert (done.output, done.status, done.truncated) == (b"echo hello", 0, False)


def test_the_request_is_put_where_the_guest_asked(start: Start) -> None:
    """The bytes go to x0, their number into x0, and the guest goes on behind the trap's instruction."""
    guest = Guest()
    start(guest).run("true", _deadline())
    assert guest.pcs == [TRAP_VA + 4]
    assert guest.taken.endswith(b" " + base64.b64encode(b"true") + b"\n")


def test_requests_are_the_seeds(start: Start) -> None:
    """The same seed gives the same bytes to the guest, another seed others."""
    taken = []
    for seed in (7, 7, 8):
        guest = Guest()
        shell = start(guest, seed=seed)
        shell.run("true", _deadline())
        shell.run("true", _deadline())
        taken.append(guest.taken)
    assert taken[0] == taken[1] != taken[2]
    assert len(set(taken[0].split(b"\n"))) == 3, "each request has a nonce of its own"


def test_input_in_pieces(start: Start) -> None:
    """A request longer than the guest has room for comes in several, each when it asks again."""
    guest = Guest(room=5, say=_echo)
    done = start(guest).run("echo a long request", _deadline())
    assert done.output == b"echo a long request"
    assert len(guest.pcs) == -(-len(guest.taken) // 5)


def test_a_request_longer_than_a_packet(start: Start) -> None:
    """What QEMU's stub does not take in one packet comes in several."""
    script = "x" * 10000
    assert start(Guest(say=_echo)).run(script, _deadline()).text == script


def test_put_sends_the_file(start: Start, tmp_path: Path) -> None:
    """A file's bytes follow the request for it, newlines and all."""
    guest = Guest(say=lambda _nonce, _body: b"")
    source = tmp_path / "file"
    source.write_bytes(b"\0binary")
    start(guest).put(source, "/root/file", _deadline())
    head, _, data = guest.taken.partition(b"\n")
    assert data == b"\0binary"
    assert head.split()[1:3] == [b"put", base64.b64encode(b"/root/file")]


def test_output_is_kept_to_a_limit(start: Start) -> None:
    """Of more output than is asked for the beginning is kept, and that there was more."""
    done = start(Guest(say=lambda *_: b"0123456789")).run("true", _deadline(), keep_bytes=4)
    assert (done.output, done.truncated) == (b"0123", True)


def test_no_room(start: Start) -> None:
    """A guest that asks for input and has no room is refused, and does not make us wait."""
    with pytest.raises(ChannelError, match="no room"):
        start(Guest(room=0)).run("true", _deadline())


def test_a_stop_elsewhere(start: Start) -> None:
    """A stop at another place is not taken for the trap, and the guest is given nothing afterwards."""
    shell = start(Guest(stops_at=0xFFFF_8000_1234_0000), greet=False)
    with pytest.raises(ChannelError, match="0xffff800012340000"):
        shell.wait_ready(_deadline())
    assert not shell.at_trap
    with pytest.raises(ChannelError):
        shell.run("true", _deadline())


def test_a_flood(start: Start) -> None:
    """A guest that says more than the limit is given up."""
    shell = start(Guest(say=lambda *_: bytes(2000)), limit_bytes=1000)
    with pytest.raises(ChannelError, match="more than 1000 bytes"):
        shell.run("true", _deadline())


def test_an_answer_without_an_end(start: Start) -> None:
    """A guest that asks again before it closed its answer is told from one that did."""
    with pytest.raises(ChannelError, match="did not end 'true'"):
        start(Guest(ends=False)).run("true", _deadline())


def test_a_command_that_takes_too_long(start: Start) -> None:
    """The shell cannot be used after a time-out: the guest is somewhere, and not at the trap."""
    shell = start(Guest(silent=True))
    with pytest.raises(CommandTimeout) as error:
        shell.run("sleep 9", Deadline.after(0.1))
    assert not error.value.guest_answers
    assert not shell.at_trap
    with pytest.raises(ChannelError, match="not waiting"):
        shell.run("true", _deadline())


def test_no_greeting_in_time(start: Start) -> None:
    """Waiting for the greeting ends with the deadline, and can be gone on with."""
    shell = start(Guest(), greet=False)
    with pytest.raises(DeadlineExceeded):
        shell.wait_ready(Deadline.after(0))
    shell.wait_ready(_deadline())
    assert shell.at_trap


def test_the_stub_hangs_up(start: Start) -> None:
    """QEMU's end during a command is the guest's end."""
    ours, theirs = socket.socketpair()
    with ours, contextlib.closing(ExactShell(Gdbstub(ours), Seed(0), _gone)) as shell:
        theirs.close()
        with pytest.raises(GuestGone, match="the reason"):
            shell.wait_ready(_deadline())


def _gone() -> None:
    raise GuestGone("the reason")


def test_the_transcript_outlives_the_shell(start: Start) -> None:
    """All that was said is there after the end, to be compared with another run's."""
    shell = start(Guest(say=_echo))
    shell.run("one", _deadline())
    shell.close()
    assert shell.transcript() == b"granule: ready\none\ngranule:" + Seed(7).nonce(1).encode() + b" 0\n"


def test_given_up(start: Start) -> None:
    """A guest that the host's clock has stopped is given nothing any more."""
    shell = start(Guest())
    shell.give_up()
    with pytest.raises(ChannelError):
        shell.run("true", _deadline())


def test_what_cannot_repeat_is_refused(start: Start) -> None:
    """There is no terminal, no spare shell and no entropy of the host's."""
    shell = start(Guest())
    with pytest.raises(ChannelError, match="repeat"):
        shell.keep_spare(_deadline())
    with pytest.raises(ChannelError, match="repeat"):
        shell.renew(_deadline())
    with pytest.raises(ChannelError, match="repeat"):
        shell.interactive(rows=1, columns=1)
