"""The way in by SSH: the network under a protocol that does not forgive a byte, and terminals beside it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from harness.channel.ssh import Ssh
from harness.channel.ssh_key import HostKey, KeyPair
from harness.deadline import Deadline
from harness.errors import WrongHostKey
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject

__all__ = ["ssh"]

FILE_BYTES = 2 << 20
GUEST_FILE = "/run/granule-ssh-check"
GO_ON = "/run/granule-ssh-go-on"


def ssh(subject: Subject, evidence: Evidence) -> None:
    """SSH lets in whoever has the key and knows the guest's, and carries megabytes and streams unchanged."""
    if not subject.has_driver(evidence, "VIRTIO_NET", "virtio_net"):
        return
    login = subject.ssh
    done = login.run("getconf PAGE_SIZE; id -u", _soon(subject))
    evidence.equal("page size and user id of a login", [str(subject.page_size.bytes), "0"], done.text.split())
    _files(subject, evidence, login)
    _stream(subject, evidence, login)
    _wrong_host_key(subject, evidence)


def _soon(subject: Subject) -> Deadline:
    return subject.deadline.sooner(subject.command_s)


def _files(subject: Subject, evidence: Evidence, login: Ssh) -> None:
    """The guest's own sum is asked for on the serial line: it does not come by the way under test."""
    content = os.urandom(FILE_BYTES)
    wanted = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory(prefix="granule-ssh-") as directory:
        there, back = Path(directory) / "there", Path(directory) / "back"
        there.write_bytes(content)
        login.put(there, GUEST_FILE, _soon(subject))
        words = subject.sh(f"sha256sum {GUEST_FILE}").text.split()
        evidence.equal(f"sum of {FILE_BYTES} bytes put there", wanted, words[0] if words else "nothing")
        login.get(GUEST_FILE, back, _soon(subject), limit_bytes=FILE_BYTES)
        evidence.equal("their sum when got back", wanted, hashlib.sha256(back.read_bytes()).hexdigest())
    subject.sh(f"rm -f {GUEST_FILE}")


def _stream(subject: Subject, evidence: Evidence, login: Ssh) -> None:
    """The command's second line waits for a word that it is given only when its first one has come."""
    subject.sh(f"rm -f {GO_ON}")
    script = f"echo first; until [ -e {GO_ON} ]; do sleep 0.01; done; echo second; exit 3"
    seen: list[str] = []
    with login.stream(script, _soon(subject)) as stream:
        for line in stream.lines():
            if not seen:
                subject.sh(f"touch {GO_ON}")
            seen.append(line.decode(errors="replace").strip())
    evidence.equal("lines as they came, and the status", ["first", "second", 3], [*seen, stream.status])
    subject.sh(f"rm -f {GO_ON}")


def _wrong_host_key(subject: Subject, evidence: Evidence) -> None:
    other = HostKey.parse(KeyPair.generate().public)
    seen = "let in"
    try:
        subject.way_in.connect(_soon(subject), host_key=other).close()
    except WrongHostKey:
        seen = "refused"
    evidence.equal("a server that does not have the expected host key", "refused", seen)
