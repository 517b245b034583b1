"""Assembles the payload (guests/rig/rig.S) into a flat binary, into the cache."""

from __future__ import annotations

from pathlib import Path

from harness.build.assemble import assemble
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.paths import data_dir
from harness.rig.layout import DEFINES
from harness.rig.query import PAN_OPERATIONS

__all__ = ["build_payload"]


def build_payload(toolchain: Toolchain, cache: Cache) -> Path:
    """The payload, for `-kernel`; assembled unless it is in the cache.

    Raises InfraError with the tool's words when that fails.
    """
    numbers = DEFINES | {
        "OP_PAN_FIRST": PAN_OPERATIONS[0].value,
        "OP_PAN_LAST": PAN_OPERATIONS[-1].value,
    }
    source = data_dir("guests") / "rig" / "rig.S"
    return assemble(toolchain, cache, source, numbers, what="the rig's payload")
