"""The guest's agent, compiled for this machine and spoken to over a terminal of this machine.

Its protocol is in the head of guests/programs/agent.c.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.paths import data_dir

ANSWER_S = 20.0


class Line:
    """The host's end of the agent's line."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.held = b""

    def send(self, data: bytes) -> None:
        """Write all, taking in meanwhile what the agent has to say."""
        while data:
            readable, writable, _ = select.select([self.fd], [self.fd], [], ANSWER_S)
            assert readable or writable, "the agent takes no more input"
            if readable:
                self.held += os.read(self.fd, 1 << 16)
            if writable:
                data = data[os.write(self.fd, data[:1024]) :]

    def until(self, mark: bytes) -> bytes:
        """What comes before the mark."""
        end_s = time.monotonic() + ANSWER_S
        while mark not in self.held:
            readable, _, _ = select.select([self.fd], [], [], max(0.0, end_s - time.monotonic()))
            assert readable, f"no {mark!r} in {self.held[-500:]!r}"
            self.held += os.read(self.fd, 1 << 16)
        before, _, self.held = self.held.partition(mark)
        return before

    def answer(self, nonce: str) -> tuple[bytes, int]:
        """Output and status of the request with that nonce."""
        output = self.until(f"\ngranule:{nonce} ".encode())
        return output, int(self.until(b"\n"))

    def run(self, script: str) -> tuple[bytes, int]:
        """Run a script."""
        self.send(b"N1 " + base64.b64encode(script.encode()) + b"\n")
        return self.answer("N1")


def b64(path: Path) -> str:
    """A path as requests spell it."""
    return base64.b64encode(str(path).encode()).decode()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent compiled for this machine."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc")
    program = tmp_path_factory.mktemp("agent") / "agent"
    source = data_dir("guests") / "programs" / "agent.c"
    flags = ("-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program


@pytest.fixture
def line(agent: Path) -> Iterator[Line]:
    """A running agent, past its greeting."""
    host, guest = pty.openpty()
    tty.setraw(guest)
    process = subprocess.Popen([agent, os.ttyname(guest)], stdin=subprocess.DEVNULL)
    try:
        line = Line(host)
        line.until(b"granule: ready\n")
        yield line
    finally:
        process.kill()
        process.wait()
        os.close(host)
        os.close(guest)


def test_output_and_status(line: Line) -> None:
    """Output comes back as it was written, stdout and stderr in order, with the exit status."""
    assert line.run("echo out; echo err >&2; printf 'a\\r\\n\\001'; exit 7") == (b"out\nerr\na\r\n\x01", 7)
    assert line.run("") == (b"", 0)
    assert line.run("kill -9 $$")[1] == 137


def test_commands_have_no_terminal_and_no_input(line: Line) -> None:
    """A script's stdin is empty, and the line is not its controlling terminal."""
    assert line.run("cat; (: </dev/tty) || echo none")[0].endswith(b"none\n")


def test_a_script_longer_than_an_argument(line: Line) -> None:
    """A script may have megabytes, far more than one argument of exec."""
    output, status = line.run("# " + "x" * 1_000_000 + "\necho end")
    assert (output, status) == (b"end\n", 0)


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & wait", "trap '' INT; while :; do sleep 60; done"])
def test_interrupt(line: Line, script: str) -> None:
    """A byte 0x03 ends a command with all its children, even one that ignores SIGINT; the line goes on."""
    line.send(b"N2 " + base64.b64encode(f"echo started; {script}".encode()) + b"\n")
    line.until(b"started\n")
    start_s = time.monotonic()
    line.send(b"\x03")
    assert line.answer("N2")[1] in (130, 137)
    assert time.monotonic() - start_s < 10
    assert line.run("echo on") == (b"on\n", 0)


def test_a_late_interrupt_is_dropped(line: Line) -> None:
    """A 0x03 that comes after its command has ended does not become part of the next request."""
    line.send(b"\x03\x03")
    assert line.run("echo x") == (b"x\n", 0)


def test_put_and_get(line: Line, tmp_path: Path) -> None:
    """Files go both ways whatever their bytes, 0x03 and newlines included, with the mode asked for."""
    data = bytes(range(256)) * 1000
    target = tmp_path / "put"
    line.send(f"N3 put {b64(target)} 750 {len(data)}\n".encode() + data)
    assert line.answer("N3") == (b"", 0)
    assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o750
    line.send(f"N4 get {b64(target)}\n".encode())
    assert line.until(b"\n") == f"granule:N4:length {len(data)}".encode()
    assert line.answer("N4") == (data, 0)


def test_get_of_a_file_without_a_size(line: Line) -> None:
    """Files of /proc, whose size is 0, come whole."""
    line.send(f"N5 get {b64(Path('/proc/version'))}\n".encode())
    assert line.until(b"\n").startswith(b"granule:N5:length ")
    assert line.answer("N5") == (Path("/proc/version").read_bytes(), 0)


def test_put_that_fails_reads_its_data(line: Line, tmp_path: Path) -> None:
    """When a file cannot be stored the status says so, and its bytes are not taken for requests."""
    data = b"\nN9 ZXhpdCA1\n" * 1000
    line.send(f"N6 put {b64(tmp_path / 'none' / 'x')} 644 {len(data)}\n".encode() + data)
    output, status = line.answer("N6")
    assert status == 1
    assert b"No such file" in output
    assert line.run("echo still") == (b"still\n", 0)


def test_get_that_fails(line: Line, tmp_path: Path) -> None:
    """A file that cannot be read is a message and a status, without a length."""
    for path in (tmp_path / "none", tmp_path):
        line.send(f"N7 get {b64(path)}\n".encode())
        output, status = line.answer("N7")
        assert status == 1
        assert output.startswith(b"granule agent: ")


@pytest.mark.parametrize(
    "request_line", ["hello", "N put", "N get !!", "N put eA== 999 1", "N tty 5", "N a b c"]
)
def test_nonsense(line: Line, request_line: str) -> None:
    """A line that is no request gets a closing line with status 2, and the next one is served."""
    line.send(request_line.encode() + b"\n")
    assert line.answer("?")[1] == 2
    assert line.run("echo x") == (b"x\n", 0)


def test_script_that_is_not_base64(line: Line) -> None:
    """A script that cannot be decoded, or holds a NUL, is refused under its nonce."""
    for text in ("$$$$", "abc", base64.b64encode(b"a\0b").decode()):
        line.send(f"N8 {text}\n".encode())
        assert line.answer("N8")[1] == 2


def test_interactive_shell(line: Line) -> None:
    """`tty` gives a shell on a terminal of the size asked for, with Ctrl-C; then requests go on."""
    line.send(b"NA tty 33 99\n")
    line.send(b"stty size; echo a''b\n")
    assert b"33 99" in line.until(b"ab\r\n")
    # The one that Ctrl-C is for says that it runs: between two commands of a list the shell would take it.
    line.send(b"sh -c \"echo c''d; exec sleep 60\"\n")
    line.until(b"cd\r\n")
    line.send(b"\x03")
    line.send(b"echo e''f; exit 5\n")
    line.until(b"ef\r\n")
    assert line.answer("NA")[1] == 5
    assert line.run("echo x") == (b"x\n", 0)


def test_the_line_ends(agent: Path) -> None:
    """When the line is gone the agent ends, and does not spin."""
    host, guest = pty.openpty()
    tty.setraw(guest)
    process = subprocess.Popen([agent, os.ttyname(guest)], stderr=subprocess.DEVNULL)
    Line(host).until(b"granule: ready\n")
    os.close(host)
    os.close(guest)
    try:
        assert process.wait(ANSWER_S) == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("echo $0; exit 7", (b"sh\n", 7)),
        ("", (b"", 0)),
        ("cat; (: </dev/tty) 2>/dev/null || echo none >&2; kill -9 $$", (b"none\n", 137)),
        ("for i in 1 2; do\necho $i\ndone\n", (b"1\n2\n", 0)),
        ("ls /proc/self/fd | wc -l", (None, 0)),
        ("echo early\n# " + "x" * 100_000 + "\necho late", (b"early\nlate\n", 0)),
        ("# " + "x" * 4093 + "\necho no longer in one piece", (b"no longer in one piece\n", 0)),
    ],
    ids=["status", "empty", "killed", "lines", "descriptors", "long", "just too long"],
)
def test_a_spare_shell_is_like_any_other(line: Line, script: str, answer: tuple[bytes | None, int]) -> None:
    """The next script runs in the spare shell as it would in a new one: output, status, input, open files."""
    output, status = line.run(script)
    line.send(b"S1 spare\n")
    assert line.answer("S1") == (b"", 0)
    assert line.run(script) == (output, status)
    assert (answer[0] or output, answer[1]) == (output, status)
    assert line.run(script) == (output, status)


