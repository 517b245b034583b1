"""Long commands (apt, make) whose lines drive a progress display, and which never outlive us.

The command gets a session of its own and is killed with all its children however we leave the call, so
that Ctrl-C ends a build. When granule itself is killed, the command is killed at once; its children (make's
own makes and compilers) meet a closed pipe with their next line, and SIGPIPE ends them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ToolMissing
from harness.guarded import guarded

__all__ = ["NO_LIMITS", "Limits", "Progress", "Ran", "quiet", "run_lines"]

Progress = Callable[[int, int | None, str], None]
"""Called with steps done, steps in all (None: unknown), and what is being done."""

_KEPT_LINES = 40
_MAX_LINE_BYTES = 1 << 16
_TOO_MUCH = b"\n[granule: the rest is not kept]\n"


def quiet(_done: int, _total: int | None, _what: str) -> None:
    """The Progress that shows nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may take; beyond it the command is killed."""

    seconds: float | None = None
    output_bytes: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: its exit status (negative: a signal) and its last lines."""

    status: int
    tail: tuple[str, ...]
    ended: str = ""
    """Why it was ended before its time; empty where it ended by itself."""

    @property
    def said(self) -> str:
        """The lines that read like the reason, else the last few, as one line."""
        reasons = [line for line in self.tail if line.startswith(("E: ", "Err:", "make", "tar:", "dpkg"))]
        return "; ".join(reasons[-3:] or list(self.tail)[-3:]).rstrip(".") or "nothing"


def run_lines(
    argv: Sequence[str],
    on_line: Callable[[str], bool],
    *,
    package: str,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path | None = None,
    limits: Limits = NO_LIMITS,
) -> Ran:
    """Run `argv`, giving each line of its stdout and stderr to `on_line`, which returns False to keep it.

    Arguments: `package`, what to install when the program is absent; `env`, added to ours (None: taken
    away); `log`, a file that gets all lines; `limits`, beyond which the command is killed. Raises
    ToolMissing.
    """
    for program, its_package in ((argv[0], package), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise ToolMissing(program, package=its_package)
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    late = threading.Event()
    with contextlib.ExitStack() as stack:
        # Unbuffered: who is killed leaves a log of what had been done.
        sink = stack.enter_context(log.open("ab", buffering=0)) if log is not None else None
        # The guard's signal comes when this thread ends, and it waits here as long as the command runs.
        process = subprocess.Popen(
            guarded(argv),
            cwd=cwd,
            env=_environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(_end, process)
        if limits.seconds is not None:
            # A command that prints nothing is waited for in readline(): its end wakes us.
            timer = threading.Timer(limits.seconds, _give_up, (process, late))
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        assert process.stdout is not None  # noqa: S101 - asked for with PIPE
        said_bytes, ended = 0, ""
        while raw := process.stdout.readline(_MAX_LINE_BYTES):
            said_bytes += len(raw)
            if limits.output_bytes is not None and said_bytes > limits.output_bytes:
                ended = f"it printed over {limits.output_bytes >> 20} MiB"
                if sink is not None:
                    sink.write(_TOO_MUCH)
                _kill(process)
                break
            if sink is not None:
                sink.write(raw)
            line = raw.decode("utf-8", "replace").rstrip()
            if not on_line(line) and line:
                kept.append(line)
        status = process.wait()
        if late.is_set():
            ended = ended or f"it did not end within {limits.seconds:g} s"
    return Ran(status, tuple(kept), ended)


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, "LC_ALL": "C", **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _give_up(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    _kill(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the command's session and reap it."""
    _kill(process)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
