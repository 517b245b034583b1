"""Tests of harness.channel.ssh_key."""

from __future__ import annotations

import io

import paramiko
import pytest

from harness.channel.ssh_key import HostKey, KeyPair
from harness.errors import ChannelError

BASE64 = "AAAAC3NzaC1lZDI1NTE5AAAAIKBeyuCvIPqb2GqnmFkRfGhV/h2DyD0zqPQxUVSGmojG"


def test_a_pair_belongs_together() -> None:
    """The public line is that of the private key, as another reader of OpenSSH's format has it."""
    pair = KeyPair.generate()
    read = paramiko.Ed25519Key.from_private_key(io.StringIO(pair.private))
    assert pair.public == f"{read.get_name()} {read.get_base64()}"


def test_pairs_differ() -> None:
    """Each run has a key of its own."""
    assert KeyPair.generate() != KeyPair.generate()


def test_a_pair_does_not_show_its_secret() -> None:
    """What a log or a failed assertion shows of a pair is the public half."""
    pair = KeyPair.generate()
    assert pair.public in repr(pair)
    assert "PRIVATE" not in repr(pair)


@pytest.mark.parametrize("line", [f"ssh-ed25519 {BASE64}", f"ssh-ed25519 {BASE64} root@granule a comment\n"])
def test_a_host_key_line(line: str) -> None:
    """A line as dropbearkey and ssh-keygen print it, with a comment or without."""
    assert str(HostKey.parse(line)) == f"ssh-ed25519 {BASE64}"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Generating 256 bit ed25519 key, this may take a while...",
        f"ssh-dss {BASE64}",
        f"ssh-ed25519 {BASE64}\nssh-ed25519 {BASE64}",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 " + "A" * 5000,
    ],
)
def test_what_is_no_host_key(line: str) -> None:
    """Anything else that a guest may say in its place is refused, and shown shortened."""
    with pytest.raises(ChannelError, match="no SSH host key") as caught:
        HostKey.parse(line)
    assert len(str(caught.value)) < 250
