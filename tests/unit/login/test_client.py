"""Tests of harness.login.client."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from harness.channel.ssh_key import HostKey, KeyPair, Login
from harness.login import ClientFiles
from harness.qemu.forward import Forward

FORWARD = Forward(host="127.0.0.1", host_port=40123, guest_port=22)


def _login() -> Login:
    host_key = HostKey.parse(KeyPair.generate().public)
    return Login(user="root", key=KeyPair.generate(), host_key=host_key)


def test_the_command_pins_and_identifies() -> None:
    """The line names port, key and the one host key that is accepted, and is one word after another."""
    with ClientFiles(FORWARD, _login()) as files:
        words = shlex.split(files.command)
    assert words[0] == "ssh"
    assert words[-1] == "root@127.0.0.1"
    assert words[words.index("-p") + 1] == "40123"
    assert words[words.index("-i") + 1] == files.key
    assert f"UserKnownHostsFile={files.known_hosts}" in words
    assert "StrictHostKeyChecking=yes" in words
    assert "IdentitiesOnly=yes" in words


def test_the_files_are_private_and_leave_nothing() -> None:
    """Both are what they should be, for their owner only, and gone afterwards."""
    login = _login()
    with ClientFiles(FORWARD, login) as files:
        key, known = Path(files.key), Path(files.known_hosts)
        assert key.read_text() == login.key.private
        assert known.read_text() == f"[127.0.0.1]:40123 {login.host_key}\n"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not key.exists()
    assert not known.exists()
