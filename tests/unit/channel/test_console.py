"""Tests of harness.channel.console."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.channel.console import Console
from harness.deadline import Deadline

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


BANNER = b"[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x414fd0c1]\n"
PANIC = (
    b"[    9.000000] Kernel panic - not syncing: sysrq triggered crash\n[    9.100000] Call trace:\n"
    b"[    9.100000]  dump_backtrace+0x94/0xec\n"
)
OOPS = b"[    9.200000] Internal error: Oops: 0000000096000047 [#1] SMP\n"


@contextmanager
def _console(before: bytes = BANNER) -> Iterator[Callable[[bytes], Console]]:
    """A console, fed by the function that it comes as; all is read when that returns."""
    ours, theirs = socket.socketpair()
    console = Console(ours, before)

    def say(data: bytes) -> Console:
        length = len(console.transcript.content()) + len(data)
        theirs.sendall(data)
        Deadline.after(10).wait_until(lambda: len(console.transcript.content()) >= length, "the console")
        return console

    with theirs:
        yield say
    console.close()


def test_a_kernel_that_is_expected() -> None:
    """The kernel that another starts is no reboot, and each has its own events; the next one is a reboot."""
    with _console() as say:
        console = say(WARNING)
        console.expect_kernel()
        say(BANNER + b"granule: init\n" + WARNING)
        assert console.fatal_event() is None
        fatal = say(BANNER).fatal_event()
        assert fatal is not None
        first, second = console.events_by_kernel
        assert [event.kind.value for event in first] == ["warning"]
        assert [event.kind.value for event in second] == ["init", "warning", "reboot"]


def test_a_panic_that_is_expected() -> None:
    """The panic of a kernel that starts another is no end, neither while it is told nor afterwards."""
    with _console() as say:
        console = say(b"")
        console.expect_kernel(panic=True)
        say(PANIC)
        assert not console.fatal_pending()
        say(BANNER)
        assert console.fatal_event() is None
        assert [event.kind.value for event in console.events_by_kernel[0]] == ["panic"]
        # What the next kernel says is as fatal as ever.
        say(PANIC)
        assert console.fatal_pending()
        say(b"[    9.300000] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\n")
        assert console.fatal_event() is not None


def test_a_panic_without_a_next_kernel() -> None:
    """A panic that was to start another kernel and says that it has ended is the guest's end."""
    with _console() as say:
        console = say(b"")
        console.expect_kernel(panic=True)
        say(PANIC)
        assert console.fatal_event() is None
        say(b"[    9.300000] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\n")
        assert console.fatal_event() is not None


def test_trouble_that_was_not_expected() -> None:
    """Whoever expects a panic has not asked for an oops, and whoever expects a kernel not for a panic."""
    for panic, trouble in ((True, OOPS), (False, PANIC)):
        with _console() as say:
            console = say(b"")
            console.expect_kernel(panic=panic)
            say(trouble)
            assert console.fatal_pending()
