"""Compiles the programs that run inside guests (guests/programs) for arm64, statically, into the cache."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import InfraError
from harness.paths import data_dir

__all__ = ["AGENT", "BENCH", "KEXEC", "PROBE", "build_programs"]

AGENT = "granule-agent"
PROBE = "probe"
KEXEC = "kexec"
BENCH = "bench"

SOURCES = {
    AGENT: ("agent.c",),
    PROBE: ("probe/*.c",),
    KEXEC: ("kexec/*.c",),
    BENCH: ("bench/*.c", "probe/memory.c", "probe/tap.c"),
}
# A segment aligned to less than 64K cannot be mapped by a kernel with 64K pages.
FLAGS = (
    *("-static", "-O2", "-s", "-std=gnu11", "-Wall", "-Wextra", "-Werror"),
    *("-Wl,-z,max-page-size=65536", "-Wl,--build-id=none"),
)
COMPILE_S = 300


def build_programs(toolchain: Toolchain, cache: Cache) -> Path:
    """The directory in the cache with the programs of SOURCES, compiled unless they are there.

    Raises InfraError with the compiler's words when it fails.
    """
    sources = data_dir("guests") / "programs"
    digest = hashlib.sha256(repr((toolchain.cc, toolchain.version, FLAGS, SOURCES)).encode())
    for path in sorted(sources.rglob("*.[ch]")):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(sources)} {len(content)}\n".encode() + content)

    def build(directory: Path) -> None:
        for name, patterns in SOURCES.items():
            files = [path for pattern in patterns for path in sorted(sources.glob(pattern))]
            _compile(toolchain, files, directory / name)

    return cache.make("programs", digest.hexdigest()[:32], build, describe="programs for guests")


def _compile(toolchain: Toolchain, files: list[Path], target: Path) -> None:
    argv = (*toolchain.cc, *FLAGS, "-o", str(target), *map(str, files))
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", check=False, timeout=COMPILE_S
        )
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"compiling {target.name} did not end within {COMPILE_S} s") from error
    if done.returncode == 0:
        return
    said = done.stderr.strip()
    hint = ""
    if "cannot find -lc" in said or "No such file or directory" in said:
        hint = " Its C library may be missing: apt-get install libc6-dev-arm64-cross (libc6-dev on arm64)."
    raise InfraError(f"{argv[0]} could not compile {target.name} for guests:{hint} It said: {said[-1500:]}")
