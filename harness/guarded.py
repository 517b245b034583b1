"""Command lines for children that must not outlive us, even when we are killed with SIGKILL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["guarded"]

_SPAWN = Path(__file__).with_name("spawn.sh")


def guarded(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` such that the kernel kills it when the thread that starts it ends (prctl(2), PR_SET_PDEATHSIG).

    Start it from a thread that lives as long as the child should. Only the child itself is killed, not what
    it started. A program that does not exist ends with status 127, since it is not us who look for it.
    """
    return ("setpriv", "--pdeathsig", "KILL", "sh", str(_SPAWN), str(os.getpid()), *argv)
