"""Compiles the selector (guests/selector), the first bytes of a combined Image, into the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.build.compiling import run_tool
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.paths import data_dir

__all__ = ["build_selector", "selector_digest"]

_SOURCES = ("head.S", "main.c", "choose.c", "console.c", "crc32.c", "fdt.c", "lz4.c", "table.c")
# The MMU is off: memory is Device (Arm ARM D8.2.12), where an access must be aligned, and FP may be trapped.
_FLAGS = (
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fpie", "-fvisibility=hidden", "-mstrict-align", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    # Loops that copy would become calls of memcpy, which is not there.
    "-fno-tree-loop-distribute-patterns",
    *("-nostdlib", "-static", "-no-pie"),
    "-Wl,--build-id=none,-z,noexecstack,--fatal-warnings,--emit-relocs",
)


def selector_digest() -> str:
    """Of the sources and of how they are compiled, in hex; not of the compiler."""
    directory = data_dir("guests") / "selector"
    digest = hashlib.sha256(repr((_SOURCES, _FLAGS)).encode())
    for path in sorted(directory.iterdir()):
        if path.suffix in (".c", ".h", ".S", ".ld"):
            content = path.read_bytes()
            digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def build_selector(toolchain: Toolchain, cache: Cache) -> Path:
    """The directory in the cache with `selector.bin`, flat, and `selector.elf`; compiled unless it is there.

    Raises InfraError with the compiler's words when it fails.
    """
    directory = data_dir("guests") / "selector"
    key = hashlib.sha256(f"{selector_digest()} {toolchain.cc} {toolchain.version}".encode()).hexdigest()[:32]

    def build(into: Path) -> None:
        linked = into / "selector.elf"
        sources = [str(directory / name) for name in _SOURCES]
        script = f"-Wl,-T,{directory / 'selector.ld'}"
        run_tool((*toolchain.cc, *_FLAGS, script, "-o", str(linked), *sources), making="the selector")
        flatten = (toolchain.tool("objcopy"), "-O", "binary", str(linked), str(into / "selector.bin"))
        run_tool(flatten, making="the selector")

    return cache.make("payloads", key, build, describe="the selector of combined Images")
