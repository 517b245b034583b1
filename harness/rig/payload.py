"""Assembles the payload (guests/rig/rig.S) into a flat binary, into the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.build.compiling import run_tool
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.paths import data_dir
from harness.rig.layout import DEFINES
from harness.rig.query import PAN_OPERATIONS

__all__ = ["build_payload"]

WHAT = "the rig's payload"
# All addresses are taken relative to pc, so that where it is linked does not matter.
FLAGS = ("-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-Ttext=0", "-Wl,-z,norelro", "-Werror")


def build_payload(toolchain: Toolchain, cache: Cache) -> Path:
    """The payload, for `-kernel`; assembled unless it is in the cache.

    Raises InfraError with the tool's words when that fails.
    """
    source = data_dir("guests") / "rig" / "rig.S"
    numbers = DEFINES | {
        "OP_PAN_FIRST": PAN_OPERATIONS[0].value,
        "OP_PAN_LAST": PAN_OPERATIONS[-1].value,
    }
    options = (*FLAGS, *(f"-D{name}={value:#x}" for name, value in numbers.items()))
    digest = hashlib.sha256(repr((toolchain.cc, toolchain.version, options)).encode() + source.read_bytes())

    def build(directory: Path) -> None:
        linked = directory / "rig.elf"
        run_tool((*toolchain.cc, *options, "-o", str(linked), str(source)), making=WHAT)
        flatten = (toolchain.tool("objcopy"), "-O", "binary", str(linked), str(directory / "rig.bin"))
        run_tool(flatten, making=WHAT)

    made = cache.make("payloads", digest.hexdigest()[:32], build, describe=WHAT)
    return made / "rig.bin"
