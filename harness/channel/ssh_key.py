"""Keys for SSH: a pair of ours for one run, and the guest's that we expect.

Values only; the connection is `harness.channel.ssh`. The only file that imports cryptography.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.errors import ChannelError

__all__ = ["HostKey", "KeyPair", "Login"]

# A line of a .pub file (sshd(8), AUTHORIZED_KEYS FILE FORMAT), of the types that servers have by default.
PUBLIC_LINE = re.compile(
    r"(?P<type>ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) (?P<base64>[A-Za-z0-9+/]{40,1600}={0,2})"
    r"(?: [^\r\n]*)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """An ed25519 pair that lives as long as whoever holds it."""

    private: str = field(repr=False)
    """In OpenSSH's format, without a passphrase."""
    public: str
    """As a line of `authorized_keys`."""

    @classmethod
    def generate(cls) -> KeyPair:
        """A new pair."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return cls(private=private.decode(), public=public.decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """The public key by which a guest's sshd is known; `str()` is its line without a comment."""

    type: str
    base64: str

    @classmethod
    def parse(cls, line: str) -> HostKey:
        """From a line as `ssh-keygen` and `dropbearkey` print it; raises ChannelError for anything else."""
        found = PUBLIC_LINE.fullmatch(line.strip())
        if found is None:
            raise ChannelError(f"this is no SSH host key of a known type: {line.strip()[:120]!r}")
        return cls(type=found["type"], base64=found["base64"])

    def __str__(self) -> str:
        return f"{self.type} {self.base64}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What it takes to log in, and to know that it is the guest that answers."""

    user: str
    key: KeyPair
    host_key: HostKey
