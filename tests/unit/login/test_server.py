"""Tests of harness.login.server with a guest that answers as it is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.channel.command import Completed
from harness.channel.ssh_key import HostKey, KeyPair
from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.login import Dropbear, OpenSsh


class Guest:
    """A serial shell that keeps what it is asked."""

    def __init__(self, output: str, status: int = 0) -> None:
        self.done = Completed(output=output.encode(), status=status)
        self.puts: list[tuple[Path, str]] = []
        self.scripts: list[str] = []

    def run(self, script: str, deadline: Deadline, *, keep_bytes: int = 1 << 20) -> Completed:
        """As CommandShell's."""
        self.scripts.append(script)
        return self.done

    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        """As CommandShell's."""
        self.puts.append((source, target))


ARCHIVE = Path("/cache/sshd.tar")


def _start(guest: Guest, public: str) -> HostKey:
    return Dropbear(lambda: ARCHIVE).start(guest, public, Deadline.after(1))


def test_the_host_key_comes_from_the_serial_line() -> None:
    """The guest is given server and key, and the last line of what it says is the host key."""
    host, client = KeyPair.generate().public, KeyPair.generate().public
    guest = Guest(f"some module complains\n{host} root@granule\n")
    assert str(_start(guest, client)) == host
    assert guest.puts == [(ARCHIVE, "/run/granule-sshd.tar")]
    assert guest.scripts[0].startswith(f"set -- '{client}'\n")
    assert "dropbearkey -t ed25519" in guest.scripts[0]


def test_the_script_is_one() -> None:
    """What the guest is given to run is a shell script."""
    guest = Guest(KeyPair.generate().public)
    _start(guest, KeyPair.generate().public)
    subprocess.run(("sh", "-n"), input=guest.scripts[0], text=True, check=True)


def test_a_server_that_does_not_start() -> None:
    """The guest's reason is told."""
    with pytest.raises(ChannelError, match="can't find device 'eth0'"):
        _start(Guest("ip: can't find device 'eth0'\n", 1), "ssh-ed25519 x")


@pytest.mark.parametrize("said", ["", "Fingerprint: SHA256:x\n"])
def test_a_guest_that_names_no_host_key(said: str) -> None:
    """Without a host key there is no login: nothing could be pinned."""
    with pytest.raises(ChannelError, match="no SSH host key"):
        _start(Guest(said), "ssh-ed25519 x")


def test_a_distributions_own_server() -> None:
    """OpenSSH is there already: it is given the key, and nothing is put there."""
    host, client = KeyPair.generate().public, KeyPair.generate().public
    guest = Guest(f"{host}\n")
    assert str(OpenSsh().start(guest, client, Deadline.after(1))) == host
    assert guest.puts == []
    assert guest.scripts[0].startswith(f"set -- '{client}'\n")
    assert "systemctl start ssh" in guest.scripts[0]


def test_a_distributions_server_that_does_not_start() -> None:
    """What the guest says of it is the error's."""
    with pytest.raises(ChannelError, match="no card"):
        OpenSsh().start(Guest("no card\n", 1), KeyPair.generate().public, Deadline.after(1))
