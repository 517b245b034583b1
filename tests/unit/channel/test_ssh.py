"""Tests of harness.channel.ssh against a server in this process.

It is at the other end of a socket pair, speaks the real protocol, and runs its commands on this host.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import paramiko
import pytest

from harness.channel import ssh_stream
from harness.channel.ssh import Ssh
from harness.channel.ssh_key import HostKey, KeyPair, Login
from harness.channel.ssh_stream import Stream
from harness.deadline import Deadline
from harness.errors import ChannelError, CommandTimeout, DeadlineExceeded, GuestGone, WrongHostKey


def private(pair: KeyPair) -> paramiko.Ed25519Key:
    """The pair as paramiko has it."""
    return paramiko.Ed25519Key.from_private_key(io.StringIO(pair.private))


@dataclass(eq=False)
class Server(paramiko.ServerInterface):  # type: ignore[misc]
    """Lets one key in and runs commands with `sh -c`.

    `leader`: as OpenSSH's server each command leads a process group; dropbear's do not. `before`: what the
    login shell's start-up files do. `late`: it says that a command has ended before it passes its output on.
    `piece_bytes`: how much of that it passes on at a time. `open_gate` cleared: it answers no request to
    open a channel.
    """

    host: KeyPair = field(default_factory=KeyPair.generate)
    client: KeyPair = field(default_factory=KeyPair.generate)
    leader: bool = True
    before: str = ""
    late: bool = False
    piece_bytes: int = 1 << 15
    open_gate: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open_gate.set()
        self._ended: list[Callable[[], object]] = []

    @property
    def login(self) -> Login:
        """What a client should be given."""
        return Login(user="root", key=self.client, host_key=HostKey.parse(self.host.public))

    def serve(self, sock: socket.socket, key: paramiko.PKey | None = None) -> None:
        """Start, in a thread."""
        self.transport = paramiko.Transport(sock)
        self.transport.add_server_key(key or private(self.host))
        self.transport.start_server(event=threading.Event(), server=self)

    def close(self) -> None:
        """Hang up, and end what runs."""
        self.open_gate.set()
        self.transport.close()
        self.transport.join(5)
        for end in self._ended:
            end()

    def get_allowed_auths(self, _user: str) -> str:
        return "publickey"

    def check_auth_publickey(self, user: str, key: paramiko.PKey) -> int:
        self.asked.append(user)
        right = key.asbytes() == private(self.client).asbytes()
        return int(paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED)

    def check_channel_request(self, _kind: str, _number: int) -> int:
        self.open_gate.wait()
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command.decode())
        words = ("sh", "-c", self.before + command.decode())
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=self.leader, cwd="/"
        )
        thread = threading.Thread(target=_carry, args=(self, process, channel), daemon=True)
        thread.start()
        self._ended += [lambda: _kill(process), lambda: thread.join(5)]
        return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # every command leads a group, by the server or by us
    process.kill()


def _carry(server: Server, process: subprocess.Popen[bytes], channel: paramiko.Channel) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr

    told = threading.Event()

    def take() -> None:
        with contextlib.suppress(OSError, EOFError):  # the command does not read all that it is given
            while data := channel.recv(1 << 15):
                stdin.write(data)
                stdin.flush()
        with contextlib.suppress(OSError):
            stdin.close()

    def give(pipe: io.BufferedReader, send: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError, EOFError):  # the client has hung up
            while data := pipe.read1(server.piece_bytes):
                send(data)
                # The first is what the client waits for to give the command its input.
                if server.late:
                    told.wait()
        pipe.close()

    threads = [
        threading.Thread(target=take, daemon=True),
        threading.Thread(target=give, args=(stdout, channel.sendall), daemon=True),
        threading.Thread(target=give, args=(stderr, channel.sendall_stderr), daemon=True),
    ]
    for thread in threads:
        thread.start()

    def end() -> None:
        for thread in threads[1:]:
            thread.join()
        with contextlib.suppress(OSError, EOFError):  # the client has hung up
            channel.shutdown_write()

    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    status = process.wait()
    # The status at once; the output's end when nothing holds it any more, which may be sooner or later.
    with contextlib.suppress(OSError, EOFError):  # the client has hung up
        if status >= 0:
            channel.send_exit_status(status)
        # Longer than a client that takes the status for the end would wait for what else there is.
        told.wait(3 * ssh_stream.LOOK_S if server.late else 0)
        told.set()
        ending.join()
        channel.close()
    threads[0].join()


Connect = Callable[..., Ssh]


def _deadline() -> Deadline:
    return Deadline.after(60)


@pytest.fixture(autouse=True)
def _interruptible() -> None:
    """In a shell's background SIGINT is ignored, and no command below such a process could be interrupted."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def gone() -> list[str]:
    """Put a reason in, and the guest is gone."""
    return []


