"""Tests of harness.guests.volume: what a guest may give an initramfs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import pytest

from harness.errors import InfraError
from harness.guests.volume import lvm_entries


def _archive(files: Mapping[str, bytes], *, link: str = "") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return held.getvalue()


def test_program_and_libraries() -> None:
    """The program and what it is linked with keep their places, and can be run."""
    entries = lvm_entries(_archive({"usr/sbin/lvm": b"p", "lib/aarch64-linux-gnu/libc.so.6": b"l"}))
    assert [(entry.name, entry.data) for entry in entries] == [
        ("usr/sbin/lvm", b"p"),
        ("lib/aarch64-linux-gnu/libc.so.6", b"l"),
    ]
    assert all(entry.mode & 0o111 for entry in entries)


@pytest.mark.parametrize(
    "archive",
    [
        b"nonsense" * 100,
        _archive({"lib/libc.so.6": b"l"}),
        _archive({"usr/sbin/lvm": b"p", "init": b"mine"}),
        _archive({"usr/sbin/lvm": b"p", "lib/../init": b"mine"}),
        _archive({"usr/sbin/lvm": b"p"}, link="lib/libc.so.6"),
    ],
    ids=["no archive", "no program", "another place", "climbing", "a link"],
)
def test_what_no_guest_may_give(archive: bytes) -> None:
    """An archive that is none, lacks the program, or would replace something else is refused."""
    with pytest.raises(InfraError, match="lvm|LVM"):
        lvm_entries(archive)
