"""What is said of a guest that ended: why its init gave up, and where its kernel was."""

from __future__ import annotations

import pytest

from harness.linux.klog import EventKind, LogEvent, Oops
from harness.linux.source_lines import SourceLines
from harness.matrix.judge import places_of, with_last_words


def test_why_init_gave_up() -> None:
    """The last thing that init said of it follows the reason, made harmless."""
    log = b"granule: init\r\ngranule: no root: LABEL=a was not found\x1b[2J\r\ngranule: block devices: \r\n"
    seen = with_last_words("the guest ended by itself", log)
    assert seen.startswith("the guest ended by itself; its init said: no root: LABEL=a was not found")
    assert "\x1b" not in seen


def test_a_guest_that_said_nothing_of_it() -> None:
    """Other lines, and others' lines, are no reason."""
    log = b"granule: init\r\n[    1.0] granule: no rootkit\r\n"
    assert with_last_words("it ended", log) == "it ended"


def test_places_of_an_oops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place is told once with file and line, and none where there is no vmlinux or it does not tell."""
    oopses = [
        LogEvent(kind=EventKind.OOPS, line="x", oops=Oops(what="x", pc=place))
        for place in ("f+0x4/0x8", "f+0x4/0x8", "g+0x0/0x8", "")
    ]
    monkeypatch.setattr(SourceLines, "find", lambda _self, place: "mm/f.c:7" if place[0] == "f" else "")
    assert places_of(tuple(oopses), "vmlinux") == ("f+0x4/0x8 is at mm/f.c:7",)
    assert places_of(tuple(oopses), "") == ()
