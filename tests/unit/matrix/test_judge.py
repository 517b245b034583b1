"""What a guest's own init says of why it gave up, as part of the reason for which the guest ended."""

from __future__ import annotations

from harness.matrix.judge import with_last_words


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