def test_a_spare_shell_runs_one_script(line: Line) -> None:
    """It was there before the script came, and the script after that has a shell of its own."""
    line.send(b"S1 spare\n")
    assert line.answer("S1") == (b"", 0)
    spare = line.run("echo $$")[0]
    line.send(b"S2 spare\n")
    line.answer("S2")
    line.send(b"S3 spare\n")
    assert line.answer("S3") == (b"", 0)
    assert line.run("echo $$")[0] != spare
    assert line.run("echo on")[0] == b"on\n"


def _state(pid: str) -> str:
    """A process's state, as proc(5) has it after the name in parentheses."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_a_spare_shell_that_died_is_replaced(line: Line) -> None:
    """A spare shell that was killed costs nothing but its start: the script runs in a new one."""
    agent = int(line.run("echo $PPID")[0])
    line.send(b"S1 spare\n")
    line.answer("S1")
    line.run("echo used")
    line.send(b"S2 spare\n")
    line.answer("S2")
    (spare,) = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    os.kill(int(spare), signal.SIGKILL)
    # A signal takes effect when its process next runs.
    Deadline.after(20).wait_until(lambda: _state(spare) == "Z", "the spare shell's end")
    assert line.run("echo there") == (b"there\n", 0)


def test_a_spare_shell_can_be_interrupted(line: Line) -> None:
    """0x03 ends what runs in the spare shell too, and the line goes on."""
    line.send(b"S1 spare\n")
    line.answer("S1")
    line.send(b"N2 " + base64.b64encode(b"echo started; sleep 60 & wait") + b"\n")
    line.until(b"started\n")
    line.send(b"\x03")
    assert line.answer("N2")[1] in (130, 137)
    assert line.run("echo on")[0] == b"on\n"


@pytest.mark.parametrize("words", ["", "!!!! 1 2", "QUJD 1", "QUJD x 2", "QUJD 1 1000000000", "QUJD 1 2 3"])
def test_a_fresh_request_that_is_none(line: Line, words: str) -> None:
    """Words that are no seed and time are refused before anything is done."""
    line.send(f"F1 fresh {words}\n".encode())
    assert line.answer("?")[1] == 2
    assert line.run("echo on")[0] == b"on\n"
