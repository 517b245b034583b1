"""The compiler and binutils that make arm64 code on this machine: native on arm64, cross elsewhere."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import InfraError, ToolMissing

__all__ = ["Toolchain", "require_programs"]

_CROSS_PREFIX = "aarch64-linux-gnu-"
_KERNEL_PROGRAMS = {
    "make": "make",
    "gcc": "gcc",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
}
"""Programs that kbuild runs on the build machine, and the Debian package of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """GCC and binutils for arm64."""

    cc: tuple[str, ...]
    """The compiler as an argv prefix, without ccache."""
    prefix: str
    """CROSS_COMPILE: `aarch64-linux-gnu-`, or empty on an arm64 machine."""
    version: str
    """The first line of `cc --version`."""
    ccache: str | None = None
    """Path of ccache, where it is installed."""

    @classmethod
    def find(
        cls,
        *,
        machine: str | None = None,
        which: Callable[[str], str | None] = shutil.which,
        version_of: Callable[[str], str] | None = None,
    ) -> Toolchain:
        """Look for it on PATH; raises ToolMissing naming the Debian package that has what is absent."""
        prefix = "" if (machine or platform.machine()) == "aarch64" else _CROSS_PREFIX
        suffix = f"-{prefix.rstrip('-')}" if prefix else ""
        for tool, package in (("gcc", f"gcc{suffix}"), ("ld", f"binutils{suffix}")):
            if which(f"{prefix}{tool}") is None:
                raise ToolMissing(f"{prefix}{tool}", package=package)
        cc = f"{prefix}gcc"
        return cls(cc=(cc,), prefix=prefix, version=(version_of or _version_of)(cc), ccache=which("ccache"))

    def tool(self, name: str) -> str:
        """The name of one of binutils, such as `strip` or `nm`."""
        return f"{self.prefix}{name}"


def require_programs(which: Callable[[str], str | None] = shutil.which) -> None:
    """Raise ToolMissing for the first program that a kernel build needs and this machine lacks."""
    for program, package in _KERNEL_PROGRAMS.items():
        if which(program) is None:
            raise ToolMissing(program, package=package)


def _version_of(cc: str) -> str:
    ran = subprocess.run(
        [cc, "--version"], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    first = ran.stdout.split("\n", 1)[0].strip()
    if ran.returncode != 0 or not first:
        raise InfraError(
            f"{cc} --version failed with status {ran.returncode}: {ran.stderr.strip()[:200] or 'silently'}"
        )
    return first