@pytest.fixture
def connect(gone: list[str]) -> Iterator[Connect]:
    """Logs in to a server, by its own Login or another."""

    def raise_if_gone() -> None:
        if gone:
            raise GuestGone(gone[0])

    with ExitStack() as stack:

        def start(server: Server, key: paramiko.PKey | None = None, login: Login | None = None) -> Ssh:
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            server.serve(theirs, key)
            stack.callback(server.close)
            ssh = Ssh(
                ours,
                login or server.login,
                _deadline(),
                raise_if_gone=raise_if_gone,
                last_words=lambda: "[ 1.0] last words",
            )
            stack.callback(ssh.close)
            return ssh

        yield start


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """A server as OpenSSH's, or what a test asks for."""
    return Server(leader=getattr(request, "param", True))


@pytest.fixture
def ssh(connect: Connect, server: Server) -> Ssh:
    """A connection to it."""
    return connect(server)


@pytest.mark.parametrize("server", [True, False], ids=["openssh", "dropbear"], indirect=True)
def test_output_and_status(ssh: Ssh) -> None:
    """Output of both kinds comes back byte for byte and in order, with the exit status."""
    done = ssh.run("printf 'a\\r\\n\\0\\377'; echo 'it'\"'s\" >&2; exit 42", _deadline())
    assert done.output == b"a\r\n\0\xffit's\n"
    assert (done.status, done.ok, done.truncated) == (42, False, False)


def test_a_script_has_no_input_and_no_leftovers(ssh: Ssh) -> None:
    """A command that reads finds the end at once, and the script's shell has no variables of ours."""
    done = ssh.run("cat; set | grep -c granule_ || true; readlink /proc/self/fd/0", _deadline())
    assert done.text == "0\n/dev/null\n"


def test_a_long_script(ssh: Ssh, server: Server) -> None:
    """A script longer than a server takes for a command arrives all the same."""
    script = "".join(f"true {number}\n" for number in range(30000)) + "echo done"
    assert ssh.run(script, _deadline()).text == "done\n"
    assert max(map(len, server.commands)) < 1024


def test_a_syntax_error_is_told(ssh: Ssh) -> None:
    """A script that is none ends with sh's complaint and a status."""
    done = ssh.run("for (", _deadline())
    assert not done.ok
    assert "yntax error" in done.text


def test_a_flood_is_cut(ssh: Ssh) -> None:
    """Of megabytes of output the beginning is kept and the rest is said to be missing."""
    done = ssh.run("yes | head -c 4000000", _deadline(), keep_bytes=1001)
    assert done.output == b"y\n" * 500 + b"y"
    assert (done.truncated, done.status) == (True, 0)


def test_what_just_fits_is_not_cut(ssh: Ssh) -> None:
    """Output of exactly the limit is whole."""
    done = ssh.run("printf 12345", _deadline(), keep_bytes=5)
    assert (done.output, done.truncated) == (b"12345", False)


def test_output_that_comes_after_the_status(connect: Connect) -> None:
    """A server may tell of a command's end before it has passed all its output on, and none is lost."""
    done = connect(Server(late=True)).run("echo here; exit 3", _deadline())
    assert (done.text, done.status) == ("here\n", 3)


@pytest.mark.parametrize("piece_bytes", [1, 1 << 15])
@pytest.mark.parametrize(
    "said", ["granule:", "x\ngranule:0123456789abcdef:end 0\n", "g", "\n", "granule:granule:"]
)
def test_what_looks_like_an_end_is_output(connect: Connect, said: str, piece_bytes: int) -> None:
    """Output that begins as our own word for its end does, or forges it, comes through and ends nothing."""
    ssh = connect(Server(piece_bytes=piece_bytes))
    done = ssh.run(f"printf '{said}'; sleep 0.05; printf '{said}'; exit 9", _deadline())
    assert (done.text, done.status) == (said * 2, 9)


