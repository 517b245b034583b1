"""Makes a flat arm64 binary of a source file of ours, assembly or freestanding C, into the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from harness.build.compiling import run_tool
from harness.build.toolchain import Toolchain
from harness.cache import Cache

__all__ = ["FREESTANDING_C", "assemble"]

# All addresses are taken relative to pc, so that where it is linked does not matter.
FLAGS = (
    *("-nostdlib", "-static", "-Wall", "-Wextra", "-Werror", "-Wa,--fatal-warnings"),
    *("-Wl,--build-id=none", "-Wl,-Ttext=0", "-Wl,-z,norelro", "-Wl,--fatal-warnings"),
)
FREESTANDING_C = (
    *("-O1", "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-jump-tables"),
    *("-fno-asynchronous-unwind-tables", "-mgeneral-regs-only", "-mstrict-align"),
)
"""What C needs beside, to run with the MMU off; its first function is not its entry: that is assembly."""


def assemble(
    toolchain: Toolchain, cache: Cache, source: Path, numbers: Mapping[str, int], *, what: str,
    flags: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """The binary of `source`, with `numbers` as -D options; made unless it is in the cache.

    `what` names it in messages; `flags` go to the compiler. Raises InfraError with the tool's words when
    that fails.
    """
    options = (*FLAGS, *flags, *(f"-D{name}={value:#x}" for name, value in sorted(numbers.items())))
    digest = hashlib.sha256(repr((toolchain.cc, toolchain.version, options)).encode() + source.read_bytes())
    name = f"{source.stem}.bin"

    def build(directory: Path) -> None:
        linked = directory / f"{source.stem}.elf"
        run_tool((*toolchain.cc, *options, "-o", str(linked), str(source)), making=what)
        flatten = (toolchain.tool("objcopy"), "-O", "binary", str(linked), str(directory / name))
        run_tool(flatten, making=what)

    return cache.make("payloads", digest.hexdigest()[:32], build, describe=what) / name
