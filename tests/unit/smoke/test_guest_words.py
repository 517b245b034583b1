"""Tests of harness.smoke.guest_words: what is made of a guest's files, whatever is in them."""

from __future__ import annotations

import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from harness.channel.command import Completed
from harness.deadline import Deadline
from harness.smoke.guest_words import NOTE, PTDUMP, VMALLOCINFO, GuestWords, guest_view, reread
from harness.smoke.subject import Subject

TEXT = b"OSRELEASE=6.12.1\nPAGESIZE=4096\n"
NOTE_BYTES = struct.pack("<III", 11, len(TEXT), 0) + b"VMCOREINFO\0\0" + TEXT


def _subject(**config: str) -> Subject:
    return cast(Subject, SimpleNamespace(config=config, option=config.get))


class _Guest:
    """A guest whose shell answers as it is told, the same each time."""

    deadline = Deadline.after(5)
    command_s = 5.0

    def __init__(self, text: str, *, truncated: bool = False) -> None:
        self.machine = SimpleNamespace(shell=self)
        self._done = Completed(output=text.encode(), status=0, truncated=truncated)

    def run(self, script: str, deadline: Deadline, *, keep_bytes: int) -> Completed:
        """As a shell's."""
        return self._done


def test_what_came_once_is_not_taken_for_twice() -> None:
    """A second reading that fails does not pass for one that says the same as the first."""
    before = GuestWords(files={"/proc/iomem": "x", VMALLOCINFO: "areas", PTDUMP: "dump"})
    for guest in (_Guest("sh: tail: killed\n"), _Guest(f"==> {PTDUMP} <==\ndump", truncated=True)):
        after = reread(cast(Subject, guest), before)
        assert dict(after.files) == {"/proc/iomem": "x"}
        broken = guest_view(_subject(), before, after, None).broken
        assert f"{VMALLOCINFO} once only, {PTDUMP} once only" in broken["files"]


def _memory(pa: int, size_bytes: int) -> bytes | None:
    data = NOTE_BYTES.ljust(0x1024, b"\0")
    return data[:size_bytes] if pa == 0x4100_0000 else None


def test_the_note_is_read_where_the_guest_says() -> None:
    """Address and size are hexadecimal, and the note's own head says how long its text is."""
    assert GuestWords(files={NOTE: "0x0000000041000000 1024\n"}).note_of(_memory) == TEXT


@pytest.mark.parametrize(
    "said",
    [
        "",
        "0x0000000042000000 1024\n",
        "0x0000000041000000 10\n",
        "0x41000000\n",
        "0x41000000 ffffffff",
        "x y",
    ],
)
def test_a_note_that_is_not_there(said: str) -> None:
    """Nonsense, another place, a size that is too small or beyond all reason: there is no note."""
    assert GuestWords(files={NOTE: said}).note_of(_memory) is None


def test_a_guest_that_says_nothing() -> None:
    """Each oracle that is missing has its reason; what every kernel says, and this one did not, is broken."""
    words = GuestWords(files={})
    view = guest_view(_subject(), words, words, None)
    assert (view.iomem, view.vmcoreinfo, view.dumps, view.areas) == (None, None, None, None)
    assert view.absent["ptdump"] == "the kernel has no PTDUMP_DEBUGFS"
    assert set(view.absent) == {"ptdump", "vmcoreinfo", "vmallocinfo"}
    assert set(view.broken) == {"files", "iomem"}
    assert "no /proc/cmdline" in view.broken["files"]


def test_a_dump_that_should_be_there() -> None:
    """A kernel that was built with the dump and does not give it is told apart from one without."""
    words = GuestWords(files={})
    view = guest_view(_subject(PTDUMP_DEBUGFS="y"), words, words, None)
    assert view.absent["ptdump"] == f"{PTDUMP} cannot be read"
    assert "ptdump" not in view.broken
    subject = _subject(PTDUMP_DEBUGFS="y", DEBUG_FS_ALLOW_ALL="y")
    assert "PTDUMP_DEBUGFS" in guest_view(subject, words, words, None).broken["ptdump"]
    words = GuestWords(files={"/proc/cmdline": "quiet debugfs=off"})
    assert "ptdump" not in guest_view(subject, words, words, None).broken


def test_a_note_that_makes_no_sense_is_a_reason() -> None:
    """A note without what is needed says which line it lacks."""
    words = GuestWords(files={VMALLOCINFO: "nonsense", PTDUMP: "nonsense"})
    view = guest_view(_subject(), words, words, TEXT)
    assert NOTE in view.absent["vmcoreinfo"]
    words = replace(words, files={**words.files, NOTE: "0x41000000 1024\n"})
    assert "VA_BITS" in guest_view(_subject(), words, words, TEXT).broken["vmcoreinfo"]
    assert "no note is there" in guest_view(_subject(), words, words, None).broken["vmcoreinfo"]
    assert view.dumps is not None
    assert view.dumps[0].problem