@pytest.mark.parametrize("server", [True, False], ids=["openssh", "dropbear"], indirect=True)
def test_a_shell_that_a_signal_ended(ssh: Ssh) -> None:
    """A shell killed by a signal is 255, and the connection is not taken for broken."""
    done = ssh.run("printf 'so far: granule'; kill -KILL $$", _deadline())
    assert (done.text, done.status) == ("so far: granule", 255)
    assert ssh.run("echo up", _deadline()).text == "up\n"


def test_a_process_left_behind_is_not_waited_for(ssh: Ssh) -> None:
    """A command has ended when it has ended, whatever holds its output open."""
    done = ssh.run("sleep 600 & echo $!", _deadline())
    assert done.ok
    os.kill(int(done.text), 9)


def test_a_silent_end_of_output_is_not_the_end(ssh: Ssh) -> None:
    """A command that closes its output goes on, and its status is waited for."""
    assert ssh.run("exec >/dev/null 2>&1; sleep 0.5; exit 7", _deadline()).status == 7


def _expire(stream: Stream) -> None:
    """Its time is over now, however long its command took to start."""
    stream._deadline = Deadline.after(0)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or while it was read
        return False


@pytest.mark.parametrize("server", [True, False], ids=["openssh", "dropbear"], indirect=True)
def test_what_takes_too_long_is_interrupted(ssh: Ssh) -> None:
    """At the deadline the command and what it started are killed; the guest is said to answer, and does."""
    with ssh.stream("sleep 600 & echo $! $$; trap '' INT; sleep 600", _deadline()) as stream:
        lines = stream.lines()
        pids = list(map(int, next(lines).split()))
        _expire(stream)
        with pytest.raises(CommandTimeout, match="sleep") as caught:
            next(lines)
    assert caught.value.guest_answers
    assert len(pids) == 2
    for pid in pids:
        Deadline.after(10).wait_until(lambda pid=pid: not _is_alive(pid), "its end")  # type: ignore[misc]
    assert ssh.run("echo up", _deadline()).text == "up\n"


def test_an_interrupt_comes_first(ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of a command is interrupted, so that it can end in order, before any is killed."""
    monkeypatch.setattr(ssh_stream, "GRACE_DS", 600)  # whatever else this host is doing
    monkeypatch.setattr(ssh_stream, "INTERRUPT_S", 90)
    note = tmp_path / "note"
    asked = f"(trap 'echo asked >{note}; exit' INT; echo on; while :; do sleep 0.05; done)"
    with ssh.stream(f"{asked} | (cat; sleep 600)", _deadline()) as stream:
        pieces = iter(stream)
        assert next(pieces) == b"on\n"
        _expire(stream)
        with pytest.raises(CommandTimeout):
            next(pieces)
    assert note.read_text() == "asked\n"


def test_a_server_that_no_longer_answers(ssh: Ssh, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the deadline of a command under way the guest is said not to answer."""
    monkeypatch.setattr(ssh_stream, "INTERRUPT_S", 0.5)
    with ssh.stream("echo on; exec sleep 600", _deadline()) as stream:
        pieces = iter(stream)
        assert next(pieces) == b"on\n"
        server.open_gate.clear()
        _expire(stream)
        with pytest.raises(CommandTimeout) as caught:
            next(pieces)
    assert not caught.value.guest_answers


def test_a_command_that_cannot_be_started(ssh: Ssh, server: Server) -> None:
    """A server that does not open a channel is not waited for beyond the deadline."""
    server.open_gate.clear()
    with pytest.raises(CommandTimeout) as caught:
        ssh.run("echo never", Deadline.after(0.5))
    assert not caught.value.guest_answers
    assert not ssh.is_open


def test_a_guest_that_is_gone(ssh: Ssh, gone: list[str]) -> None:
    """A guest that dies under a command is told at once, with its reason, though the connection stands."""
    with ssh.stream("echo on; exec sleep 600", _deadline()) as stream:
        pieces = iter(stream)
        next(pieces)
        gone.append("it panicked")
        with pytest.raises(GuestGone, match="it panicked"):
            next(pieces)
        gone.clear()


def test_a_broken_connection(ssh: Ssh, server: Server) -> None:
    """A server that dies while the guest lives is a ChannelError with the console's last words."""
    with ssh.stream("echo on; exec sleep 600", _deadline()) as stream:
        pieces = iter(stream)
        next(pieces)
        server.transport.close()
        with pytest.raises(
            ChannelError, match=r"(?s)broke during 'echo on.*serial shell.*last words"
        ) as caught:
            next(pieces)
    assert not isinstance(caught.value, GuestGone | DeadlineExceeded)
    assert not ssh.is_open
    with pytest.raises(ChannelError, match="broke"):
        ssh.run("true", _deadline())


def test_files_there_and_back(ssh: Ssh, tmp_path: Path) -> None:
    """A large file arrives as it was, with its mode, under a name that a shell would take apart, and back."""
    content = os.urandom(3 << 20) + b"the end"
    source, target, back = tmp_path / "source", tmp_path / "it's $(here)", tmp_path / "back"
    source.write_bytes(content)
    source.chmod(0o750)
    ssh.put(source, str(target), _deadline())
    assert target.read_bytes() == content
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    ssh.get(str(target), back, _deadline())
    assert back.read_bytes() == content


def test_an_empty_file(ssh: Ssh, tmp_path: Path) -> None:
    """A file without a byte is a file."""
    (tmp_path / "source").touch()
    ssh.put(tmp_path / "source", str(tmp_path / "target"), _deadline())
    ssh.get(str(tmp_path / "target"), tmp_path / "back", _deadline())
    assert (tmp_path / "back").read_bytes() == b""


@pytest.mark.parametrize("size_bytes", [10, 4 << 20])
def test_what_cannot_be_put(ssh: Ssh, tmp_path: Path, size_bytes: int) -> None:
    """A file that the guest cannot write is an error with its reason, however much was to be sent."""
    (tmp_path / "source").write_bytes(bytes(size_bytes))
    with pytest.raises(ChannelError, match=r"could not write /no/such/place.*(?i:no such|nonexistent)"):
        ssh.put(tmp_path / "source", "/no/such/place", _deadline())
    assert ssh.run("echo up", _deadline()).text == "up\n"


def test_a_put_that_is_not_taken(ssh: Ssh, tmp_path: Path) -> None:
    """Nobody reads what is sent: the deadline ends it, and the guest is there."""
    (tmp_path / "source").write_bytes(bytes(16 << 20))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CommandTimeout) as caught:
        ssh.put(tmp_path / "source", str(tmp_path / "fifo"), Deadline.after(1.5))
    assert caught.value.guest_answers
    assert ssh.run("echo up", _deadline()).text == "up\n"


