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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ToolMissing
from harness.guarded import guarded

__all__ = ["Progress", "Ran", "quiet", "run_lines"]

Progress = Callable[[int, int | None, str], None]
"""Called with steps done, steps in all (None: unknown), and what is being done."""

_KEPT_LINES = 40
_MAX_LINE_BYTES = 1 << 16


def quiet(_done: int, _total: int | None, _what: str) -> None:
    """The Progress that shows nothing."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: its exit status (negative: a signal) and its last lines."""

    status: int
    tail: tuple[str, ...]

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
) -> Ran:
    """Run `argv`, giving each line of its stdout and stderr to `on_line`, which returns False to keep it.

    Arguments: `package`, what to install when the program is absent; `env`, added to ours (None: taken
    away); `log`, a file that gets all lines. Raises ToolMissing.
    """
    for program, its_package in ((argv[0], package), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise ToolMissing(program, package=its_package)
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(log.open("ab")) if log is not None else None
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
        assert process.stdout is not None  # noqa: S101 - asked for with PIPE
        while raw := process.stdout.readline(_MAX_LINE_BYTES):
            if sink is not None:
                sink.write(raw)
            line = raw.decode("utf-8", "replace").rstrip()
            if not on_line(line) and line:
                kept.append(line)
        status = process.wait()
    return Ran(status, tuple(kept))


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, "LC_ALL": "C", **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the command's session and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
