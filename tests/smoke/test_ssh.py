"""Guests by SSH: what remains when the server dies, a terminal, and the command that keeps a guest for it.

The check `ssh` has logins, files and streams; tests/smoke/test_clones.py has clones.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError, CommandTimeout, GuestGone
from harness.login import ClientFiles, Dropbear, SshAccess
from harness.matrix.run import Bench
from harness.smoke import CHECKS
from harness.smoke.subject import Subject
from harness.verdict import Verdict

COMMAND_S = 90.0
CLIENT = pytest.mark.skipif(
    shutil.which("ssh") is None, reason="there is no ssh: apt-get install openssh-client"
)
# Named so that it runs where that kernel is chosen: see conftest.py.
SERVED = pytest.mark.parametrize("served", ["debian-16k"], indirect=True)


def _deadline() -> Deadline:
    return Deadline.after(COMMAND_S)


@pytest.fixture
def guest(fresh_subject: Subject) -> Subject:
    """A guest of the test's own that has a network."""
    if fresh_subject.option("VIRTIO_NET") is None:
        pytest.skip("the kernel was built without CONFIG_VIRTIO_NET")
    return fresh_subject


def test_serial_is_the_witness(guest: Subject) -> None:
    """When sshd dies the error says so with the console's last lines, and the serial shell answers."""
    guest.ssh.run("echo 'granule: last words' >/dev/kmsg", _deadline())
    Deadline.after(30).wait_until(
        lambda: b"last words" in guest.machine.transcript.content(), "the message on the console"
    )
    with guest.ssh.stream("echo on; exec sleep 600", _deadline()) as stream:
        pieces = iter(stream)
        assert next(pieces) == b"on\n"
        # Every process of the server, by the loader that runs it.
        guest.sh("kill -9 $(pidof ld-linux-aarch64.so.1)")
        with pytest.raises(ChannelError, match=r"(?s)broke during.*granule: last words") as caught:
            next(pieces)
    assert not isinstance(caught.value, GuestGone)
    assert guest.sh("echo up").text == "up\n"
    with pytest.raises(ChannelError, match="broke during 'the greeting'"):
        _ = guest.ssh


def test_a_command_that_takes_too_long(guest: Subject) -> None:
    """At its deadline it is killed with what it started, the guest is said to answer, and does."""
    with pytest.raises(CommandTimeout) as caught:
        guest.ssh.run("sleep 700 & trap '' INT; sleep 800", Deadline.after(3))
    assert caught.value.guest_answers
    left = guest.ssh.run("ps | grep -c 'sleep [78]00'", _deadline())
    assert (left.text, left.status) == ("0\n", 1)


def test_the_guest_stays_cut_off(guest: Subject) -> None:
    """A forward into the guest opens no way out: it does not reach a port of this host's."""
    talk = "(echo hello; sleep 1) | timeout {} nc {} {}"
    # Our own peer, for comparison.
    assert guest.ssh.run(talk.format(20, "10.0.2.100", 7), _deadline()).text.startswith("hello\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert not guest.ssh.run(talk.format(4, "10.0.2.2", port), _deadline()).ok
        listening.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listening.accept()


def test_another_way_in(guest: Subject, granule_bench: Bench) -> None:
    """Whoever starts a server in a guest that has one gets in by a key of his own; the first stays."""
    first = guest.ssh
    second = SshAccess(guest.machine, Dropbear(lambda: granule_bench.guest.sshd)).get(_deadline())
    assert second.run("echo second", _deadline()).text == "second\n"
    assert first.run("echo first", _deadline()).text == "first\n"
    assert second.login.host_key != first.login.host_key


def test_the_network_check_after_a_login(guest: Subject) -> None:
    """SSH sets the network up, and leaves it as other checks can use it."""
    assert guest.ssh.run("true", _deadline()).ok
    (network,) = [check for check in CHECKS if check.name == "network"]
    result = network.result(guest)
    assert not result.findings, "\n".join(map(str, result.findings))
    assert result.verdict is Verdict.PASS


@CLIENT
def test_a_terminal_for_ssh(guest: Subject) -> None:
    """OpenSSH's own client logs in by the line that we print, on a terminal of the guest's."""
    with ClientFiles(*guest.way_in.place(_deadline())) as files:
        words = (*shlex.split(files.command), "-tt")
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            # Its input stays open: dropbear hangs up a terminal whose input ends.
            client.stdin.write(b"tty; id -un; exit 7\n")
            client.stdin.flush()
            try:
                status = client.wait(COMMAND_S)
            finally:
                client.kill()
            said = client.stdout.read()
    assert b"/dev/pts/" in said
    assert b"root" in said
    assert status == 7


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """`granule boot --ssh`, running, as from a script: without a terminal."""
    with _served(request.param, subprocess.DEVNULL) as process:
        yield process


@contextlib.contextmanager
def _served(kernel: str, stdin: int) -> Iterator[subprocess.Popen[str]]:
    program = str(Path(sys.executable).with_name("granule"))
    # A shell starts what runs in its background with Ctrl-C ignored, and that is inherited.
    words = ("env", "--default-signal=INT", program, "boot", "--ssh", "--kernel", kernel)
    with subprocess.Popen(
        words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@CLIENT
@SERVED
def test_boot_ssh(served: subprocess.Popen[str]) -> None:
    """The line that is printed logs in; Ctrl-C ends guest and command with status 0, and nothing is left."""
    assert served.stdout is not None
    line = served.stdout.readline()
    done = subprocess.run(
        (*shlex.split(line), "getconf", "PAGE_SIZE"), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    assert done.stdout == "16384\n", done.stderr
    served.send_signal(signal.SIGINT)
    _, said = served.communicate(timeout=COMMAND_S)
    assert (served.returncode, "Ctrl-C" in said) == (0, True)
    again = subprocess.run(shlex.split(line), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert again.returncode == 255


@CLIENT
@SERVED
def test_boot_ssh_ends_with_its_guest(served: subprocess.Popen[str]) -> None:
    """A guest that is powered off by whoever is logged in ends the command, with status 0."""
    assert served.stdout is not None
    line = served.stdout.readline()
    subprocess.run(
        (*shlex.split(line), "poweroff -f"), stdin=subprocess.DEVNULL, capture_output=True,
        timeout=COMMAND_S, check=False,
    )  # fmt: skip
    served.communicate(timeout=COMMAND_S)
    assert served.returncode == 0


@pytest.mark.parametrize("kernel", ["debian-16k"])
def test_boot_ssh_on_a_terminal(kernel: str) -> None:
    """On a terminal Ctrl-] ends it, with status 0, and the terminal is as it was."""
    ours, theirs = os.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with _served(kernel, theirs) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ssh -p ")
            Deadline.after(30).wait_until(lambda: termios.tcgetattr(theirs) != before, "no echo")
            os.write(ours, b"some other keys\x1d")
            process.communicate(timeout=COMMAND_S)
            assert process.returncode == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)