def test_what_cannot_be_got(ssh: Ssh, tmp_path: Path) -> None:
    """A file that is not there is an error with the guest's reason; what lay at the target stays."""
    target = tmp_path / "target"
    target.write_bytes(b"before")
    with pytest.raises(ChannelError, match=r"could not read /no/such/file.*(?i:no such|nonexistent)"):
        ssh.get("/no/such/file", target, _deadline())
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_too_much_is_not_got(ssh: Ssh, tmp_path: Path) -> None:
    """A file without an end is given up at the limit, and leaves nothing."""
    with pytest.raises(ChannelError, match="more than 100000 bytes"):
        ssh.get("/dev/zero", tmp_path / "target", _deadline(), limit_bytes=100000)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_comes_as_it_is_printed(ssh: Ssh, tmp_path: Path) -> None:
    """A line is had while the command still runs: it waits for what we do upon it."""
    go_on = tmp_path / "go-on"
    script = f"echo first; until [ -e {go_on} ]; do sleep 0.01; done; printf second; exit 5"
    seen = []
    with ssh.stream(script, _deadline()) as stream:
        for line in stream.lines():
            assert stream.status is None or line == b"second"
            go_on.touch()
            seen.append(line)
    assert (seen, stream.status) == ([b"first\n", b"second"], 5)


def test_lines_are_bounded(ssh: Ssh) -> None:
    """Only a newline ends a line, and one that is too long comes in pieces."""
    with ssh.stream("printf 'a\\rb\\n\\n1234567\\nxy'", _deadline()) as stream:
        assert list(stream.lines(limit_bytes=4)) == [b"a\rb\n", b"\n", b"1234", b"567\n", b"xy"]


@pytest.mark.parametrize("server", [True, False], ids=["openssh", "dropbear"], indirect=True)
def test_leaving_a_stream_ends_its_command(ssh: Ssh) -> None:
    """A stream that is not read to its end leaves no process behind."""
    with ssh.stream("echo $$; exec sleep 600", _deadline()) as stream:
        pid = int(next(stream.lines()))
        assert _is_alive(pid)
    Deadline.after(10).wait_until(lambda: not _is_alive(pid), "its end")


def test_commands_side_by_side(ssh: Ssh) -> None:
    """Several threads may use one connection at a time."""
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: said.append(ssh.run(f"sleep 0.1; echo {n}", _deadline()).text))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["0\n", "1\n", "2\n", "3\n"]


