"""Running a compiler or one of binutils, with its words in the error when it fails."""

from __future__ import annotations

import subprocess

from harness.errors import InfraError

__all__ = ["run_tool"]

_LIMIT_S = 60


def run_tool(argv: tuple[str, ...], *, making: str) -> None:
    """Run it to its end; raises InfraError, naming what was being made, with what the tool said."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", check=False, timeout=_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfraError(f"{argv[0]} could not make {making}: {error}") from error
    if done.returncode != 0:
        raise InfraError(f"{argv[0]} could not make {making}: {done.stderr.strip()[-1500:]}")
