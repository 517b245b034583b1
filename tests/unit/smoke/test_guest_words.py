"""Tests of harness.smoke.guest_words: what is made of a guest's files, whatever is in them."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import cast

import pytest

from harness.smoke.guest_words import NOTE, PTDUMP, VMALLOCINFO, GuestWords, guest_view
from harness.smoke.subject import Subject

TEXT = b"OSRELEASE=6.12.1\nPAGESIZE=4096\n"
NOTE_BYTES = struct.pack("<III", 11, len(TEXT), 0) + b"VMCOREINFO\0\0" + TEXT


def _subject(**config: str) -> Subject:
    return cast(Subject, SimpleNamespace(config=config, option=config.get))


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
    """Each oracle that is missing has its reason, and none of them is an error."""
    words = GuestWords(files={})
    view = guest_view(_subject(), words, words, None)
    assert (view.iomem, view.vmcoreinfo, view.dumps, view.areas) == (None, None, None, None)
    assert view.absent["ptdump"] == "the kernel has no PTDUMP_DEBUGFS"
    assert set(view.absent) == {"ptdump", "iomem", "vmcoreinfo", "vmallocinfo"}


def test_a_dump_that_should_be_there() -> None:
    """A kernel that was built with the dump and does not give it is told apart from one without."""
    words = GuestWords(files={})
    view = guest_view(_subject(PTDUMP_DEBUGFS="y"), words, words, None)
    assert view.absent["ptdump"] == f"{PTDUMP} cannot be read"


def test_a_note_that_makes_no_sense_is_a_reason() -> None:
    """A note without what is needed says which line it lacks."""
    words = GuestWords(files={VMALLOCINFO: "nonsense", PTDUMP: "nonsense"})
    view = guest_view(_subject(), words, words, TEXT)
    assert "VA_BITS" in view.absent["vmcoreinfo"]
    assert view.dumps is not None
    assert view.dumps[0].problem
