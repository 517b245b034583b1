"""Runs the host's own tools for file systems, and tells a bad image from a host that failed them."""

from __future__ import annotations

import os
import re
import subprocess

from harness.errors import InfraError, ToolMissing

__all__ = ["failed", "raise_for_host", "run_tool", "text_of"]

TOOL_S = 60
# What the tools say (strerror(3)) when it is this host that failed them, and never of a bad image.
HOST_FAULT = re.compile(
    r"No space left on device|Disk quota exceeded|Cannot allocate memory|Memory allocation failed"
    r"|Too many open files|Input/output error|Permission denied|No such file or directory"
)


def run_tool(
    tool: str, *arguments: str, package: str = "e2fsprogs", limit_s: float = TOOL_S
) -> subprocess.CompletedProcess[bytes]:
    """Run one of the host's tools, of a package of Debian's.

    Raises ToolMissing, or InfraError where it cannot be run to its end.
    """
    # They live in sbin, which is not on an ordinary user's PATH in Debian. debugfs may start a pager.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    environment = {**os.environ, "PATH": path, "LC_ALL": "C", "DEBUGFS_PAGER": "__none__"}
    try:
        return subprocess.run(
            (tool, *arguments), capture_output=True, check=False, timeout=limit_s, env=environment,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise ToolMissing(tool, package=package) from None
    except OSError as error:
        raise InfraError(f"{tool} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"{tool} did not end within {limit_s:g} s") from error


def raise_for_host(tool: str, done: subprocess.CompletedProcess[bytes]) -> None:
    """Raise InfraError where what the tool says on stderr speaks of this host."""
    if HOST_FAULT.search(text_of(done.stderr)):
        raise failed(tool, done)


def failed(tool: str, done: subprocess.CompletedProcess[bytes]) -> InfraError:
    """For a tool that could not do its work here."""
    said = text_of(done.stderr).strip()[-300:] or "nothing on stderr"
    return InfraError(f"{tool} failed on this host with status {done.returncode} and said: {said}")


def text_of(output: bytes) -> str:
    """What a tool printed; bytes that are no text are marked."""
    return output.decode("utf-8", "replace")
