"""Guests by SSH: who else can log in, what remains when the server or the guest dies, and the command for it.

The check `ssh` (tests/smoke/test_smoke.py) has logins, files and streams; tests/smoke/test_clones.py has clones.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError, CommandTimeout, GuestGone
from harness.login import ClientFiles
from harness.smoke.subject import Subject

KERNEL = "debian-16k"
COMMAND_S = 90.0
CLIENT = pytest.mark.skipif(
    shutil.which("ssh") is None, reason="there is no ssh: apt-get install openssh-client"
)


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
    assert guest.ssh.run("pgrep -f 'sleep [78]00' | wc -l", _deadline()).text == "0\n"


@CLIENT
def test_a_terminal_for_ssh(guest: Subject) -> None:
    """OpenSSH's own client logs in by the line that we print, on a terminal of the guest's."""
    with ClientFiles(*guest.way_in.place(_deadline())) as files:
        command = (*shlex.split(files.command), "-tt")
        done = subprocess.run(
            command,
            input=b"stty -echo; tty; id -un; exit 7\n",
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )
    assert b"/dev/pts/" in done.stdout, (done.stdout, done.stderr)
    assert b"root" in done.stdout
    assert done.returncode == 7


@pytest.fixture
def served() -> Iterator[subprocess.Popen[str]]:
    """`granule boot --ssh`, running, as from a script: without a terminal."""
    words = (sys.executable, "-m", "harness.entry", "boot", "--ssh", "--kernel", KERNEL)
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def _children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@CLIENT
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
