"""`granule boot --ssh`: the guest kept for whoever logs in."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator

import click
from rich.console import Console

from harness.deadline import Deadline
from harness.errors import GuestGone
from harness.login import ClientFiles, SshAccess
from harness.qemu.machine import Machine

__all__ = ["serve_ssh"]

ESCAPE = b"\x1d"  # Ctrl-]
LOOK_S = 0.5


def serve_ssh(machine: Machine, way_in: SshAccess, command_s: float, console: Console) -> int:
    """Print the command that logs in, on standard output, and keep the guest until it is to end; status 0.

    It ends by Ctrl-C, Ctrl-], or `poweroff` in the guest. Raises GuestGone when the guest dies, ChannelError
    when it cannot be logged in to.
    """
    deadline = Deadline.after(command_s)
    way_in.get(deadline)  # so that the line is known to work
    with ClientFiles(*way_in.place(deadline)) as files:
        click.echo(files.command)
        sys.stdout.flush()
        console.print("granule: log in with the line above; Ctrl-C or Ctrl-] ends the guest", soft_wrap=True)
        with contextlib.suppress(KeyboardInterrupt), _keys() as keyboard:
            _keep(machine, keyboard)
    return 0


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The keyboard, key by key and without echo; None where standard input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _keep(machine: Machine, keyboard: int | None) -> None:
    while True:
        ready, _, _ = select.select([] if keyboard is None else [keyboard], [], [], LOOK_S)
        if ready and keyboard is not None:
            typed = os.read(keyboard, 4096)
            if not typed or ESCAPE in typed:
                return
        try:
            machine.raise_if_gone()
        except GuestGone:
            if machine.is_off:
                return
            raise