def test_another_client_key(connect: Connect, server: Server) -> None:
    """A key that the guest does not know is refused, and the error names the user."""
    with pytest.raises(ChannelError, match="does not let root in with our key"):
        connect(server, login=replace(server.login, key=KeyPair.generate()))
    assert server.asked == ["root"] * len(server.asked) != []


def test_another_host_key(connect: Connect, server: Server) -> None:
    """A server with another key than the guest's is refused before it is told who wants to log in."""
    other = KeyPair.generate()
    with pytest.raises(WrongHostKey, match="Nothing was sent there") as caught:
        connect(server, login=replace(server.login, host_key=HostKey.parse(other.public)))
    assert other.public in str(caught.value)
    assert server.host.public in str(caught.value)
    assert server.asked == []


def test_a_host_key_of_another_type(connect: Connect, server: Server) -> None:
    """A server that has no key of the expected type is not the guest either."""
    with pytest.raises(WrongHostKey, match="no key of type ssh-ed25519"):
        connect(server, key=paramiko.ECDSAKey.generate())
    assert server.asked == []


def test_a_host_key_that_is_not_ed25519(connect: Connect, server: Server) -> None:
    """The expected key may be of another type that servers have."""
    for key in (paramiko.ECDSAKey.generate(), paramiko.RSAKey.generate(2048)):
        expected = HostKey.parse(f"{key.get_name()} {key.get_base64()}")
        with connect(server, key=key, login=replace(server.login, host_key=expected)) as ssh:
            assert ssh.run("echo in", _deadline()).text == "in\n"


def test_a_login_shell_that_talks(connect: Connect) -> None:
    """What a user's start-up files print is not the command's output."""
    ssh = connect(Server(before="echo 'Welcome! granule:0123456789abcdef 1'; echo oops >&2; "))
    assert ssh.run("echo mine", _deadline()).text == "mine\n"


def test_a_login_shell_that_refuses(connect: Connect) -> None:
    """A login shell that ends without running anything is told with what it said."""
    ssh = connect(Server(before="echo 'This account is not available.' >&2; exit 1; "))
    with pytest.raises(ChannelError, match=r"did not start 'true'.*status is 1.*not available"):
        ssh.run("true", _deadline())


def test_a_login_shell_that_floods(connect: Connect) -> None:
    """A login shell that prints without end is given up."""
    ssh = connect(Server(before="yes; "))
    with pytest.raises(ChannelError, match="did not start"):
        ssh.run("true", _deadline())


ENDLESS = b"x" * (1 << 20)
LARGE_PACKET = b"SSH-2.0-granule\r\n" + struct.pack(">IB", 0x7FFFFFFC, 4) + bytes(1 << 20)


@pytest.mark.parametrize(
    ("said", "why"),
    [(ENDLESS, "greeting does not end"), (LARGE_PACKET, "packet of 21474"), (b"HTTP/1.1 200\r\n" * 99, "")],
    ids=["greeting", "packet", "lines"],
)
def test_a_server_that_is_none(server: Server, said: bytes, why: str) -> None:
    """Whatever a guest's port says, what is read of it is bounded, and it is a ChannelError."""
    ours, theirs = socket.socketpair()

    def talk() -> None:
        with theirs, contextlib.suppress(OSError):  # we have hung up
            theirs.sendall(said)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    with pytest.raises(ChannelError, match=rf"(?s)broke during 'the greeting'.*{re.escape(why)}"):
        Ssh(ours, server.login, _deadline(), raise_if_gone=lambda: None, last_words=lambda: "")
    thread.join(10)
    assert ours.fileno() == -1


def test_a_server_that_stays_silent(server: Server) -> None:
    """A connection on which nothing comes is given up at the deadline, and closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(DeadlineExceeded, match="the greeting"):
            Ssh(ours, server.login, Deadline.after(0.5), raise_if_gone=lambda: None, last_words=lambda: "")
        assert ours.fileno() == -1


def test_a_guest_that_dies_under_the_login(server: Server) -> None:
    """Who waits for a login hears of the guest's end, and not of a connection."""
    ours, theirs = socket.socketpair()

    def raise_if_gone() -> None:
        raise GuestGone("it rebooted")

    with theirs, pytest.raises(GuestGone, match="it rebooted"):
        Ssh(ours, server.login, _deadline(), raise_if_gone=raise_if_gone, last_words=lambda: "")
