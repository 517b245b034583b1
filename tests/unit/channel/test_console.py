"""Tests of harness.channel.console."""

from __future__ import annotations

import socket

from harness.channel.console import Console

WARNING = b"[    0.500000] WARNING: CPU: 0 PID: 1 at kernel/fork.c:1 f+0x0/0x10\r\n"


def test_a_clone_has_its_templates_log() -> None:
    """What was printed before the clone began is in its transcript and among its events, first and once."""
    ours, theirs = socket.socketpair()
    console = Console(ours, WARNING)
    assert console.transcript.content() == WARNING
    theirs.sendall(b"[    1.000000] reboot: Power down\r\n")
    theirs.close()
    console.drain(10, 10)
    console.close()
    assert console.transcript.content().startswith(WARNING + b"[    1.0")
    assert [event.kind.value for event in console.events] == ["warning", "power off"]
