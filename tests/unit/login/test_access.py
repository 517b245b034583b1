"""Tests of harness.login.access: what is opened when, and closed with what. The guest is a socket here."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.channel.command import CommandShell
from harness.channel.ssh_key import HostKey, KeyPair
from harness.deadline import Deadline
from harness.errors import ChannelError, GuestGone, UsageError
from harness.login import SshAccess, access
from harness.qemu.forward import Forward
from harness.qemu.machine import Machine
from harness.spec import Wire

HOST_KEY = HostKey.parse(KeyPair.generate().public)


class Server:
    """Says the host key, and how often it was started, with which keys."""

    user, port = "root", 22

    def __init__(self) -> None:
        self.keys: list[str] = []

    def start(self, _shell: CommandShell, public_key: str, _deadline: Deadline) -> HostKey:
        """As SshServer's."""
        self.keys.append(public_key)
        return HOST_KEY


class Connection:
    """Stands for Ssh: keeps what it was made with."""

    def __init__(self, sock: socket.socket, login: Any, _deadline: Deadline, **named: Any) -> None:
        self.sock, self.login, self.last_words = sock, login, named["last_words"]
        self.is_open = True

    def close(self) -> None:
        """As Ssh's."""
        self.is_open = False
        self.sock.close()


class Guest:
    """What SshAccess asks of a machine."""

    def __init__(self) -> None:
        self.spec = SimpleNamespace(wire=Wire())
        self.shell = self.qmp = None
        self.closing: list[Callable[[], object]] = []
        self.when_closed = self.closing.append
        self.gone = False
        console = b"".join(b"line %d\n" % number for number in range(40))
        self.transcript = SimpleNamespace(tail=lambda limit: console[-limit:])

    def raise_if_gone(self) -> None:
        """As Machine's."""
        if self.gone:
            raise GuestGone("it is gone")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket on loopback in QEMU's place."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        forward = Forward(host="127.0.0.1", host_port=listening.getsockname()[1], guest_port=22)
        monkeypatch.setattr(access, "open_forward", lambda _qmp, guest_port, _deadline: forward)
        monkeypatch.setattr(access, "Ssh", Connection)
        yield listening


def _soon() -> Deadline:
    return Deadline.after(10)


def _access(guest: Guest, server: Server) -> SshAccess:
    return SshAccess(cast(Machine, guest), server)


def test_nothing_before_it_is_wanted(port: socket.socket) -> None:
    """A way in that nobody takes starts no server and connects nowhere; the second to take it finds it."""
    guest, server = Guest(), Server()
    way_in = _access(guest, server)
    assert server.keys == []
    ssh = way_in.get(_soon())
    assert way_in.get(_soon()) is ssh
    assert server.keys == [ssh.login.key.public]
    assert ssh.login.host_key == HOST_KEY
    ssh.close()


def test_it_ends_with_the_machine(port: socket.socket) -> None:
    """The machine is told to close the connection."""
    guest = Guest()
    ssh = _access(guest, Server()).get(_soon())
    for close in guest.closing:
        close()
    assert not ssh.is_open


def test_a_broken_connection_is_made_anew(port: socket.socket) -> None:
    """After a connection has broken another is made to the same server, with the same keys."""
    server = Server()
    way_in = _access(Guest(), server)
    first = way_in.get(_soon())
    first.close()
    second = way_in.get(_soon())
    assert second is not first
    assert second.login == first.login
    assert len(server.keys) == 1
    second.close()


def test_another_host_key(port: socket.socket) -> None:
    """A connection may be asked for with another host key than the guest's; the shared one keeps it."""
    way_in = _access(Guest(), Server())
    other = HostKey.parse(KeyPair.generate().public)
    with_other = way_in.connect(_soon(), host_key=other)
    assert with_other.login.host_key == other
    ssh = way_in.get(_soon())
    assert ssh.login.host_key == HOST_KEY
    ssh.close()
    with_other.close()


def test_the_consoles_last_lines(port: socket.socket) -> None:
    """What an error of the connection shows of the console is its end, ten lines of it."""
    ssh = _access(Guest(), Server()).get(_soon())
    words = cast(Connection, ssh).last_words().splitlines()
    assert words == [f"line {number}" for number in range(30, 40)]
    ssh.close()


def test_a_machine_without_a_network(port: socket.socket) -> None:
    """It is refused before anything is put into the guest."""
    guest, server = Guest(), Server()
    guest.spec.wire = None
    with pytest.raises(UsageError, match="no network"):
        _access(guest, server).get(_soon())
    assert server.keys == []


def test_nobody_listens(port: socket.socket) -> None:
    """A port that is gone is a ChannelError; when the guest is gone, that is said instead."""
    guest = Guest()
    way_in = _access(guest, Server())
    way_in.place(_soon())
    port.close()
    with pytest.raises(ChannelError, match="does not listen"):
        way_in.get(_soon())
    guest.gone = True
    with pytest.raises(GuestGone, match="it is gone"):
        way_in.get(_soon())
